"""A provider that does what a script says: real HTTP on loopback, by OpenAI's two protocols.

    with FakeOpenAI([Say("Hello.")]) as fake:
        create_agent("openai-chat:any", openai_base_url=fake.base_url)

It has a thread and a loop of its own, so that any kind of test can use it. Every request takes the
next step of the script, and the last step again and again; a step that is a function is asked with
the request's JSON. `requests` holds what came in.
"""

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from support.openai_script import (
    PROVIDER_TEXT,
    Call,
    Fail,
    Forever,
    HangUp,
    Json,
    Raw,
    Say,
    Script,
    Stall,
    Step,
    chat_chunks,
    response_events,
    sse,
)

__all__ = [
    "PROVIDER_TEXT",
    "Call",
    "Fail",
    "FakeOpenAI",
    "Forever",
    "HangUp",
    "Raw",
    "Request",
    "Say",
    "Stall",
]

PATIENCE_S = 5.0


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    json: Json
    left: threading.Event = field(default_factory=threading.Event)
    """Set when the client went before its answer was complete."""


class FakeOpenAI:
    def __init__(self, script: Script) -> None:
        self.requests: list[Request] = []
        self.base_url = ""
        self._script = list(script)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fake-openai", daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> "FakeOpenAI":
        self._thread.start()
        if not self._started.wait(PATIENCE_S):
            raise RuntimeError("the fake provider did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self._started.set()
        await self._stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _received(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(reader, writer, request):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _next_step(self, request: Request) -> Step:
        step = self._script[0] if len(self._script) == 1 else self._script.pop(0)
        return step(request.json) if callable(step) else step

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request
    ) -> bool:
        """Take one step. Returns: whether the connection goes on."""
        match self._next_step(request):
            case Say() as step:
                return await _stream(reader, writer, request, step)
            case Fail() as step:
                body = json.dumps(step.body()).encode()
                await _send(writer, step.status, body, "application/json", step.headers)
            case Raw() as step:
                await _send(writer, step.status, step.body, step.content_type, {})
            case Forever() as step:
                await _write_forever(writer, step)
            case Stall():
                await _stall(reader, writer, request)
                return False
            case HangUp():
                writer.transport.abort()
                return False
        return True


async def _received(reader: asyncio.StreamReader) -> Request | None:
    line = await reader.readline()
    if not line:
        return None
    path = line.decode().split(" ")[1]
    headers: dict[str, str] = {}
    while (raw := await reader.readline()).strip():
        name, _, value = raw.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(path, headers, json.loads(body) if body else {})


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    content_type: str,
    headers: Mapping[str, str],
) -> None:
    head = [f"HTTP/1.1 {status} -", f"content-type: {content_type}"]
    head += [f"content-length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    await writer.drain()


async def _write_forever(writer: asyncio.StreamWriter, step: Forever) -> None:
    writer.write(b"HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\n\r\n" + step.beginning)
    while True:
        writer.write(step.again)
        await writer.drain()


async def _stall(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request
) -> None:
    await writer.drain()
    await reader.read(1)
    request.left.set()


async def _stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request, step: Say
) -> bool:
    writer.write(
        b"HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    is_responses = request.path.endswith("/responses")
    events = response_events(step) if is_responses else chat_chunks(step, request.json)
    breaks = (step.cut_after, step.end_after, step.garbage_after, step.error_after)
    for number, data in enumerate(events):
        if step.hold is not None and number in breaks:
            await writer.drain()
            await asyncio.to_thread(step.hold.wait)
        if number == step.cut_after:
            await writer.drain()
            writer.transport.abort()
            return False
        if number == step.end_after:
            writer.write(b"0\r\n\r\n")
            return True
        if number == step.stall_after:
            await _stall(reader, writer, request)
            return False
        if number == step.garbage_after:
            writer.write(sse("{no json"))
        if number == step.error_after:
            writer.write(sse(Fail(500, code="server_error").body()))
        try:
            writer.write(sse(data, data["type"] if is_responses else None))
            await writer.drain()
            if reader.at_eof():
                raise ConnectionResetError
        except ConnectionError:
            request.left.set()
            raise
    if not is_responses:
        writer.write(sse("[DONE]"))
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True
