"""Servers as processes of their own, to be killed, stopped and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import cached_property
from typing import Any

import grpc

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc
from support.services import AUDIENCE, ISSUER, SECRET, metadata

START_S = 30


class ServerProcess:
    """`parley-server serve` in a process of its own, and a channel to it.

    Args:
        module: what serves; another one says where in the same words.
        python_path: where modules are looked for first: another release's.
        environment: settings, without PARLEY_ in front; None: not set.
    """

    def __init__(
        self,
        database_url: str | None,
        *,
        arguments: tuple[str, ...] = ("serve",),
        module: str = "parley_server",
        python_path: str = "",
        **environment: Any,
    ) -> None:
        self.output: list[str] = []
        self._is_left = False
        settings = {
            "LISTEN": "127.0.0.1:0",
            "AGENT": "echo",
            "AUTH_HS256_SECRET": SECRET,
            "AUTH_ISSUER": ISSUER,
            "AUTH_AUDIENCE": AUDIENCE,
            "LOG_FORMAT": "json",
            "DATABASE_URL": database_url,
            **{name.upper(): value for name, value in environment.items()},
        }
        named = {f"PARLEY_{k}": str(value) for k, value in settings.items() if value is not None}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment_of(named, python_path),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = self._port()

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """Opened by who first uses it: a process may be started in a thread, without a loop."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")

    @cached_property
    def stub(self) -> Any:
        return conversation_service_pb2_grpc.ConversationServiceStub(self.channel)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.output.append(line)
            if self._is_left:
                break
        self.process.stderr.close()

    def leave_unread(self) -> None:
        """Close the other side of its standard error, once it has written one more line."""
        self._is_left = True

    def _port(self) -> int:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            found = re.search(r"serves on [^\s]*:(\d+)", "".join(self.output))
            if found:
                return int(found[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the server did not start: {''.join(self.output)}")

    async def chat(
        self, message: str = "hello", *, user: str = "ada", timeout: float = 20, **fields: Any
    ) -> pb.ChatResponse:
        request = pb.ChatRequest(message=message, **fields)
        answer: pb.ChatResponse = await self.stub.Chat(
            request, timeout=timeout, metadata=metadata(user), wait_for_ready=True
        )
        return answer

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and wait. Returns: the exit code."""
        self.signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join(5)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(5)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def environment_of(settings: dict[str, str], python_path: str = "") -> dict[str, str]:
    """Return the environment of a process that has these settings of Parley's and no others."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PARLEY_")}
    path = {"PYTHONPATH": python_path} if python_path else {}
    return {**inherited, **path, **settings}


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Start the server's command with nothing set but this."""
    return subprocess.Popen(
        [sys.executable, "-m", "parley_server", *arguments],
        env=environment_of(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The same, to its end."""
    process = start(*arguments, **environment)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def lines_of(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    """Return the log lines of one kind that a server has written so far."""
    lines = [json.loads(line) for line in list(server.output) if line.startswith("{")]
    return [line for line in lines if line["event"] == event]
