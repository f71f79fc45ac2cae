"""HTTP/2 by hand: what no library lets a client do.

Source: RFC 9113 (frames), RFC 7541 (a header is sent as a literal, which needs no tables), and
gRPC's own protocol over HTTP/2.
"""

import asyncio
import struct
from collections.abc import Iterable, Sequence
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
ACK = END_STREAM = 1
END_HEADERS = 4
CANCEL = struct.pack(">I", 8)
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_BYTES = 16_384
SERVICE = "/parley.v1.ConversationService/"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(body: bytes, *, is_compressed: bool = False) -> bytes:
    """Return a message as gRPC puts it into DATA frames."""
    return struct.pack(">BI", is_compressed, len(body)) + body


def _length(size: int) -> bytes:
    """Encode a string's length: seven bits, then seven at a time."""
    if size < 127:
        return bytes([size])
    parts, rest = [127], size - 127
    while rest >= 128:
        parts.append(rest % 128 + 128)
        rest //= 128
    return bytes([*parts, rest])


def _field(name: str, value: str) -> bytes:
    sent = value.encode(errors="surrogateescape")
    return b"".join([b"\0", _length(len(name)), name.encode(), _length(len(sent)), sent])


class Connection:
    """One connection, on which every frame is the test's own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._next = 1

    @classmethod
    async def opened(cls, port: int, settings: dict[int, int] = {}) -> Self:  # noqa: B006 - only read
        """Connect and greet. Settings: by number, as RFC 9113 names them."""
        connection = cls(*await asyncio.open_connection("127.0.0.1", port))
        values = b"".join(struct.pack(">HI", *pair) for pair in settings.items())
        connection.writer.write(PREFACE + frame(SETTINGS, 0, 0, values))
        await connection.writer.drain()
        return connection

    def begin(self, method: str, metadata: Iterable[tuple[str, str]]) -> tuple[int, bytes]:
        """Return a new stream's number, and the frames that its request begins with.

        Args:
            method: of Parley's service; with a slash in front, of any.
            metadata: names and values; bytes that are no UTF-8 as "surrogateescape" has them.
        """
        stream, self._next = self._next, self._next + 2
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method if method.startswith("/") else SERVICE + method),
            (":authority", "parley"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *metadata,
        ]
        block = b"".join(_field(*field) for field in fields)
        return stream, _headers(stream, block)

    def call(
        self, method: str, metadata: Iterable[tuple[str, str]], body: bytes
    ) -> tuple[int, bytes]:
        """Return a new stream's number, and all frames of its request, which fits into a window."""
        stream, head = self.begin(method, metadata)
        parts = [body[at : at + MAX_FRAME_BYTES] for at in range(0, len(body), MAX_FRAME_BYTES)]
        data = b"".join(frame(DATA, 0, stream, part) for part in parts[:-1])
        return stream, head + data + frame(DATA, END_STREAM, stream, parts[-1])

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def frames(self) -> tuple[int, int, int, bytes]:
        """Return the next frame: kind, flags, stream, payload. Raises: IncompleteReadError."""
        head = await self.reader.readexactly(9)
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        if kind in (PING, SETTINGS) and not flags & ACK:
            self.writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        return kind, flags, stream, payload

    async def upload(self, stream: int, body: bytes) -> None:
        """Send a request's body as the stream's window allows; stop if the server refuses it.

        The connection's window is left out: gRPC's is 4 MiB from the start.
        """
        sent, window, used = 0, 65_535, 0
        while sent < len(body):
            part = body[sent : sent + min(window - used, MAX_FRAME_BYTES)]
            if part:
                await self.send(frame(DATA, 0, stream, part))
                sent, used = sent + len(part), used + len(part)
                continue
            kind, flags, number, payload = await self.frames()
            if number == stream and (kind == RST_STREAM or flags & END_STREAM):
                return
            if number == stream and kind == WINDOW_UPDATE:
                used -= int.from_bytes(payload, "big")
            if kind == SETTINGS:
                pairs = dict(struct.iter_unpack(">HI", payload))
                window = pairs.get(INITIAL_WINDOW_SIZE, window)
        await self.send(frame(DATA, END_STREAM, stream))

    async def end_of(self, stream: int) -> bytes:
        """Return the payload of the frame that ends a stream: its status, or a reset's code."""
        while True:
            kind, flags, number, payload = await self.frames()
            if number == stream and (
                kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & END_STREAM)
            ):
                return payload

    async def until_closed(self) -> list[tuple[int, bytes]]:
        """Read to the end. Returns: the kind and the payload of every frame."""
        seen = []
        try:
            while True:
                kind, _, _, payload = await self.frames()
                seen.append((kind, payload))
        except (asyncio.IncompleteReadError, ConnectionError):
            return seen

    def close(self) -> None:
        self.writer.transport.abort()


def _headers(stream: int, block: bytes) -> bytes:
    parts: Sequence[bytes] = [
        block[start : start + MAX_FRAME_BYTES] for start in range(0, len(block), MAX_FRAME_BYTES)
    ]
    frames = []
    for number, part in enumerate(parts):
        flags = END_HEADERS if number == len(parts) - 1 else 0
        frames.append(frame(HEADERS if number == 0 else CONTINUATION, flags, stream, part))
    return b"".join(frames)
