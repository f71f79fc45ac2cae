"""What every call of Parley's own services goes through, from the outside in.

    0. traced           only if there are traces; what all others log and count belongs to its span
       metered          only if there are metrics; counts what callers are sent
    1. with_status      outermost, so that no call ends without a status of Parley's
    2. logged           sees the end of every call, refused ones included
    3. authenticated    before the request is taken from the connection
    4. admitted         beyond what a worker takes at once, nothing more is done for a call. Behind
                        the token: that a worker is busy is for its callers to know, and a
                        remembered token is checked faster than a refusal is sent
    5. received         waits for the request, within bounds; bytes that are no such message are
                        refused here, not in gRPC
       the servicer's method

To gRPC all of Parley's methods take a stream of requests, since it hands such a call over before
its first message has arrived. On the wire that is the same. Otherwise a stranger without a token
could have the worker hold as many unfinished messages as it has streams.

Health is metered and received, and else left alone, reflection altogether. The layers are put
around a method once, when it is first called; gRPC asks an interceptor at every call.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from parley_server.core.ports import NO_TRACER, TokenVerifier, Tracer
from parley_server.core.tracing import MAX_STATE_CHARACTERS, Trace, current_trace
from parley_server.rpc.door import Door
from parley_server.rpc.layers.access_log import logged
from parley_server.rpc.layers.admission import Admission, admitted, in_turn, limited
from parley_server.rpc.layers.authentication import authenticated
from parley_server.rpc.layers.metering import CallMeter, count_unknown, metered
from parley_server.rpc.layers.receiving import received, received_from_strangers, tolerant
from parley_server.rpc.layers.status import with_status
from parley_server.rpc.layers.tracing import traced
from parley_server.rpc.layers.types import Metadata

OWN_PACKAGE = "/parley."
HEALTH = "/grpc.health."
READING = frozenset(
    {
        "GetConversation",
        "GetHistory",
        "GetTurn",
        "GetUsage",
        "ExplainTurn",
        "ListAgents",
        "ListConversations",
    }
)
"""The methods whose answers may be thrown away for want of room: they change nothing."""
SHORT = frozenset(
    {
        "CreateConversation",
        "DeleteConversation",
        "GetConversation",
        "GetTurn",
        "ListAgents",
        "StartTurn",
        "UndeleteConversation",
        "UpdateConversation",
    }
)
"""The methods that take a statement or two. What takes longer is made in turn by itself."""
TURNS = frozenset({"Chat", "StreamChat", "ResumeTurn", "StreamResumeTurn", "RehearseTurn"})
"""The methods that run an agent for their caller."""


class Layers(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # it takes none at run time
    """Puts the layers around every method of Parley's own services."""

    def __init__(
        self,
        verifier: TokenVerifier,
        admission: Admission,
        door: Door,
        meter: CallMeter | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._verifier = verifier
        self._admission = admission
        self._door = door
        self._meter = meter
        self._tracer = tracer
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        name = handler_call_details.method
        if not name.startswith(HEALTH):
            await self._door.enter()
        handler = await continuation(handler_call_details)
        if handler is None and self._meter is not None:
            count_unknown(self._meter)
        if handler is None or not name.startswith((OWN_PACKAGE, HEALTH)):
            return handler
        current_trace.set(trace_of(handler_call_details.invocation_metadata))
        known, wrapped = self._wrapped.get(name, (None, None))
        if known is not handler:
            wrapped = self._wrap(name, handler)
            self._wrapped[name] = (handler, wrapped)
        return wrapped

    def _wrap(self, name: str, handler: Any) -> Any:
        method = handler.unary_stream or handler.unary_unary
        admission = self._admission
        short_name = name.rpartition("/")[2]
        if name.startswith(OWN_PACKAGE):
            if short_name in SHORT:
                method = in_turn(admission.short_calls, method)
            method = received(admission.receiving, admission.held_requests, method)
            capacity = admission.capacity_for(short_name)
            method = admitted(
                capacity,
                admission.unsent,
                method,
                is_read=short_name in READING,
                is_turn=short_name in TURNS,
            )
            method = authenticated(self._verifier, method)
            method = logged(short_name, method)
        else:
            if handler.response_streaming:
                method = limited(admission.health_watches, method)
            method = received_from_strangers(admission.strangers, method)
        method = with_status(method)
        if self._meter is not None:
            method = metered(self._meter, name, handler, method)
        if self._tracer is not NO_TRACER and name.startswith(OWN_PACKAGE):
            method = traced(self._tracer, name.removeprefix("/"), method)
        kind = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return kind(method, tolerant(handler.request_deserializer), handler.response_serializer)


def trace_of(metadata: Metadata) -> Trace | None:
    """Return the trace of a call. None: its metadata names none, or more than one."""
    parent, state = "", ""
    for key, value in metadata:
        if key == "traceparent":
            if parent:
                return None
            parent = str(value)
        elif key == "tracestate" and len(state) <= MAX_STATE_CHARACTERS:
            # One list in several parts, by the specification. One that is too long counts as none,
            # and is not put together: it may have thousands of parts.
            state = f"{state},{value!s}" if state else str(value)
    return Trace.read(parent, state) if parent else None
