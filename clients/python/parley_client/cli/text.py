"""Makes text safe for a terminal, and times readable for people."""

import re
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
_INVISIBLE = (  # Unicode's categories Cf, Zl and Zp, without the Arabic signs that are seen
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_JOINERS = "\u200c\u200d"
_ASCII = r"\x00-\x7f"
_HARMFUL = re.compile(
    # Emoji, and the scripts of Persia and India, are written with joiners; no Latin word is.
    f"[{_CONTROL}{_INVISIBLE}]|(?<![^{_ASCII}{_INVISIBLE}{_JOINERS}])[{_JOINERS}]"
)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ELLIPSIS = "…"


def harmless(text: str) -> str:
    """Return the text with invisible characters made visible, except line feed and tab.

    A model, a tool or another user wrote the text. An escape sequence in it could move the cursor,
    change the title or the clipboard, or hide what stands before it. A bidirectional override
    changes the order in which text is shown, and characters without a width hide what is there.
    """
    return _HARMFUL.sub(_visible, text.replace("\r\n", "\n"))


class HarmlessPieces:
    """Does the same for text that comes in pieces, which may be cut anywhere."""

    def __init__(self) -> None:
        self._held = ""
        """A carriage return that ended a piece: the next piece may begin with its line feed."""
        self._last = ""
        """The last character so far: a joiner may follow it."""

    def piece(self, text: str) -> str:
        """Return what a piece adds to the text that may be shown."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        before = harmless(self._last)
        shown = harmless(self._last + text)[len(before) :]
        self._last = text[-1:] or self._last
        return shown

    def rest(self) -> str:
        """End the text and return what was held back."""
        held, self._held = self._held, ""
        return harmless(held)


def _visible(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x20:
        return chr(0x2400 + number)  # Unicode's pictures of them: ␛
    if number < 0xA0:
        return "␡" if number == 0x7F else f"\\x{number:02x}"
    return f"⟨U+{number:04X}⟩"


def one_line(text: str, length: int | None = 100) -> str:
    """Return the text on one line, harmless, cut with an ellipsis beyond `length` characters.

    Args:
        length: of what is returned, in which an invisible character takes several. None: not cut.
    """
    joined = harmless(" ".join(text.split()))
    return joined if length is None or len(joined) <= length else joined[: length - 1] + ELLIPSIS


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago something was: "5 minutes ago"; beyond a month, its date."""
    age = (now or datetime.now(UTC)) - moment
    if age < _MINUTE:
        return "just now"
    if age < _HOUR:
        return f"{counted(age // _MINUTE, 'minute')} ago"
    if age < _DAY:
        return f"{counted(age // _HOUR, 'hour')} ago"
    if age < 30 * _DAY:
        return f"{counted(age // _DAY, 'day')} ago"
    return moment.date().isoformat()


def moment_of(timestamp: Timestamp) -> datetime:
    """Return the time of a proto timestamp, in UTC."""
    return timestamp.ToDatetime(tzinfo=UTC)


def ago_of(timestamp: Timestamp) -> str:
    """Return how long ago a proto timestamp was."""
    return ago(moment_of(timestamp))


def counted(count: int, unit: str) -> str:
    """Return a number of things: "1 message", "1,000 messages"."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"
