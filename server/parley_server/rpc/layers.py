"""What every call of Parley's own services goes through, from the outside in.

    0. metered          only if there are metrics; counts what callers are sent
    1. told_errors      outermost, so that no call ends without a status of Parley's
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

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
import structlog
from grpc.aio import EOF  # type: ignore[attr-defined] # its types lack it

from parley_server.core.attempt import place
from parley_server.core.errors import (
    InternalError,
    InvalidRequest,
    Overloaded,
    ParleyError,
    Unauthenticated,
    Violation,
)
from parley_server.core.patience import wait_until
from parley_server.core.ports import TokenVerifier
from parley_server.core.tracing import current_trace
from parley_server.core.turnstile import Turnstile
from parley_server.rpc import acting
from parley_server.rpc.admission import Admission, Arrivals, Places, UnsentAnswers
from parley_server.rpc.call import Call, current_call
from parley_server.rpc.door import Door
from parley_server.rpc.errors import told
from parley_server.rpc.metering import CallMeter, count_unknown, metered
from parley_server.rpc.tracing import trace_of

log = structlog.get_logger("parley.rpc")

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Awaitable[Any]]
Metadata = Iterable[tuple[str, str | bytes]]

OWN_PACKAGE = "/parley."
HEALTH = "/grpc.health."


class Malformed:
    """Stands for a request whose bytes are no such message."""


MALFORMED = Malformed()
NO_MESSAGE = Violation("", "MALFORMED", "the bytes are no message of this method's type")
RECEIVE_S = 10.0
"""How long a request's message may take to arrive once its call has begun."""
NOT_THERE = Violation("", "INCOMPLETE", "the message did not arrive soon after its metadata")


def told_errors(method: Method) -> Method:
    """Turn whatever a call ends with into a status."""

    async def with_told_errors(request: Any, context: Context) -> Any:  # noqa: RET503 - abort raises
        call = Call()
        current_call.set(call)
        if (time_left_s := context.time_remaining()) is not None:
            wait_until(asyncio.get_running_loop().time() + time_left_s)
        try:
            return await method(request, context)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the caller is gone, or the server stops
            failure: BaseException = error  # would end the call without a status
        except grpc.aio.AbortError:
            raise  # by health's own servicer: its caller has been told
        except Exception as error:
            failure = error
        what = told(failure, call.id, is_repeatable=call.is_repeatable)
        await context.abort(what.code, what.text, what.trailing_metadata)

    return with_told_errors


def logged(name: str, method: Method) -> Method:
    """Write one line at the end of every call. Never what was said, never a token."""

    async def with_log(request: Any, context: Context) -> Any:
        call = current_call.get()
        started = time.perf_counter()
        code = "OK"
        failure: BaseException | None = None
        try:
            return await method(request, context)
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:
            code = told(error, call.id).code.name
            failure = error
            raise
        finally:
            fields: dict[str, Any] = {
                "call_id": call.id,
                "method": name,
                "code": code,
                "duration_ms": round((time.perf_counter() - started) * 1000, 1),
            }
            if call.caller is not None:
                fields["owner_id"] = str(call.caller.owner.id)
            if call.acting is not None:
                fields["acting_owner_id"] = str(call.acting.id)
            if call.request_id:
                fields["request_id"] = call.request_id
            if call.turn_id:
                fields["turn_id"] = call.turn_id
            if failure is None:
                log.info("call", **fields)
            elif isinstance(failure, InternalError) and failure.error:
                log.error("call", error=failure.error, place=failure.place, **fields)
            elif isinstance(failure, ParleyError):
                log.info("call", reason=told(failure, call.id).reason, **fields)
            else:
                log.error("call", error=type(failure).__name__, place=place(failure), **fields)

    return with_log


def authenticated(verifier: TokenVerifier, method: Method) -> Method:
    """Learn who calls, from the one bearer token, and for whom. No other metadata is believed."""

    async def with_caller(request: Any, context: Context) -> Any:
        call = current_call.get()
        metadata = context.invocation_metadata() or ()
        call.caller = caller = await verifier.verify(_bearer_token(metadata))
        if users := [value for key, value in metadata if key == acting.USER]:
            call.caller = acting.acting_for(caller, users)
            call.acting = caller.owner
        return await method(request, context)

    return with_caller


def _bearer_token(metadata: Metadata) -> str:
    tokens = [value for key, value in metadata if key == "authorization"]
    if len(tokens) != 1 or not isinstance(tokens[0], str):
        raise Unauthenticated
    scheme, _, token = tokens[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    return token


def admitted(places: Places, unsent: UnsentAnswers, method: Method, *, is_read: bool) -> Method:
    """Take a place until the answer is sent, and count the answer until then if it comes whole.

    An owner that leaves its answers untaken is refused here, before anything is done for it.

    Args:
        is_read: the answer may be thrown away and asked for again.
    """

    async def with_place(request: Any, context: Context) -> Any:
        owner = current_call.get().owner_id
        unsent.check(owner)
        places.take(owner)
        context.add_done_callback(lambda _: places.leave(owner))  # type: ignore[arg-type] # by position
        answer = await method(request, context)
        if answer is not None:
            size = answer.ByteSize()
            if is_read:
                try:
                    unsent.check(owner, size)
                except Overloaded:
                    del answer  # the error holds on to this frame, for as long as it is told
                    raise
            unsent.add(owner, size)
            context.add_done_callback(
                lambda _: unsent.remove(owner, size)  # type: ignore[arg-type] # the same
            )
        return answer

    return with_place


def limited(places: Places, method: Method) -> Method:
    """Take a place, of those that a connection may have, for as long as the call lasts."""

    async def with_place(request: Any, context: Context) -> Any:
        key = context.peer()
        places.take(key)
        try:
            return await method(request, context)
        finally:
            places.leave(key)

    return with_place


def received(receiving: Turnstile, method: Method) -> Method:
    """Wait for the request's message, in turn between owners.

    Args:
        receiving: how many messages may be on their way at once.
    """

    async def with_request(_: Any, context: Context) -> Any:
        is_receiving = False
        try:
            async with asyncio.timeout(RECEIVE_S), receiving.of(current_call.get().owner_id):
                is_receiving = True
                request = await context.read()
        except TimeoutError:
            if is_receiving:
                raise InvalidRequest([NOT_THERE]) from None
            raise Overloaded(is_owner_only=True) from None
        return await method(_whole(request), context)

    return with_request


def received_from_strangers(strangers: Arrivals, method: Method) -> Method:
    """Wait for the request's message of a caller without a token.

    Args:
        strangers: how many messages may be on their way at once.
    """

    async def with_request(_: Any, context: Context) -> Any:
        try:
            async with strangers.of(context.peer(), RECEIVE_S):
                request = await context.read()
        except TimeoutError:
            raise InvalidRequest([NOT_THERE]) from None
        return await method(_whole(request), context)

    return with_request


def _whole(request: Any) -> Any:
    """Return a request. Raises: InvalidRequest: its bytes are no such message."""
    if request is MALFORMED or request is EOF:
        raise InvalidRequest([NO_MESSAGE])
    return request


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:  # whatever the parser raises, it means this
            return MALFORMED

    return parse


class Layers(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # it takes none at run time
    """Puts the layers around every method of Parley's own services."""

    def __init__(
        self,
        verifier: TokenVerifier,
        admission: Admission,
        door: Door,
        meter: CallMeter | None = None,
    ) -> None:
        self._verifier = verifier
        self._admission = admission
        self._door = door
        self._meter = meter
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
            method = received(admission.receiving, method)
            places = admission.places_for(short_name)
            is_read = places is admission.reads
            method = admitted(places, admission.unsent, method, is_read=is_read)
            method = authenticated(self._verifier, method)
            method = logged(short_name, method)
        else:
            if handler.response_streaming:
                method = limited(admission.health_watches, method)
            method = received_from_strangers(admission.strangers, method)
        method = told_errors(method)
        if self._meter is not None:
            method = metered(self._meter, name, handler, method)
        kind = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return kind(method, _tolerant(handler.request_deserializer), handler.response_serializer)
