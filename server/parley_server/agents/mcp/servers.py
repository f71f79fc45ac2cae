"""The MCP servers of an agents file, on an event loop in a thread of their own.

One connection for each server and worker, whoever uses it: agents on the worker's loop, and users'
agents in their own threads. What a server sends is read in the thread, so that a large answer holds
up no turn, and a user's tool that blocks its thread holds up no server.
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2

from parley_server.agents.errors import BadAgent
from parley_server.agents.file.definitions import McpServer
from parley_server.agents.mcp.connection import Connection
from parley_server.agents.mcp.listing import LeftOut, Listed
from parley_server.agents.mcp.session import CLOSE_S, ServerDown
from parley_server.core.failures import raised_at

log = logging.getLogger("parley.agents")
T = TypeVar("T")

TALKATIVE_LOGGERS = ("mcp", "fastmcp", "httpx2", "httpcore2")
"""Loggers of the libraries, which write URLs and whole messages."""


class McpServers:
    """All servers of a file. Nothing is started before `open`, or the first use."""

    def __init__(self, tables: Mapping[str, McpServer]) -> None:
        """Make them.

        Raises: BadAgent: a table cannot be right; the message names it.
        """
        for name, table in tables.items():
            if (complaint := complaint_of(table)) is not None:
                raise BadAgent(f"[mcp.{name}]: {complaint}")
        _quieten()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="mcp servers", daemon=True)
        self._is_closed = False
        self._connections = {name: Connection(name, table) for name, table in tables.items()}

    def open(self) -> None:
        """Begin to reach the servers. Guarantees: waits for none of them, raises for none."""
        self._start()
        for connection in self._connections.values():
            asyncio.run_coroutine_threadsafe(_warmed(connection), self._loop)

    def for_agent(self, names: Sequence[str]) -> tuple["AgentServer", ...]:
        """Return what an agent uses of the servers that its table names, in its order.

        Raises: BadAgent: there is no such table.
        """
        for name in names:
            if name not in self._connections:
                known = ", ".join(sorted(self._connections)) or "none"
                raise BadAgent(f"there is no table [mcp.{name}]; there is: {known}")
        return tuple(AgentServer(self._connections[name], self) for name in dict.fromkeys(names))

    async def close(self) -> None:
        """End all sessions and programs. Guarantees: returns within seconds."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._thread.is_alive():
            self._loop.close()
            return
        closing = [connection.close() for connection in self._connections.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(3 * CLOSE_S):
                await self.do(_all(closing), even_closed=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, CLOSE_S)

    async def do(self, work: Coroutine[Any, Any, T], *, even_closed: bool = False) -> T:
        """Do something on the servers' loop. Cancelling it cancels the work.

        Raises: what the work raises; ServerDown: they are closed.
        """
        if self._is_closed and not even_closed:
            work.close()
            raise ServerDown
        self._start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _start(self) -> None:
        with suppress(RuntimeError):  # it has been started, perhaps by another thread
            self._thread.start()

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


@dataclass(frozen=True)
class AgentServer:
    """A server as an agent uses it, on whichever event loop that is."""

    connection: Connection
    servers: McpServers

    @property
    def name(self) -> str:
        return self.connection.name

    async def listed(self) -> Listed:
        """Return the server's tools. Raises: ServerDown: they are unknown."""
        tools = await self.servers.do(self.connection.listed())
        table = self.connection.table
        return Listed(self.name, table.prefix, table.tools, tools)

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any],
        meta: Mapping[str, Any],
        timeout_s: float | None = None,
    ) -> Any:
        """Call a tool, as `Connection.call`.

        Args:
            timeout_s: None: what the server's table says.
        """
        limit_s = timeout_s or self.connection.table.timeout_s
        return await self.servers.do(self.connection.call(tool, arguments, meta, limit_s))

    def warn(self, complaint: LeftOut) -> None:
        """Say that a tool is left out or renamed, once."""
        self.connection.warn(complaint)


async def _warmed(connection: Connection) -> None:
    try:
        await connection.listed()
    except ServerDown:
        return  # it was logged; the next use tries again
    except Exception as error:  # which whoever started this in another thread does not hear of
        details = {"server": connection.name, "place": raised_at(error)}
        log.exception("MCP server not reached", extra=details)


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*work, return_exceptions=True)


def complaint_of(table: McpServer) -> str | None:
    """Return why a table cannot be right; None: it may be."""
    if (table.command is None) == (table.url is None):
        return "set either command, a list with a program and its arguments, or url"
    if table.command is not None:
        if not table.command or not table.command[0].strip():
            return 'command needs a program, for example ["uvx", "mcp-server-time"]'
        if any("\0" in part for part in table.command):
            return "command has a NUL character"
        return "headers are for a server with url; set env" if table.headers else None
    if table.env or table.cwd is not None:
        return "env and cwd are for a server with command; set headers"
    try:
        url = httpx2.URL(table.url or "")
    except (httpx2.InvalidURL, TypeError):
        return "url is none: it must look like https://HOST/mcp"
    if url.scheme not in ("http", "https") or not url.host:
        return "url must begin with http:// or https:// and a host"
    if url.userinfo:
        return "url has a password in it: put it into headers, as Authorization"
    return None


def _quieten() -> None:
    """Keep the libraries from writing what servers and users say."""
    for name in TALKATIVE_LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
    fast = logging.getLogger("fastmcp")
    for handler in list(fast.handlers):
        fast.removeHandler(handler)
