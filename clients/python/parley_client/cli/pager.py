"""Sends text that is longer than the screen through a pager."""

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import Any, TextIO

from rich.text import Text

# R: colours are shown. X: what was read stays on the screen.
_LESS_OPTIONS = "RX"


class _Paged(io.TextIOBase):
    """Holds output back until it is longer than the screen; then starts a pager for it."""

    encoding = "utf-8"

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._held: list[str] = []
        self._rows_left, self._columns = _size()
        self.pager: subprocess.Popen[str] | None = None

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return sys.stdout.fileno()

    def write(self, text: str) -> int:
        if self.pager is not None and self.pager.stdin is not None:
            self.pager.stdin.write(text)
            return len(text)
        self._held.append(text)
        for line in text.split("\n")[:-1]:
            self._rows_left -= max(1, ceil(Text.from_ansi(line).cell_len / self._columns))
        if self._rows_left < 1:  # the prompt needs a row, too
            self._start()
        return len(text)

    def flush(self) -> None:
        """Do nothing: the pager shows whole pages."""

    def end(self) -> None:
        """Show what fits on the screen, or wait until the pager ends."""
        if self.pager is None:
            sys.stdout.write("".join(self._held))
            sys.stdout.flush()
            return
        with suppress(BrokenPipeError):
            self.pager.communicate()

    def _start(self) -> None:
        environment = {"LESS": _LESS_OPTIONS, "LV": "-c", **os.environ}
        self.pager = subprocess.Popen(  # noqa: S603 - the user's own command
            self._command, stdin=subprocess.PIPE, env=environment, text=True, encoding="utf-8"
        )
        # Ctrl-C is for the pager, where it ends a search. It must not end this process under it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        held, self._held = "".join(self._held), []
        self.write(held)


@contextmanager
def paged(*, is_wanted: bool = True) -> Iterator[TextIO]:
    """Give the block a stream to write to: standard output, or $PAGER once it is long enough.

    Quitting the pager ends the block without an error.
    """
    command = _command() if is_wanted and _is_seen() else None
    if command is None:
        yield sys.stdout
        return
    before = signal.getsignal(signal.SIGINT)
    stream: Any = _Paged(command)
    try:
        yield stream
    except BrokenPipeError:
        if stream.pager is None:
            raise
    finally:
        try:
            stream.end()
        finally:
            signal.signal(signal.SIGINT, before)


def _command() -> list[str] | None:
    """Return the pager's command; None: there is no pager."""
    wanted = os.environ.get("PAGER", "less")
    try:
        words = shlex.split(wanted)
    except ValueError:
        return None
    if not words or words == ["cat"] or shutil.which(words[0]) is None:
        return None
    return words


def _is_seen() -> bool:
    is_dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    return max(2, size.lines) - 1, max(1, size.columns)
