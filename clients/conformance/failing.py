"""Servers in front of the server that fail first, each in its own way.

    runner ──────────────► FailingServer ─► the server       fails_twice, always_fails, pushes_back
    runner ─► TcpCutter ─► CuttingServer ─► the server       cuts_once

Both pass every call on as it came, with its metadata and deadline, unless it is its turn to fail.
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
            tries = self._counted(method, request, context)
            await self.begin(tries, context)
            call = self._channel.unary_unary(path, None, None)(request, **_as_it_came(context))
            answer: bytes = await _passed_on(call, context)
            self.answered(tries)
            return answer

        async def stream(request: bytes, context: Any) -> None:
            tries = self._counted(method, request, context)
            await self.begin(tries, context)
            call = self._channel.unary_stream(path, None, None)(request, **_as_it_came(context))
            is_done = False
            try:
                while (event := await _passed_on(call.read(), context)) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # not in its stubs
                    is_done = is_done or self.comes(tries, method, event)
                    await context.write(event)
            finally:
                call.cancel()

        if method in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)

    def _counted(self, method: str, request: bytes, context: Any) -> int:
        """Return how often this call has been made by now."""
        parsed = _REQUESTS[method].FromString(request)
        asked = getattr(parsed, _WRAPPED[method]) if method in _WRAPPED else parsed
        name = getattr(asked, "request_id", "") or getattr(asked, "conversation_id", "")
        name = name or dict(context.invocation_metadata()).get("authorization", "")
        key = f"{method} {name}"
        self._tries[key] += 1
        return self._tries[key]

    async def begin(self, tries: int, context: Any) -> None:
        """Do something before a call is passed on."""

    def answered(self, tries: int) -> None:
        """Do something before an answer is passed back."""

    def comes(self, tries: int, method: str, event: bytes) -> bool:  # noqa: ARG002 - others do
        """Do something before a stream's event is passed back. Returns: it is all for this call."""
        return False


class FailingServer(PassingServer):
    """Fails so many times before it passes a call on."""

    def __init__(
        self, channel: grpc.aio.Channel, *, times: int, pushback_ms: int = PATIENCE_MS
    ) -> None:
        super().__init__(channel)
        self._times = times
        self._pushback_ms = pushback_ms

    async def begin(self, tries: int, context: Any) -> None:
        if tries <= self._times:
            trailing = _trailing_metadata(tries, self._pushback_ms)
            await context.abort(UNAVAILABLE, "not now", trailing)


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
        if tries > 1:
            return False
        if method == "StreamChat":
            is_far_enough = pb.StreamChatResponse.FromString(event).index == 1
        elif method == "StreamResumeTurn":
            is_far_enough = pb.StreamResumeTurnResponse.FromString(event).event.index == 1
        elif method == "ExportConversations":
            is_far_enough = pb.ExportConversationsResponse.FromString(event).message.sequence == 1
        elif method == "WatchTurns":
            is_far_enough = pb.WatchTurnsResponse.FromString(event).turn.user_sequence == 1
        elif method == "RehearseTurn":
            is_far_enough = pb.RehearseTurnResponse.FromString(event).HasField("chunk")
        else:
            is_far_enough = pb.WatchConversationResponse.FromString(event).message.sequence == 1
        if is_far_enough:  # a second mark would wait for a later call
            self._cutter.cut_behind(event)
        return is_far_enough


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


def _trailing_metadata(tries: int, pushback_ms: int) -> tuple[tuple[str, str | bytes], ...]:
    """Return what Parley would say of a database that is down, and how often it was asked."""
    delay = Duration()
    delay.FromMilliseconds(max(pushback_ms, 0))
    status = Status(code=UNAVAILABLE.value[0], message="not now")
    for detail in (
        error_details_pb2.ErrorInfo(
            reason="STORE_UNAVAILABLE", domain="parley.v1", metadata={"tries": str(tries)}
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
