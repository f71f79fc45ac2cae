"""Servers in front of the server that fail first, each in its own way.

    runner ──────────────► FailingServer ───► the server     fails_twice, always_fails, pushes_back
    runner ─► TcpCutter ─► CuttingServer ───► the server     cuts_once
    runner ──────────────► ResettingServer ─► the server     resets_once
    runner ──────────────► RefusingServer                    refuses

All but the last one pass every call on as it came, with its metadata and deadline, unless it is its
turn to fail.
They count calls by method and request id; by conversation where there is none, and by caller where
there is neither.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from cutting import TcpCutter
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from parley.v1 import conversation_service_pb2 as pb

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
STORE_AWAY = "STORE_UNAVAILABLE"
NOT_NOW = "not now"
FOREVER = 1 << 30
PATIENCE_MS = 50
NO_RETRIES_MS = -1

_REQUESTS: dict[str, Any] = {
    "Chat": pb.ChatRequest,
    "StreamChat": pb.StreamChatRequest,
    "StartTurn": pb.StartTurnRequest,
    "ResumeTurn": pb.ResumeTurnRequest,
    "StreamResumeTurn": pb.StreamResumeTurnRequest,
    "GetHistory": pb.GetHistoryRequest,
    "CreateConversation": pb.CreateConversationRequest,
    "GetConversation": pb.GetConversationRequest,
    "UpdateConversation": pb.UpdateConversationRequest,
    "DeleteConversation": pb.DeleteConversationRequest,
    "UndeleteConversation": pb.UndeleteConversationRequest,
    "ListConversations": pb.ListConversationsRequest,
    "GetTurn": pb.GetTurnRequest,
    "CancelTurn": pb.CancelTurnRequest,
    "WatchConversation": pb.WatchConversationRequest,
    "AppendMessages": pb.AppendMessagesRequest,
    "ForkConversation": pb.ForkConversationRequest,
    "ExportConversations": pb.ExportConversationsRequest,
    "EraseOwner": pb.EraseOwnerRequest,
    "GetUsage": pb.GetUsageRequest,
    "WatchTurns": pb.WatchTurnsRequest,
    "ListAgents": pb.ListAgentsRequest,
    "ExplainTurn": pb.ExplainTurnRequest,
    "RehearseTurn": pb.RehearseTurnRequest,
}
_STREAMS = frozenset(
    {
        "StreamChat",
        "StreamResumeTurn",
        "WatchConversation",
        "ExportConversations",
        "WatchTurns",
        "RehearseTurn",
    }
)
_WRAPPED = {"StreamChat": "chat", "StartTurn": "chat", "StreamResumeTurn": "resume"}
"""The field that has the request id, where the request itself has none."""


@asynccontextmanager
async def failing_servers(address: str) -> AsyncIterator[Mapping[str, str]]:
    """Serve in front of a server inside the block.

    Returns: their addresses, by the name of the client that uses them.
    """
    async with AsyncExitStack() as started:
        channel = await started.enter_async_context(
            grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)])
        )
        servers = {
            "fails_twice": FailingServer(channel, times=2),
            "always_fails": FailingServer(channel, times=FOREVER),
            "pushes_back": FailingServer(channel, times=FOREVER, pushback_ms=NO_RETRIES_MS),
            "resets_once": ResettingServer(channel),
            "refuses": RefusingServer(channel),
        }
        ports = {
            name: await started.enter_async_context(_serving(server))
            for name, server in servers.items()
        }
        cutter = TcpCutter()
        port = await started.enter_async_context(_serving(CuttingServer(channel, cutter)))
        ports["cuts_once"] = await started.enter_async_context(cutter.serving(port))
        yield {name: f"127.0.0.1:{port}" for name, port in ports.items()}


@asynccontextmanager
async def _serving(handler: "grpc.GenericRpcHandler[Any, Any]") -> AsyncIterator[int]:
    server = grpc.aio.server(handlers=[handler], options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


class PassingServer(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs only
    """Passes calls on, as bytes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._tries: Counter[str] = Counter()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        method = path.rpartition("/")[2]

        async def unary(request: bytes, context: Any) -> bytes:
            name, tries = self._counted(method, request, context)
            await self.begin(name, tries, context)
            call = self._channel.unary_unary(path, None, None)(request, **_as_it_came(context))
            answer: bytes = await _passed_on(call, context)
            self.answered(tries)
            return answer

        async def stream(request: bytes, context: Any) -> None:
            name, tries = self._counted(method, request, context)
            await self.begin(name, tries, context)
            call = self._channel.unary_stream(path, None, None)(request, **_as_it_came(context))
            is_done = False
            try:
                while (event := await _passed_on(call.read(), context)) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # not in its stubs
                    is_done = is_done or self.comes(tries, method, event)
                    await context.write(event)
                    await self.came(tries, method, event, context)
            finally:
                call.cancel()

        if method in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)

    def _counted(self, method: str, request: bytes, context: Any) -> tuple[str, int]:
        """Return what names this call, and how often it has been made by now."""
        parsed = _REQUESTS[method].FromString(request)
        asked = getattr(parsed, _WRAPPED[method]) if method in _WRAPPED else parsed
        name = getattr(asked, "request_id", "") or getattr(asked, "conversation_id", "")
        name = name or dict(context.invocation_metadata()).get("authorization", "")
        key = f"{method} {name}"
        self._tries[key] += 1
        return name, self._tries[key]

    async def begin(self, name: str, tries: int, context: Any) -> None:
        """Do something before a call is passed on."""

    def answered(self, tries: int) -> None:
        """Do something before an answer is passed back."""

    def comes(self, tries: int, method: str, event: bytes) -> bool:  # noqa: ARG002 - others do
        """Do something before a stream's event is passed back. Returns: it is all for this call."""
        return False

    async def came(self, tries: int, method: str, event: bytes, context: Any) -> None:
        """Do something after a stream's event was passed back."""


class FailingServer(PassingServer):
    """Fails so many times before it passes a call on."""

    def __init__(
        self, channel: grpc.aio.Channel, *, times: int, pushback_ms: int = PATIENCE_MS
    ) -> None:
        super().__init__(channel)
        self._times = times
        self._pushback_ms = pushback_ms

    async def begin(self, name: str, tries: int, context: Any) -> None:  # noqa: ARG002 - others do
        if tries <= self._times:
            trailing = _trailing_metadata(UNAVAILABLE, STORE_AWAY, tries, self._pushback_ms)
            await context.abort(UNAVAILABLE, NOT_NOW, trailing)


class RefusingServer(PassingServer):
    """Ends every call with the status that its request id names, `CODE` or `CODE:REASON`."""

    async def begin(self, name: str, tries: int, context: Any) -> None:
        code_name, _, reason = name.partition(":")
        code = grpc.StatusCode[code_name]
        trailing = _trailing_metadata(code, reason, tries, PATIENCE_MS) if reason else ()
        await context.abort(code, NOT_NOW, trailing)


class CuttingServer(PassingServer):
    """Has the connection cut in the first try of each call, when something has been done for it.

    In place of telling a watch that its conversation was deleted, it cuts every time.
    """

    def __init__(self, channel: grpc.aio.Channel, cutter: TcpCutter) -> None:
        super().__init__(channel)
        self._cutter = cutter

    def answered(self, tries: int) -> None:
        if tries == 1:
            self._cutter.cut()

    def comes(self, tries: int, method: str, event: bytes) -> bool:
        is_watch = method == "WatchConversation"
        if is_watch and pb.WatchConversationResponse.FromString(event).HasField("deleted"):
            self._cutter.cut()
        is_all = tries == 1 and _is_far_enough(method, event)
        if is_all:  # a second mark would wait for a later call
            self._cutter.cut_behind(event)
        return is_all


class ResettingServer(PassingServer):
    """Ends each stream in its first try as one is told that a proxy has reset: without details."""

    async def came(self, tries: int, method: str, event: bytes, context: Any) -> None:
        if tries == 1 and _is_far_enough(method, event):
            await context.abort(grpc.StatusCode.INTERNAL, "the stream was reset")


def _is_far_enough(method: str, event: bytes) -> bool:
    """Say whether this is the event behind which a stream is lost."""
    match method:
        case "StreamChat":
            return pb.StreamChatResponse.FromString(event).index == 1
        case "StreamResumeTurn":
            return pb.StreamResumeTurnResponse.FromString(event).event.index == 1
        case "ExportConversations":
            return pb.ExportConversationsResponse.FromString(event).message.sequence == 1
        case "WatchTurns":
            return pb.WatchTurnsResponse.FromString(event).turn.user_sequence == 1
        case "RehearseTurn":
            return pb.RehearseTurnResponse.FromString(event).HasField("chunk")
        case _:
            return pb.WatchConversationResponse.FromString(event).message.sequence == 1


def _as_it_came(context: Any) -> dict[str, Any]:
    """Return the caller's deadline and token."""
    kept = [(k, v) for k, v in context.invocation_metadata() if k == "authorization"]
    return {"timeout": context.time_remaining(), "metadata": kept}


async def _passed_on(call: Any, context: Any) -> Any:
    """Return what the server answers, or end the call as it has ended there."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        trailing = tuple(error.trailing_metadata() or ())
        await context.abort(error.code(), error.details() or "", trailing)


def _trailing_metadata(
    code: grpc.StatusCode, reason: str, tries: int, pushback_ms: int
) -> tuple[tuple[str, str | bytes], ...]:
    """Return what Parley would say of such an error, and how often it was asked."""
    delay = Duration()
    delay.FromMilliseconds(max(pushback_ms, 0))
    status = Status(code=code.value[0], message=NOT_NOW)
    for detail in (
        error_details_pb2.ErrorInfo(
            reason=reason, domain="parley.v1", metadata={"tries": str(tries)}
        ),
        error_details_pb2.RetryInfo(retry_delay=delay),
    ):
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    return (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("grpc-retry-pushback-ms", str(pushback_ms)),
    )
