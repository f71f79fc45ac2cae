"""What the ticking agent says: pieces that carry when they were said; and what it is told.

The clock is the system's monotonic one, which all processes of a machine share.
"""

import time
from dataclasses import asdict, dataclass
from json import dumps, loads
from typing import Self

_END = ";"


@dataclass(frozen=True)
class Script:
    """The message of a turn: how much is to be said, and how fast."""

    pieces: int
    per_s: float

    def as_message(self) -> str:
        return dumps(asdict(self))

    @classmethod
    def of(cls, message: str) -> Self:
        return cls(**loads(message))


@dataclass(frozen=True)
class Piece:
    number: int
    said_ns: int
    late_us: int
    """How long after its time the agent came to say it."""


def piece_text(number: int, due_ns: int) -> str:
    """Return a piece that is said now."""
    now_ns = time.monotonic_ns()
    return f"{number}:{now_ns}:{(now_ns - due_ns) // 1000}{_END}"


def pieces_of(text: str) -> list[Piece]:
    """Return the pieces that a text consists of. Raises: ValueError: it is cut or broken."""
    if not text:
        return []
    *parts, rest = text.split(_END)
    if rest:
        raise ValueError("a piece was cut")
    return [Piece(*map(int, part.split(":"))) for part in parts]
