"""Text that is fit for a terminal, and times that are fit for people."""

import re
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ELLIPSIS = "…"


def harmless(text: str) -> str:
    """Return the text with every control character but line feed and tab made visible.

    A model, a tool or another user wrote it: raw, an escape sequence in it could move the cursor,
    change the title or the clipboard, or hide what stands before it.
    """
    return _CONTROL.sub(_visible, text.replace("\r\n", "\n"))


class HarmlessPieces:
    """The same for text that comes in pieces, which may be cut anywhere."""

    def __init__(self) -> None:
        self._held = ""
        """A carriage return that ended a piece: the next one may begin with its line feed."""

    def piece(self, text: str) -> str:
        """Return what may be shown of the text so far and has not been returned yet."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        return harmless(text.removesuffix("\r"))

    def rest(self) -> str:
        """Return what was held back: the text ends here."""
        held, self._held = self._held, ""
        return harmless(held)


def _visible(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x20:
        return chr(0x2400 + number)  # Unicode's pictures of them: ␛
    return "␡" if number == 0x7F else f"\\x{number:02x}"


def one_line(text: str, length: int = 100) -> str:
    """Return the text on one line, harmless, cut with a mark beyond `length` characters."""
    joined = harmless(" ".join(text.split()))
    return joined if len(joined) <= length else joined[: length - 1] + ELLIPSIS


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Say when something was, as seen from now: "5 minutes ago"; beyond a month, its date."""
    age = (now or datetime.now(UTC)) - moment
    if age < _MINUTE:
        return "just now"
    if age < _HOUR:
        return _counted(age // _MINUTE, "minute")
    if age < _DAY:
        return _counted(age // _HOUR, "hour")
    if age < 30 * _DAY:
        return _counted(age // _DAY, "day")
    return moment.date().isoformat()


def moment_of(timestamp: Timestamp) -> datetime:
    """Return a time of the contract's."""
    return timestamp.ToDatetime(tzinfo=UTC)


def ago_of(timestamp: Timestamp) -> str:
    """Say when a time of the contract's was, as seen from now."""
    return ago(moment_of(timestamp))


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'s' if count > 1 else ''} ago"
