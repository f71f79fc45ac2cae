"""A gRPC server of A2A that answers what a test says, to the byte; and events to say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import grpc
from a2a.types import a2a_pb2 as a2a
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.rpc import status_pb2

from parley_server.agents.a2a.access import Access
from parley_server.agents.a2a.agent import A2AAgent
from support.http2 import HEADERS, PREFACE, SETTINGS, frame

SERVICE = "lf.a2a.v1.A2AService"
OTHERS_WORDS = "the secret words of the agent"
"""What must reach no error and no log."""


@asynccontextmanager
async def an_agent(name: str, access: Access | None = None) -> AsyncIterator[A2AAgent]:
    """Return what asks the remote agent of this name."""
    agent = A2AAgent(name, access)
    try:
        yield agent
    finally:
        await agent.close()


class Ids(NamedTuple):
    """Of the answer that is under way."""

    task: str
    context: str


@dataclass
class Fails:
    """Ends the call with a status; a detail goes along."""

    code: grpc.StatusCode
    details: tuple[Message, ...] = ()


@dataclass
class Hangs:
    """Says nothing more until the call is over."""


@dataclass
class Later:
    """Says something once a test lets it."""

    told: asyncio.Event
    said: Message


Said: TypeAlias = Message | bytes | Fails | Hangs | Later
Script: TypeAlias = Callable[[Ids], Iterable[Said]]


@dataclass
class Heard:
    """A call that the agent got."""

    method: str
    request: Any
    headers: dict[str, str]
    time_left_s: float | None
    shown: str | None
    """The caller's certificate, PEM."""
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class ScriptedRemote:
    """Plays a script in answer to each message; the last one is played again and again."""

    def __init__(self, *scripts: Script, unary: Script | None = None) -> None:
        self.scripts = list(scripts)
        self.unary = unary
        self.heard: list[Heard] = []
        self.cancelled: list[str] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        return f"a2a+grpc://{self.address}"

    @asynccontextmanager
    async def running(
        self, credentials: grpc.ServerCredentials | None = None
    ) -> AsyncIterator["ScriptedRemote"]:
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
        handlers = {
            "CancelTask": grpc.unary_unary_rpc_method_handler(
                self._cancel, a2a.CancelTaskRequest.FromString, _bytes
            )
        }
        if self.scripts:
            handlers["SendStreamingMessage"] = grpc.unary_stream_rpc_method_handler(
                self._stream, a2a.SendMessageRequest.FromString, _bytes
            )
        if self.unary is not None:
            handlers["SendMessage"] = grpc.unary_unary_rpc_method_handler(
                self._send, a2a.SendMessageRequest.FromString, _bytes
            )
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        listen = f"127.0.0.1:{self.port}"
        if credentials is None:
            self.port = server.add_insecure_port(listen)
        else:
            self.port = server.add_secure_port(listen, credentials)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    def _hear(self, method: str, request: Any, context: Any) -> Heard:
        headers = {key: str(value) for key, value in context.invocation_metadata()}
        shown = context.auth_context().get("x509_pem_cert")
        certificate = shown[0].decode() if shown else None
        heard = Heard(method, request, headers, context.time_remaining(), certificate)
        self.heard.append(heard)
        return heard

    async def _stream(self, request: Any, context: Any) -> AsyncIterator[Message | bytes]:
        heard = self._hear("SendStreamingMessage", request, context)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            for said in script(_ids(request)):
                yield await _played(said, context)
        finally:
            heard.is_over.set()

    async def _send(self, request: Any, context: Any) -> Message | bytes:
        self._hear("SendMessage", request, context)
        assert self.unary is not None
        return await _played(next(iter(self.unary(_ids(request)))), context)

    async def _cancel(self, request: Any, context: Any) -> Message:
        self._hear("CancelTask", request, context)
        self.cancelled.append(request.id)
        return a2a.Task(id=request.id)


async def _played(said: Said, context: Any) -> Message | bytes:
    if isinstance(said, Fails):
        status = status_pb2.Status(code=said.code.value[0], message=OTHERS_WORDS)
        for detail in said.details:
            status.details.add().Pack(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(said.code, OTHERS_WORDS)
    if isinstance(said, Hangs):
        await asyncio.Event().wait()
    if isinstance(said, Later):
        await said.told.wait()
        return said.said
    assert isinstance(said, Message | bytes)
    return said


def _ids(request: a2a.SendMessageRequest) -> Ids:
    return Ids(request.message.task_id or "t1", request.message.context_id)


def _bytes(said: Message | bytes) -> bytes:
    return said if isinstance(said, bytes) else said.SerializeToString()


def text_parts(*texts: str) -> list[a2a.Part]:
    return [a2a.Part(text=text) for text in texts]


def a_message(*texts: str, **fields: Any) -> a2a.StreamResponse:
    parts = fields.pop("parts", None) or text_parts(*texts)
    message = a2a.Message(message_id="m1", role=a2a.ROLE_AGENT, parts=parts)
    message.MergeFrom(a2a.Message(**fields))
    return a2a.StreamResponse(message=message)


def a_task(ids: Ids, state: int = a2a.TASK_STATE_SUBMITTED, **fields: Any) -> a2a.StreamResponse:
    status = a2a.TaskStatus()
    ParseDict({"state": state}, status)
    if said := fields.pop("saying", None):
        status.message.CopyFrom(a_message(said).message)
    task = a2a.Task(id=ids.task, context_id=ids.context, status=status, **fields)
    return a2a.StreamResponse(task=task)


def a_status(ids: Ids, state: int, *texts: str, **metadata: Any) -> a2a.StreamResponse:
    update = a_task(ids, state).task
    event = a2a.TaskStatusUpdateEvent(
        task_id=ids.task, context_id=ids.context, status=update.status
    )
    if texts:
        event.status.message.CopyFrom(a_message(*texts).message)
    if metadata:
        event.metadata.update({f"parley.{key}": value for key, value in metadata.items()})
    return a2a.StreamResponse(status_update=event)


def an_artifact(artifact_id: str, *texts: str, **fields: Any) -> a2a.Artifact:
    parts = fields.pop("parts", None) or text_parts(*texts)
    return a2a.Artifact(artifact_id=artifact_id, parts=parts, **fields)


def a_piece(
    ids: Ids, *texts: str, artifact: str = "a1", append: bool = False, last: bool = False, **f: Any
) -> a2a.StreamResponse:
    event = a2a.TaskArtifactUpdateEvent(
        task_id=ids.task,
        context_id=ids.context,
        artifact=an_artifact(artifact, *texts, **f),
        append=append,
        last_chunk=last,
    )
    return a2a.StreamResponse(artifact_update=event)


def working(ids: Ids, *texts: str) -> a2a.StreamResponse:
    return a_status(ids, a2a.TASK_STATE_WORKING, *texts)


def completed(ids: Ids, *texts: str, **metadata: Any) -> a2a.StreamResponse:
    return a_status(ids, a2a.TASK_STATE_COMPLETED, *texts, **metadata)


@asynccontextmanager
async def answering_frames(*frames: bytes) -> AsyncIterator[str]:
    """Serve connections that answer the first call with these bytes; yields an address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            await reader.readexactly(len(PREFACE))
            writer.write(frame(SETTINGS, 0, 0))
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3]))
                if head[3] == HEADERS:
                    writer.write(b"".join(frames))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
