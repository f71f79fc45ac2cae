"""Thoughts that a model writes into its answer between tags.

The rule: a tag counts at the very beginning of a response's text, behind whitespace or another
block of thoughts, and only together with its closing tag. Everything else is text and stays as it
is. A block that is never closed is text if the response says that it is done, else thoughts: they
were cut.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

DEFAULT_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("[THINK]", "[/THINK]"),
)
MAX_HELD_CHARS = 1024 * 1024
"""A block that is longer than this is taken for thoughts before it is closed."""

MAX_BLANK_CHARS = 64 * 1024
"""So much whitespace at the beginning is waited through for a tag."""

_BLANK_LINES = re.compile(r"(?:[ \t]*\r?\n)+")


class Piece(NamedTuple):
    """A piece of a response."""

    kind: Literal["text", "thought"]
    content: str


@dataclass(slots=True)
class TaggedText:
    """Tells thoughts from text, wherever the pieces are cut. Without tags all of it is text."""

    tags: tuple[tuple[str, str], ...] = ()
    _state: Literal["start", "thoughts", "text"] = "start"
    _held: str = ""
    _behind_thoughts: bool = False
    _opening: str = ""
    """The opening tag of the block, with the whitespace before it."""
    _closing: str = ""
    _block: list[str] = field(default_factory=list)
    _block_chars: int = 0
    _is_certain: bool = False
    """The block is thoughts, closed or not."""

    def feed(self, text: str) -> Iterator[Piece]:
        """Return what is known now to be text or thoughts."""
        rest: str | None = text
        while rest is not None:
            if self._state == "text":
                if rest:
                    yield Piece("text", rest)
                return
            rest, self._held = self._held + rest, ""
            if self._state == "start":
                rest = self._begin(rest)
            else:
                rest = yield from self._think(rest)

    def end(self, *, is_done: bool) -> Iterator[Piece]:
        """Return what was held.

        Args:
            is_done: the response says that it is whole; it was not cut, and asks for no tools.
        """
        held, self._held = self._held, ""
        if self._state == "thoughts":
            block = "".join(self._block) + held
            if self._is_certain or not is_done:
                yield Piece("thought", block)
            else:
                yield Piece("text", self._opening + block)
        elif held:
            yield Piece("text", self._trimmed(held))
        self._state = "text"

    def drop_blank(self) -> None:
        """Forget whitespace that is all there is so far: tools are asked for, and no text said."""
        if self._state == "start" and not self._held.strip():
            self._held = ""

    def _trimmed(self, text: str) -> str:
        blank = _BLANK_LINES.match(text) if self._behind_thoughts else None
        return text[blank.end() :] if blank else text

    def _begin(self, text: str) -> str | None:
        """Look for an opening tag. Returns: what comes behind it; None: more is needed."""
        begun = text.lstrip()
        for opening, closing in self.tags:
            if begun.startswith(opening):
                blank = "" if self._behind_thoughts else text[: len(text) - len(begun)]
                self._state, self._opening, self._closing = "thoughts", blank + opening, closing
                return begun[len(opening) :]
        may_begin = not begun or any(opening.startswith(begun) for opening, _ in self.tags)
        if may_begin and len(text) <= MAX_BLANK_CHARS:
            self._held = text
            return None
        self._state = "text"
        return self._trimmed(text)

    def _think(self, text: str) -> Generator[Piece, None, str | None]:
        """Look for the closing tag. Returns: what comes behind it; None: more is needed."""
        thought, tag, rest = text.partition(self._closing)
        if tag:
            yield Piece("thought", "".join([*self._block, thought]))
            self._block.clear()
            self._block_chars, self._is_certain = 0, False
            self._state, self._behind_thoughts = "start", True
            return rest
        known = len(text) - _overlap(text, self._closing)
        self._held = text[known:]
        self._keep(text[:known])
        if self._is_certain:
            yield Piece("thought", "".join(self._block))
            self._block.clear()
        return None

    def _keep(self, thought: str) -> None:
        self._block.append(thought)
        self._block_chars += len(thought)
        self._is_certain = self._block_chars > MAX_HELD_CHARS


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of the text may be the beginning of the tag."""
    longest = min(len(text), len(tag) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
