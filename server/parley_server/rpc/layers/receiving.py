"""Waiting for a request's message, and refusing bytes that are no such message."""

import asyncio
from collections.abc import Callable
from typing import Any

from grpc.aio import EOF  # type: ignore[attr-defined] # its types lack it

from parley_server.core.errors import InvalidRequest, Overloaded, Violation
from parley_server.core.turnstile import Turnstile
from parley_server.rpc.layers.call_record import current_call
from parley_server.rpc.layers.places import Arrivals, Bytes
from parley_server.rpc.layers.types import Context, Method


class Malformed:
    """Stands for a request whose bytes are no such message."""


MALFORMED = Malformed()
NO_MESSAGE = Violation("", "MALFORMED", "the bytes are not a message of this method's type")
RECEIVE_S = 10.0
"""How long a request's message may take to arrive once its call has begun."""
STRANGERS_BYTES = 1024
"""How long the message of a caller without a token may be: it names a service of a few letters."""
TOO_LONG = Violation("", "TOO_LONG", f"the message has more than {STRANGERS_BYTES} bytes")
NOT_THERE = Violation("", "INCOMPLETE", "the message did not arrive soon after its metadata")


def received(receiving: Turnstile, held: Bytes, method: Method) -> Method:
    """Wait for the request's message, in turn between owners.

    Args:
        receiving: how many messages may be on their way at once.
        held: how much the messages of all calls under way may be.
    """

    async def with_request(_: Any, context: Context) -> Any:
        owner = current_call.get().owner_id
        is_receiving = False
        try:
            async with asyncio.timeout(RECEIVE_S):
                if not receiving.enter_at_once(owner):
                    await receiving.enter(owner)
                is_receiving = True
                request = await context.read()
        except TimeoutError:
            if is_receiving:
                raise InvalidRequest([NOT_THERE]) from None
            raise Overloaded(is_owner_only=True) from None
        finally:
            if is_receiving:
                receiving.leave(owner)
        size = _whole(request).ByteSize()
        held.check(owner, size)
        held.add(owner, size)
        try:
            return await method(request, context)
        finally:
            held.remove(owner, size)

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
        if _whole(request).ByteSize() > STRANGERS_BYTES:
            raise InvalidRequest([TOO_LONG])
        return await method(request, context)

    return with_request


def _whole(request: Any) -> Any:
    """Return a request. Raises: InvalidRequest: its bytes are no such message."""
    if request is MALFORMED or request is EOF:
        raise InvalidRequest([NO_MESSAGE])
    return request


def tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a parser that returns MALFORMED where this one raises."""

    def parse(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:  # whatever the parser raises, it means this
            return MALFORMED

    return parse
