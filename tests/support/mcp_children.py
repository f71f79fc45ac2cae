"""Tables of MCP servers that run as child processes of a test, or of its workers."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic_ai.exceptions import ToolFailed

from parley_server.agents.file.definitions import McpServer
from support.guides import free_ports

TESTS = Path(__file__).parent.parent
START_S = 30


def a_table(notes: Path, *, env: dict[str, str] | None = None, **changes: Any) -> McpServer:
    """Return the table of the server of tools, over stdio."""
    variables = {"PYTHONPATH": str(TESTS), "MCP_NOTES": str(notes), **(env or {})}
    command = [sys.executable, "-m", "support.mcp_servers.tools"]
    return McpServer.model_validate(
        {"command": command, "env": variables, "start_s": START_S, **changes}
    )


def a_garbage_table(script: dict[str, Any], **changes: Any) -> McpServer:
    """Return the table of a server that answers as the script says."""
    program = TESTS / "support" / "mcp_servers" / "garbage.py"
    return McpServer.model_validate(
        {
            "command": [sys.executable, str(program)],
            "env": {"MCP_SCRIPT": json.dumps(script)},
            "start_s": START_S,
            **changes,
        }
    )


def a_tool(name: object = "look", schema: object = None, **more: object) -> dict[str, object]:
    """Return an entry of a list of tools."""
    return {"name": name, "inputSchema": {"type": "object"} if schema is None else schema, **more}


def a_text(said: str) -> dict[str, object]:
    """Return a result that is a text."""
    return {"content": [{"type": "text", "text": said}]}


def notes_in(folder: Path) -> list[dict[str, Any]]:
    """Return what `note` was called with."""
    path = folder / "notes"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def is_alive(pid: int) -> bool:
    """Return whether a process runs: one that has ended and was not waited for does not.

    It has ended when all its threads have, and only then are its files closed.
    """
    try:
        threads = [Path(thread, "stat").read_text() for thread in os.scandir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):  # one ends just now: look again
        return Path(f"/proc/{pid}").exists()
    return any(stat.rpartition(")")[2].split()[0] != "Z" for stat in threads)


class HttpTools:
    """The server of tools over streamable HTTP, which can end and come back on the same port."""

    def __init__(self, notes: Path) -> None:
        (port,) = free_ports(1)
        self._port = int(port)
        self._notes = notes
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{port}/mcp"

    def start(self) -> None:
        variables = {**os.environ, "PYTHONPATH": str(TESTS), "MCP_NOTES": str(self._notes)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.mcp_servers.tools", str(self._port)],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the MCP server did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def __enter__(self) -> "HttpTools":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(START_S):
        while not condition():
            await asyncio.sleep(0.02)


async def said_by(call: Coroutine[Any, Any, Any]) -> Any:
    """Return a call's result, or what its failure says."""
    try:
        return await call
    except ToolFailed as failed:
        return f"failed: {failed.message}"
