"""A server that is a child process: one message a line on its standard input and output.

The library's own transport gives the child more of the worker's environment than its table names,
sends its standard error to ours, and holds a line of any length (decision 0034).
"""

import asyncio
import logging
import os
import select
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Unpack

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from fastmcp.client.transports.base import ClientTransport, SessionKwargs, TransportOptions
from mcp import ClientSession
from mcp.shared.message import SessionMessage

from parley_server.agents.mcp.messages import (
    CleanedStream,
    Complain,
    Incoming,
    Lines,
    message_of,
    refusal_of,
)

log = logging.getLogger("parley.agents")

LAUNCHER = Path(__file__).with_name("launcher.py")
INHERITED = ("PATH", "HOME")
"""Of the worker's environment; all else may be a secret."""
CHUNK_BYTES = 64 * 1024
SAID_BYTES = 16 * 1024
"""How much of the end of its standard error is kept while a server starts: more than is logged, so
that a secret is found whole in it."""
END_S = 1.0
"""How long a server has to end once its standard input is closed, and again once it is told to."""


class StdioTransport(ClientTransport):
    """Starts a program for each session, and ends it with the session."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None,
        complain: Complain,
    ) -> None:
        self._name = name
        self._command = command
        self._env = env
        self._cwd = cwd
        self._complain = complain
        self.is_starting = True
        """What it says on its standard error is kept: nothing of a user can be in it yet."""
        self.said = b""
        self._has_ended = False
        self._stdout: Any = None

    @property
    def has_ended(self) -> bool:
        """Whether its standard output is closed, even if nobody has read up to there yet."""
        return self._has_ended or (self._stdout is not None and _is_hung_up(self._stdout))

    @asynccontextmanager
    async def connect_session(
        self,
        *,
        transport_options: TransportOptions | None = None,
        **session_kwargs: Unpack[SessionKwargs],
    ) -> AsyncGenerator[ClientSession, None]:
        """Start the program. Raises: OSError: it cannot be started."""
        options = transport_options or TransportOptions()
        process = await self._start()
        stdin, stdout, stderr = _pipes(process)
        self._stdout = _output_of(process)
        arrive, arrived = anyio.create_memory_object_stream[Incoming](0)
        send, to_send = anyio.create_memory_object_stream[SessionMessage](0)
        tasks = [
            asyncio.create_task(self._read(stdout, arrive)),
            asyncio.create_task(self._write(stdin, to_send, arrive)),
            asyncio.create_task(self._listen(stderr)),
        ]
        try:
            async with AsyncExitStack() as streams:
                for stream in (arrive, arrived, send, to_send):
                    streams.push_async_callback(stream.aclose)
                read = CleanedStream(arrived, self._complain)
                async with options.session_class(read, send, **session_kwargs) as session:
                    yield session
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process, stdin)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self) -> asyncio.subprocess.Process:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *self._command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=CHUNK_BYTES,
            env={**inherited, **self._env},
            cwd=self._cwd,
            start_new_session=True,  # Ctrl-C is for the worker, which still finishes turns
        )

    async def _read(
        self, stdout: asyncio.StreamReader, arrive: MemoryObjectSendStream[Incoming]
    ) -> None:
        lines, garbage = Lines(), 0
        try:
            async with arrive:
                while chunk := await stdout.read(CHUNK_BYTES):
                    for line, is_too_long in lines.feed(chunk):
                        message = refusal_of(line) if is_too_long else message_of(line)
                        if message is not None:
                            await arrive.send(message)
                        elif is_too_long:
                            log.warning("MCP message too long", extra={"server": self._name})
                            return  # whose call it answers is unknown: all of them fail
                        elif line.strip():
                            garbage += 1
                            if garbage == 1:
                                log.warning(
                                    "MCP server wrote garbage", extra={"server": self._name}
                                )
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the session is over
        finally:
            self._has_ended = True

    async def _write(
        self,
        stdin: asyncio.StreamWriter,
        to_send: MemoryObjectReceiveStream[SessionMessage],
        arrive: MemoryObjectSendStream[Incoming],
    ) -> None:
        try:
            async for sent in to_send:
                text = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                stdin.write(text.encode() + b"\n")
                await stdin.drain()
        except Exception as error:  # unseen, it would have all calls wait for their time to be over
            if not isinstance(error, OSError | anyio.ClosedResourceError):
                details = {"server": self._name, "error": type(error).__name__}
                log.warning("MCP message not sent", extra=details)
            await arrive.aclose()

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Read its standard error, so that it never blocks; keep a little while it starts."""
        while chunk := await stderr.read(CHUNK_BYTES):
            self.said = (self.said + chunk)[-SAID_BYTES:] if self.is_starting else b""


def _pipes(
    process: asyncio.subprocess.Process,
) -> tuple[asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise OSError  # the library says that they may be missing; they were asked for
    return process.stdin, process.stdout, process.stderr


def _output_of(process: asyncio.subprocess.Process) -> Any:
    """Return the pipe that a process writes to as its standard output; None: that is not known."""
    transport: Any = getattr(process, "_transport", None)
    return transport and transport.get_pipe_transport(1).get_extra_info("pipe")


def _is_hung_up(pipe: Any) -> bool:
    if pipe.closed:  # here: its end was seen
        return True
    poll = select.poll()
    poll.register(pipe, 0)  # that nobody has the other side any more is always told
    return bool(poll.poll(0))


async def _end(process: asyncio.subprocess.Process, stdin: asyncio.StreamWriter) -> None:
    """Close its standard input; end it, and what it has started, if it goes on."""
    with suppress(OSError):
        stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if await _has_ended(process):
            break
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
    else:
        await _has_ended(process)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # what it has left behind
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:  # open as long as a descendant has one of the pipes
        with suppress(ProcessLookupError, PermissionError):
            transport.close()


async def _has_ended(process: asyncio.subprocess.Process) -> bool:
    """Wait for END_S, not for the pipes: what it has started may have them as well."""
    deadline = asyncio.get_running_loop().time() + END_S
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # process.wait() waits for the pipes
        await asyncio.sleep(0.01)
    return process.returncode is not None
