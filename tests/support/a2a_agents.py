"""Real agents, of the SDKs in Python and in Go: each does what it is told, and says what it sees.

see        answers with what came along, as JSON
count N    answers with N words, each a chunk
hang       says "Half" and waits until it is cancelled
ask        asks for input, and answers it in the same task
offer TEXT answers with an artifact, and asks for input (in Python)
take TEXT  answers with the same artifact, of which TEXT takes the place (in Python)
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeAlias

import grpc
import pytest
from a2a.helpers import new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.request_handlers.grpc_handler import GrpcHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2 as a2a
from a2a.types import a2a_pb2_grpc
from google.protobuf.json_format import MessageToDict

from support.certificates import Certificates

GO_AGENT = Path(__file__).parent / "remote_agent_go"


@dataclass
class RealAgent:
    """An agent that serves."""

    port: int = 0
    lines: list[str] = field(default_factory=list)
    """What it has seen, in its order: "deadline SECONDS", "cancelled", "ended"."""

    @property
    def name(self) -> str:
        return f"a2a+grpc://127.0.0.1:{self.port}"


Start: TypeAlias = Callable[..., AbstractAsyncContextManager[RealAgent]]


class Executor(AgentExecutor):
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        goes_on = context.current_task is not None
        if not goes_on:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        command, _, argument = context.get_user_input().partition(" ")
        match command:
            case "see":
                await updater.complete(new_text_message(self._seen(context)))
            case "count":
                for word in range(int(argument)):
                    text = f" {word}" if word else "0"
                    await updater.add_artifact(
                        [new_text_part(text)], artifact_id="words", append=word > 0
                    )
                await updater.complete()
            case "hang":
                await updater.add_artifact([new_text_part("Half")])
                try:
                    await asyncio.Event().wait()
                finally:
                    self._lines.append("ended")
            case "ask":
                await updater.requires_input(new_text_message("Which one?"))
            case "offer" | "take":
                await updater.add_artifact([new_text_part(argument)], artifact_id="reply")
                await (updater.requires_input() if command == "offer" else updater.complete())
            case _:
                said = f"{command}, in the task of before: {str(goes_on).lower()}"
                await updater.complete(new_text_message(said))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        self._lines.append("cancelled")
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()

    def _seen(self, context: RequestContext) -> str:
        assert context.call_context is not None
        call = context.call_context.state["grpc_context"]
        headers: dict[str, list[str]] = {}
        for key, value in call.invocation_metadata():
            headers.setdefault(key, []).append(str(value))
        seen = {"headers": headers, "metadata": _plain(context), "context": context.context_id}
        return json.dumps(seen)


def _plain(context: RequestContext) -> Any:
    metadata = context.metadata
    return metadata if isinstance(metadata, dict) else MessageToDict(metadata)


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # no class at run time
    """Writes down each deadline, and asks for a token."""

    def __init__(self, lines: list[str], token: str) -> None:
        self._lines, self._token = lines, token

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or not handler.response_streaming:
            return handler
        given = dict(details.invocation_metadata).get("authorization")

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            self._lines.append(f"deadline {context.time_remaining():.1f}")
            if self._token and given != f"Bearer {self._token}":
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, no words")
            async for response in handler.unary_stream(request, context):
                yield response

        return grpc.unary_stream_rpc_method_handler(
            stream, handler.request_deserializer, handler.response_serializer
        )


@asynccontextmanager
async def python_agent(
    *, token: str = "", files: Certificates | None = None, streams: bool = True
) -> AsyncIterator[RealAgent]:
    """Serve an agent of `a2a-sdk`."""
    agent = RealAgent()
    card = a2a.AgentCard(
        name="test",
        description="a test's",
        version="1",
        capabilities=a2a.AgentCapabilities(streaming=streams),
    )
    handler = DefaultRequestHandler(Executor(agent.lines), InMemoryTaskStore(), card)
    server = grpc.aio.server(interceptors=[Admission(agent.lines, token)])
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)  # type: ignore[no-untyped-call]
    if files is None:
        agent.port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (files.key.read_bytes(), files.cert.read_bytes())
        agent.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield agent
    finally:
        await server.stop(None)


@cache
def built(folder: Path) -> Path:
    """Return a program in Go; skips the test where Go is missing, but never in CI."""
    if shutil.which("go") is None:
        assert os.environ.get("PARLEY_CI") != "1", "CI needs Go, for an agent of A2A's Go SDK"
        pytest.skip("needs Go, for an agent of A2A's Go SDK")
    program = Path(mkdtemp()) / folder.name
    subprocess.run(["go", "build", "-o", program, "."], cwd=folder, check=True, timeout=300)
    return program


@asynccontextmanager
async def go_agent(
    *, token: str = "", files: Certificates | None = None
) -> AsyncIterator[RealAgent]:
    """Serve an agent of `a2a-go`, in a process of its own."""
    agent = RealAgent()
    environment = {"TOKEN": token}
    if files is not None:
        environment |= {"CERT_FILE": str(files.cert), "KEY_FILE": str(files.key)}
    program = await asyncio.to_thread(built, GO_AGENT)
    process = await asyncio.create_subprocess_exec(
        program, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE
    )
    output = process.stdout
    assert output is not None

    async def read() -> None:
        async for line in output:
            agent.lines.append(line.decode().strip())

    first = await output.readline()
    agent.port = int(first.split()[1])
    reading = asyncio.create_task(read())
    try:
        yield agent
    finally:
        process.kill()
        await process.wait()
        await reading
