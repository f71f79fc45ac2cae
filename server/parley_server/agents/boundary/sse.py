"""Server-sent events out of bytes, however these are cut, ended and interspersed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from parley_server.agents.boundary.errors import BrokenStreamError

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Of a line, of an event and the keep-alives before it, and of JSON in place of a stream."""
_LINE_COST_BYTES = 64
"""What a line takes beside its text."""

_LONGEST_MARK = 32
_LINE_END = re.compile(rb"[\r\n]")
_BLANK = b"\xef\xbb\xbf \t"
"""What may stand before a line: byte order marks and indents."""
_DONE = "[DONE]"
_DATA_AGAIN = re.compile(rb"^(\s*data:)+", re.IGNORECASE)
"""Some proxies write the field's name before what has it already. No JSON begins so."""
_QUOTES = re.compile(r"[\s\"']+")


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Args:
        name: empty: it has none.
        data: empty: a keep-alive.
        is_body: it is no event, but the whole body: JSON in reply to a request for a stream.
    """

    name: str = ""
    data: str = ""
    is_body: bool = False

    @property
    def is_done(self) -> bool:
        """Whether this is the end mark of Chat Completions."""
        if len(self.data) > _LONGEST_MARK and not self.data.startswith(_DONE):
            return False
        word = _QUOTES.sub("", self.data).upper()
        return word == "DONE" or word.startswith(_DONE)


@dataclass(slots=True)
class Lines:
    """Cuts bytes into lines that end with CR, LF or CRLF.

    Guarantees: never holds more than a line's bound.
    """

    _buffer: bytearray = field(default_factory=bytearray)
    _skip_lf: bool = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Return the lines that are whole now.

        Raises: BrokenStreamError: a line exceeds its bound.
        """
        start = 0
        for match in _LINE_END.finditer(data):
            end = match.start()
            if self._skip_lf and end == start and data[end] == 10:
                self._skip_lf = False
                start = end + 1
                continue
            self._keep(data, start, end)
            line = bytes(self._buffer)
            self._buffer.clear()
            self._skip_lf = data[end] == 13
            start = end + 1
            yield line
        if start < len(data):
            self._keep(data, start, len(data))

    def end(self) -> bytes:
        """Return what comes after the last line's end."""
        return bytes(self._buffer)

    def _keep(self, data: bytes, start: int, end: int) -> None:
        self._skip_lf = False
        if len(self._buffer) + end - start > MAX_EVENT_BYTES:
            raise BrokenStreamError("a line is too long")
        self._buffer += memoryview(data)[start:end]


@dataclass(slots=True)
class Events:
    """Reads events; comments, `id`, `retry` and events without data are left out."""

    _lines: Lines = field(default_factory=Lines)
    _name: str = ""
    _data: list[str] = field(default_factory=list)
    _event_bytes: int = 0
    _is_beginning: bool = True
    """Nothing has come so far, so that it is not known whether this is a stream of events."""
    _body: bytearray | None = None
    """Set: the body is JSON, and this is what there is of it."""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Return the events that are whole now.

        Raises: BrokenStreamError: a bound is exceeded, or it is no UTF-8.
        """
        if self._is_beginning:
            self._event_bytes += len(data)
            data = data.lstrip(_BLANK + b"\r\n")
            if not data:  # as good as none, however much there is
                if self._event_bytes > MAX_EVENT_BYTES:
                    raise BrokenStreamError("no event at all")
                return
            self._is_beginning = False
            self._event_bytes = 0
            if data.startswith(b"{"):
                self._body = bytearray()
        if self._body is not None:
            self._hold(data)
            return
        for line in self._lines.feed(data):
            yield from self._read(line)

    def end(self) -> Iterator[Event]:
        """Return what the end of the bytes makes whole."""
        if self._body is not None:
            yield Event(data=_text(bytes(self._body)), is_body=True)
            return
        yield from self._read(self._lines.end())
        yield from self._dispatch()

    def _hold(self, data: bytes) -> None:
        if self._body is None or len(self._body) + len(data) > MAX_EVENT_BYTES:
            raise BrokenStreamError("a body is too long")
        self._body += data

    def _read(self, line: bytes) -> Iterator[Event]:
        self._event_bytes += len(line) + _LINE_COST_BYTES
        if self._event_bytes > MAX_EVENT_BYTES:
            raise BrokenStreamError("an event is too long")
        if not line:
            yield from self._dispatch()
            return
        line = line.lstrip(_BLANK)
        if line.startswith((b"{", _DONE.encode())):  # no field: JSON by itself, such as an error
            yield from self._dispatch()
            yield Event(data=_text(line))
            return
        field_name, _, raw = line.partition(b":")
        name = field_name.strip().lower()
        if name not in (b"data", b"event", b"error"):
            return
        value = _text(_DATA_AGAIN.sub(b"", raw) if name == b"data" else raw).removeprefix(" ")
        if name == b"error":  # no field either
            yield from self._dispatch()
            yield Event("error", value)
            return
        if name == b"event":
            if self._data:  # the blank line between two events is missing
                yield from self._dispatch()
            self._name = value.strip()
            return
        if self._is_whole() and value.lstrip().startswith(("{", _DONE)):
            yield from self._dispatch()
        self._data.append(value)

    def _is_whole(self) -> bool:
        """Return whether the data cannot go on in another line: no JSON has `}` before `{`."""
        if not self._data or not self._data[0].lstrip().startswith("{"):
            return False
        return self._data[-1].rstrip().endswith("}")

    def _dispatch(self) -> Iterator[Event]:
        name, data = self._name, "\n".join(self._data)
        self._name, self._data = "", []
        if name or data.strip():
            self._event_bytes = 0
            yield Event(name, data)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BrokenStreamError("no UTF-8") from None
