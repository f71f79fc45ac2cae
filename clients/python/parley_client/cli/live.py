"""Shows text that comes in pieces: as it is, or as Markdown."""

import time
from collections.abc import Callable
from math import ceil
from os.path import commonprefix
from threading import RLock, Timer
from typing import Protocol

from rich.console import Console
from rich.text import Text

from parley_client.cli.markdown import MarkdownRenderer, whole_blocks
from parley_client.cli.text import HarmlessPieces

Write = Callable[[str], None]

_PAUSE_S = 0.05
"""Between two drawings, and four times as long as one of them takes."""


class View(Protocol):
    """Shows one text."""

    def say(self, piece: str) -> None:
        """Show more of it."""

    def end(self) -> None:
        """End the text: show what was held back. The next piece begins another text."""


class AsItIs:
    """Writes every character as it comes."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def say(self, piece: str) -> None:
        self._write(piece)

    def end(self) -> None:
        """Do nothing: nothing was held back."""


class Harmless:
    """Writes text as it comes to a terminal, without its control characters; ends the last line."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._pieces = HarmlessPieces()
        self._is_mid_line = False

    def say(self, piece: str) -> None:
        self._show(self._pieces.piece(piece))

    def end(self) -> None:
        self._show(self._pieces.rest())
        if self._is_mid_line:
            self._show("\n")

    def _show(self, text: str) -> None:
        if text:
            self._write(text)
            self._is_mid_line = not text.endswith("\n")


class LiveMarkdown:
    """Draws Markdown as it comes: complete blocks are final, the last one is drawn again.

    Only changed lines are drawn again, so that nothing flickers. A block higher than the screen
    shows its end until it is complete. Then it is printed from its beginning, so that nothing is
    missing above.
    """

    def __init__(self, terminal: Console, write: Write) -> None:
        self._terminal = terminal
        self._renderer = MarkdownRenderer(terminal)
        self._write = write
        self._pieces = HarmlessPieces()
        self._lock = RLock()
        self._timer: Timer | None = None
        self._draws_at = 0.0
        self._text = ""
        """The text that is not final yet."""
        self._has_printed = False
        self._drawn: list[str] = []
        """The lines of it that are on the screen. The cursor is behind the last one."""
        self._is_mid_line = False
        """The cursor is behind a line, not at the beginning of one."""

    def say(self, piece: str) -> None:
        with self._lock:
            self._text += self._pieces.piece(piece)
            if self._timer is None:
                pause_s = max(0.0, self._draws_at - time.monotonic())
                self._timer = Timer(pause_s, self._draw)
                self._timer.daemon = True
                self._timer.start()

    def end(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._text += self._pieces.rest()
            self._show(self._rendered(self._text), [])
            if self._is_mid_line:
                self._write("\n")
            self._timer, self._text, self._drawn = None, "", []
            self._has_printed = self._is_mid_line = False

    def _draw(self) -> None:
        with self._lock:
            if self._timer is None:  # the text has ended meanwhile
                return
            self._timer = None
            begun = time.monotonic()
            whole = whole_blocks(self._text)
            printed = self._rendered(self._text[:whole])
            self._has_printed = self._has_printed or bool(printed)
            self._text = self._text[whole:]
            self._show(printed, self._rendered(self._text))
            took_s = time.monotonic() - begun
            self._draws_at = begun + took_s + max(_PAUSE_S, 4 * took_s)

    def _rendered(self, text: str) -> list[str]:
        """Return the lines of a text, below an empty one if something was printed before."""
        lines = self._renderer.lines(text)
        return ["", *lines] if lines and self._has_printed else lines

    def _show(self, printed: list[str], live: list[str]) -> None:
        """Replace what was drawn by lines; the printed ones are final."""
        live = live[-max(1, self._terminal.height - 1) :]
        lines = [*printed, *live]
        same = len(commonprefix([self._drawn, lines]))  # noqa: RUF071 - of lines, line by line
        if same < len(self._drawn):
            same = max(0, min(same, len(lines) - 1))  # the cursor has to end behind the last line
            up = sum(map(self._rows, self._drawn[same:])) - 1
            start = f"\x1b[{up}A\r" if up else "\r"
            self._write(start + "\n".join(f"{line}\x1b[K" for line in lines[same:]) + "\x1b[J")
            self._is_mid_line = bool(lines)
        elif same < len(lines):
            self._write("\n" * self._is_mid_line + "\n".join(lines[same:]))
            self._is_mid_line = True
        self._drawn = live

    def _rows(self, line: str) -> int:
        """Return how many rows a drawn line takes: more than one if the window became narrower."""
        return max(1, ceil(Text.from_ansi(line).cell_len / self._terminal.width))
