"""Messages between a server's bytes and the library: too long ones, garbage, and lists of tools.

    half a character, no UTF-8                 → U+FFFD: the library refuses the whole message
    an answer that is none of the protocol     → an error in its place, so that its call ends
    anything else that is no message           → left out

The library takes a list of tools as a whole or not at all. So that one bad tool does not take the
others with it, it is left out before.
"""

import json
import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from parley_server.agents.mcp.listing import LeftOut, read_tools

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Of one message of a server: a result is cut to 64 KiB, an image to a sentence."""
TOO_LONG = f"The answer is longer than {MAX_MESSAGE_BYTES} bytes."
UNREADABLE = "The answer cannot be read."
_HEAD_BYTES = 256
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
"""A whole character of two halves, one half alone, or any other escape."""
_MAX_DIGITS = 30
"""Python refuses to read the longest numbers; an id is shorter."""
_HALF = len(rb"\ud83d")
_ID = re.compile(
    rb'^\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,18}|"[^"\\]{1,64}")'
)

Complain = Callable[[LeftOut], None]
Incoming = SessionMessage | Exception


class Lines:
    """Cuts bytes into lines, and holds one line of MAX_MESSAGE_BYTES at most."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._is_too_long = False

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bool]]:
        """Take bytes. Returns: lines, and whether it is a beginning of one that is too long."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._take(chunk[start:end])
            yield bytes(self._line), self._is_too_long
            self._line, self._is_too_long = bytearray(), False
            start = end + 1
        self._take(chunk[start:])

    def _take(self, part: bytes) -> None:
        if self._is_too_long:
            return
        self._line += part
        if len(self._line) > MAX_MESSAGE_BYTES:
            self._line = self._line[:_HEAD_BYTES]
            self._is_too_long = True


def readable(data: bytes) -> bytes:
    """Return JSON with U+FFFD in the place of halves of characters and of what is no UTF-8."""
    if _SURROGATE.search(data):
        data = _ESCAPE.sub(_whole, data)
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="replace").encode()
    return data


def _whole(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if len(escape[0]) == _HALF else escape[0]


def message_of(line: bytes) -> SessionMessage | None:
    """Return the message in a line; None: there is none.

    Of an answer that is none of the protocol: an error in its place.
    """
    data = readable(line.removeprefix(_BOM))
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(data, by_name=False))
    except (ValueError, RecursionError):
        return _error_for(data)


def _error_for(data: bytes) -> SessionMessage | None:
    try:
        found = json.loads(data, parse_int=lambda digits: int(digits[:_MAX_DIGITS]))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not ("result" in found or "error" in found):
        return None
    if "jsonrpc" not in found and not isinstance(found.get("result"), dict):
        return None  # a line of a log, which has the same words
    request_id = found.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        return None
    return _refusal(request_id, PARSE_ERROR, UNREADABLE)


def _refusal(request_id: int | str, code: int, text: str) -> SessionMessage:
    error = ErrorData(code=code, message=text)
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=request_id, error=error))


def refusal_of(head: bytes) -> SessionMessage | None:
    """Return an error in the place of an answer that is too long; None: its call is unknown."""
    found = _ID.match(head)
    if found is None:
        return None
    text = found[1].decode(errors="replace")
    request_id = text[1:-1] if text.startswith('"') else int(text)
    return _refusal(request_id, INVALID_REQUEST, TOO_LONG)


class CleanedStream:
    """Messages of a server; lists of tools hold only those that can be used."""

    def __init__(self, stream: Any, complain: Complain) -> None:
        self._stream = stream
        self._complain = complain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> "CleanedStream":
        return self

    async def __anext__(self) -> Incoming:
        return self._cleaned(await self._stream.__anext__())

    async def receive(self) -> Incoming:
        return self._cleaned(await self._stream.receive())

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> "CleanedStream":
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        ended: bool | None = await self._stream.__aexit__(kind, error, trace)
        return ended

    def _cleaned(self, item: Incoming) -> Incoming:
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCResponse) and isinstance(message.result.get("tools"), list):
            usable, left_out = read_tools(message.result["tools"])
            message.result["tools"] = [
                {"name": tool.name, "description": tool.description, "inputSchema": tool.schema}
                for tool in usable
            ]
            cursor = message.result.get("nextCursor")
            if not isinstance(cursor, str) or not cursor:  # some say so that there is no more
                message.result.pop("nextCursor", None)
            for complaint in left_out:
                self._complain(complaint)
        return item
