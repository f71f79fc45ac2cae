"""Puts the boundary before a provider's library: a hook of its HTTP client."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from itertools import count
from typing import Protocol, cast

import httpx2

from parley_server.agents.boundary.body import (
    EVENT_COST_BYTES,
    MAX_ERROR_BYTES,
    MAX_STREAM_BYTES,
    beginning,
    decoded,
    whole,
)
from parley_server.agents.boundary.chat import REASONING, ChatReader
from parley_server.agents.boundary.errors import BrokenStreamError, ProviderError
from parley_server.agents.boundary.messages import MessagesReader
from parley_server.agents.boundary.request import Request
from parley_server.agents.boundary.responses import ResponsesReader
from parley_server.agents.boundary.sse import Event, Events
from parley_server.core.failures import raised_at

log = logging.getLogger("parley.agents")

END_S = 10.0
"""So long the end mark is waited for when the answer is whole already, or something more of it."""

DRAIN_S = 1.0
"""So long the end of the body is waited for, once the answer is over."""

EVENTS_AT_ONCE = 64
"""After so many events others get their turn, though the provider has written more."""

_IS_STREAM = re.compile(rb'"stream"\s*:\s*true')
_CODINGS = ("content-encoding", "content-length", "transfer-encoding")


class Reader(Protocol):
    """Reads the events of one response, and returns what the library is given."""

    @property
    def is_over(self) -> bool: ...

    @property
    def may_end(self) -> bool: ...

    @property
    def progress(self) -> int: ...

    def feed(self, event: Event) -> Iterator[bytes]: ...

    def end(self) -> Iterator[bytes]: ...

    def used(self) -> Iterator[bytes]: ...


class Boundary:
    """The boundary of one model.

    Args:
        tags: see ChatReader.
    """

    def __init__(
        self,
        tags: tuple[tuple[str, str], ...] = (),
        library_tags: tuple[str, str] = ("<think>", "</think>"),
        reasoning: tuple[str, ...] = REASONING,
    ) -> None:
        self.tags = tags
        self.library_tags = library_tags
        self.reasoning = reasoning

    def guard(self, client: httpx2.AsyncClient) -> None:
        """Let every response to this client pass through the boundary.

        A hook, and no transport: with a custom transport, a client would no longer heed the
        proxies of its environment.
        """
        client.headers["accept-encoding"] = "identity"  # an answer is read as it is written
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "response": [*hooks["response"], self._receive]}

    async def _receive(self, response: httpx2.Response) -> None:
        coding = response.headers.get("content-encoding", "")
        raw = cast(httpx2.AsyncByteStream, response.stream)
        pieces = decoded(aiter(raw), coding)
        for name in _CODINGS:
            response.headers.pop(name, None)
        reader = self._reader(response)
        if not response.is_success:
            read = beginning(pieces)
        elif reader is None:
            read = whole(pieces)
        else:
            read = _events(pieces, reader)
        response.stream = _Body(raw, pieces, _translated(read, response.request))

    def _reader(self, response: httpx2.Response) -> Reader | None:
        request = response.request
        try:
            is_stream = _IS_STREAM.search(request.content) is not None
        except httpx2.RequestNotRead:
            return None
        path = request.url.path
        if not is_stream:
            return None
        asked = Request(lambda: request.content)
        if path.endswith("/chat/completions"):
            return ChatReader(asked, self.tags, self.library_tags, self.reasoning)
        if path.endswith("/responses"):
            return ResponsesReader(asked)
        if path.endswith("/messages"):
            return MessagesReader(asked)
        return None


class _Body(httpx2.AsyncByteStream):
    """What the library reads. It may begin again where it stopped, to drain the connection."""

    def __init__(
        self,
        raw: httpx2.AsyncByteStream,
        pieces: AsyncGenerator[bytes, None],
        read: AsyncGenerator[bytes, None],
    ) -> None:
        self._raw = raw
        self._pieces = pieces
        self._read = read

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Again(self._read)

    async def aclose(self) -> None:
        for generator in (self._read, self._pieces):
            with suppress(RuntimeError):  # it is being read: its reader ends it
                await generator.aclose()
        await self._raw.aclose()


class _Again:
    """An iterator that its reader cannot close."""

    def __init__(self, read: AsyncGenerator[bytes, None]) -> None:
        self._read = read

    def __aiter__(self) -> "_Again":
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._read)


async def _translated(
    read: AsyncGenerator[bytes, None], request: httpx2.Request
) -> AsyncGenerator[bytes, None]:
    """Return what is read; what breaks it is an error of the connection for the library."""
    try:
        async for data in read:
            yield data
    except ProviderError as error:
        told = {"type": "error", "error": error.error}
        yield b"event: error\ndata: " + json.dumps(told).encode() + b"\n\n"
    except BrokenStreamError as error:
        raise httpx2.RemoteProtocolError(str(error), request=request) from None
    finally:
        await read.aclose()


async def _events(
    pieces: AsyncGenerator[bytes, None], reader: Reader
) -> AsyncGenerator[bytes, None]:
    """Return what a reader makes of the events of a stream; if it breaks, at last its usage."""
    try:
        try:
            async for event in _bounded(_patient(pieces, reader)):
                for out in _read_by(reader.feed(event)):
                    yield out
                if reader.is_over:
                    break
        except BrokenStreamError:
            if not reader.may_end:
                raise
        for out in _read_by(reader.end()):
            yield out
    except (BrokenStreamError, ProviderError, httpx2.TransportError):
        for out in reader.used():
            yield out
        raise
    await _drain(pieces)


def _read_by(out: Iterator[bytes]) -> Iterator[bytes]:
    """Return what a reader returns; what it cannot read at all breaks the stream, and is logged.

    An exception's text may hold what was said: the log gets type and place.
    """
    try:
        yield from out
    except (BrokenStreamError, ProviderError):
        raise
    except Exception as error:
        place = {"error": type(error).__name__, "place": raised_at(error)}
        log.error("a provider's stream cannot be read", extra=place)
        raise BrokenStreamError("it cannot be read") from None


async def _bounded(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[Event, None]:
    """Return the events of a stream; now and then others get their turn.

    Raises: BrokenStreamError: a bound is exceeded.
    """
    events = Events()
    left = MAX_STREAM_BYTES
    numbers = count(1)
    async for data in pieces:
        left -= len(data)
        for event in events.feed(data):
            left -= EVENT_COST_BYTES
            if left < 0:
                raise BrokenStreamError("a stream is too long")
            yield event
            if next(numbers) % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
    for event in events.end():
        yield event


async def _patient(
    pieces: AsyncGenerator[bytes, None], reader: Reader
) -> AsyncGenerator[bytes, None]:
    """Return the pieces. Once the answer is whole, what breaks them or holds them up ends them.

    Some servers say in each chunk that it is the last: what says more shows that it was not.
    """
    clock = asyncio.get_running_loop()
    until_s: float | None = None
    progress = 0
    while True:
        if reader.may_end and (until_s is None or reader.progress > progress):
            until_s, progress = clock.time() + END_S, reader.progress
        try:
            async with asyncio.timeout_at(until_s):
                data = await anext(pieces, None)
        except (TimeoutError, httpx2.TransportError, BrokenStreamError):
            if reader.may_end:
                return
            raise
        if data is None:
            return
        yield data


async def _drain(pieces: AsyncGenerator[bytes, None]) -> None:
    """Read what little comes behind the end, so that the connection can be used again."""
    left = MAX_ERROR_BYTES
    with suppress(httpx2.TransportError, BrokenStreamError, TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for data in pieces:
                left -= len(data)
                if left < 0:
                    return
