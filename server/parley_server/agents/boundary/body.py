"""The body of a response, decoded and bounded."""

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress

import httpx2

from parley_server.agents.boundary.errors import BrokenStreamError

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of an answer that is no stream: it is held whole."""
MAX_ERROR_BYTES = 64 * 1024
"""So much of an error's body is read; the rest says nothing more."""
ERROR_S = 10.0
"""So long it is read: its status is known already."""
MAX_STREAM_BYTES = 256 * 1024 * 1024
"""Of a stream, which is not held; each event counts for EVENT_COST_BYTES more."""
EVENT_COST_BYTES = 1024
_PIECE_BYTES = 64 * 1024

_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
"""How zlib is told of a coding. Some servers send `deflate` without its header."""
_GZIP = b"\x1f\x8b"
_JSON_OR_EVENTS = re.compile(rb"\s*(\{|:|data|event|id|retry)")
"""How a body begins that is not coded, though a proxy which has decoded it still says so."""
_UNKNOWN = frozenset({"br", "zstd", "compress", "x-compress"})


async def decoded(stream: AsyncIterator[bytes], coding: str) -> AsyncGenerator[bytes, None]:
    """Return the body without its content coding, in pieces of at most 64 KiB.

    Raises: BrokenStreamError: the coding is not known, or broken.
    """
    words = [word.strip().lower() for word in coding.split(",")]
    real = [word for word in words if word in _WINDOWS or word in _UNKNOWN]
    if not real:  # identity, or a word that is no coding, such as `none`
        async for data in stream:
            yield data
        return
    if len(real) > 1 or real[0] not in _WINDOWS:
        raise BrokenStreamError("a content coding that was not asked for")
    inflate: _Inflate | None = None
    is_plain: bool | None = None
    async for data in stream:
        if is_plain is None and data:
            is_plain = _JSON_OR_EVENTS.match(data) is not None
            inflate = None if is_plain else _Inflate(_WINDOWS[real[0]])
        for piece in [data] if inflate is None else inflate.feed(data):
            yield piece


class _Inflate:
    def __init__(self, windows: tuple[int, ...]) -> None:
        self._windows = list(windows)
        self._window = self._windows.pop(0)
        self._inflater = zlib.decompressobj(self._window)
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            try:
                piece = self._inflater.decompress(data, _PIECE_BYTES)
            except zlib.error:
                if self._has_begun or not self._windows:
                    raise BrokenStreamError("a broken content coding") from None
                self._window = self._windows.pop(0)
                self._inflater = zlib.decompressobj(self._window)
                continue
            self._has_begun = True
            data = self._inflater.unconsumed_tail
            if piece:
                yield piece
            if self._inflater.eof:  # another member may follow
                data = self._inflater.unused_data
                if not data.startswith(_GZIP):
                    return
                self._inflater = zlib.decompressobj(self._window)


async def whole(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Return a body that is no stream.

    Raises: BrokenStreamError: it is longer than its bound.
    """
    size = 0
    async for data in pieces:
        size += len(data)
        if size > MAX_BODY_BYTES:
            raise BrokenStreamError("a body is too long")
        yield data


async def beginning(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Return as much of an error's body as is read. What breaks it or holds it up ends it."""
    left = MAX_ERROR_BYTES
    until_s = asyncio.get_running_loop().time() + ERROR_S
    with suppress(BrokenStreamError, httpx2.TransportError, TimeoutError):
        while left > 0:
            async with asyncio.timeout_at(until_s):
                data = await anext(pieces, None)
            if data is None:
                return
            yield data[:left]
            left -= len(data)
