"""A real gRPC server that answers as a test says, and remembers how it was asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc as pb_grpc

Code = grpc.StatusCode


@dataclass(frozen=True)
class Refusal:
    """An error as Parley tells it, or as something else does if it has no reason."""

    code: grpc.StatusCode = Code.UNAVAILABLE
    reason: str = ""
    text: str = "because the test says so"
    metadata: dict[str, str] = field(default_factory=dict)
    retry_s: float | None = None
    domain: str = "parley.v1"
    more: Sequence[Message] = ()

    @property
    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        parts = list(self.more)
        if self.reason:
            parts.append(
                details.ErrorInfo(reason=self.reason, domain=self.domain, metadata=self.metadata)
            )
        found: list[tuple[str, str | bytes]] = []
        if self.retry_s is not None:
            delay = Duration()
            delay.FromMilliseconds(int(self.retry_s * 1000))
            parts.append(details.RetryInfo(retry_delay=delay))
            found.append(("grpc-retry-pushback-ms", str(int(self.retry_s * 1000))))
        if parts:
            status = Status(code=self.code.value[0], message=self.text)
            for part in parts:
                packed = Packed()
                packed.Pack(part)
                status.details.append(packed)
            found.append(("grpc-status-details-bin", status.SerializeToString()))
        return tuple(found)


Step = Refusal | Message | Callable[[Any], Awaitable[Refusal | Message]]


@dataclass
class Asked:
    """One call as it arrived."""

    request: Any
    metadata: dict[str, Any]
    time_left_s: float
    at_s: float


class ScriptedServer(pb_grpc.ConversationServiceServicer):
    """Takes its next step at every call; the last one again when there are no more."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[Asked] = []
        self.port = 0
        self.cancelled = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _step(self, request: Any, context: Any) -> Any:
        asked = Asked(
            request,
            dict(context.invocation_metadata()),
            context.time_remaining(),
            asyncio.get_running_loop().time(),
        )
        self.asked.append(asked)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if callable(step):
            try:
                step = await step(request)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if isinstance(step, Refusal):
            await context.abort(step.code, step.text, step.trailing_metadata)
        return step

    async def Chat(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def StartTurn(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def ResumeTurn(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def GetHistory(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def CreateConversation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def GetConversation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def UpdateConversation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def DeleteConversation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def UndeleteConversation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def ListConversations(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def GetTurn(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def CancelTurn(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def AppendMessages(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def ForkConversation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def EraseOwner(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def GetUsage(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def ListAgents(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def ExplainTurn(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)


@asynccontextmanager
async def scripted(
    *steps: Step, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[ScriptedServer]:
    """Serve the steps inside the block.

    Args:
        port: 0: a free one.
        credentials: for TLS.
    """
    servicer = ScriptedServer(*steps)  # type: ignore[abstract]  # in the stubs only: the rest is UNIMPLEMENTED
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    pb_grpc.add_ConversationServiceServicer_to_server(servicer, server)
    if credentials is None:
        servicer.port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        servicer.port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(0)


def an_answer(response: str = "HELLO", **fields: Any) -> pb.ChatResponse:
    return pb.ChatResponse(
        **{
            "conversation_id": "018f0000-0000-7000-8000-000000000001",
            "turn_id": "018f0000-0000-7000-8000-000000000002",
            "response": response,
            "user_sequence": 1,
            "response_sequence": 2,
            **fields,
        }
    )


async def never(request: Any) -> NoReturn:
    """A step that does not end by itself."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")
