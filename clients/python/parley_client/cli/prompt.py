"""Reads messages from a person: editable, of several lines, and remembered."""

import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from platformdirs import user_state_path
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle

from parley_client.cli.killing import signals_end

PROMPT = "> "
_MORE = "  "
_MOST_BYTES = 1 << 20
"""The most to remember, in bytes. Beyond it, the older half is removed."""


class Prompt(Protocol):
    """Asks for the next message."""

    def read(self) -> str:
        """Return what was written, which may have several lines.

        Raises: EOFError: Ctrl-D. KeyboardInterrupt: Ctrl-C. UnicodeError: it is not UTF-8.
        """


class Editor:
    """A prompt on a terminal that can be drawn on."""

    def __init__(self, words: list[str], *, remembers: bool) -> None:
        """Make a prompt.

        Args:
            words: what Tab completes at the start of a line.
            remembers: keep what is written for the next time, in a file that only its owner can
                read.
        """
        output = create_output(sys.stdout if sys.stdout.isatty() else sys.stderr)
        if hasattr(output, "enable_cpr"):
            output.enable_cpr = False  # a terminal that does not answer would cause a warning
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=_MORE,
            key_bindings=_keys(),
            history=_open_history() if remembers else InMemoryHistory(),
            completer=_Words(words),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
            output=output,
        )

    def read(self) -> str:
        with signals_end(self._session.app):
            text = self._session.prompt()
        text.encode()  # fails on a surrogate: the terminal sent something that is not UTF-8
        return text


class PlainPrompt:
    """A prompt for any terminal: its own line editing; a backslash at the end adds a line."""

    def read(self) -> str:
        lines = [self._read_line(PROMPT)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._read_line(_MORE))
        return "\n".join(lines)

    def _read_line(self, prompt: str) -> str:
        if sys.stdout.isatty():
            return input(prompt)
        sys.stderr.write(prompt)
        sys.stderr.flush()
        return input()


def prompt_for(words: list[str], *, remembers: bool) -> Prompt:
    """Return the prompt that suits the terminal."""
    is_seen = sys.stdout.isatty() or sys.stderr.isatty()
    if not is_seen or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return PlainPrompt()
    return Editor(words, remembers=remembers)


def _keys() -> KeyBindings:
    keys = KeyBindings()

    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    keys.add("enter")(send)
    keys.add("c-j")(send)  # some terminals, and programs that act as one, send this for Enter
    keys.add("escape", "enter")(new_line)
    keys.add("escape", "c-j")(new_line)
    return keys


class _Words(Completer):
    """Completes the first word of a line."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def get_completions(self, document: Document, _event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        for word in self._words:
            if text and word.startswith(text):
                yield Completion(word, -len(text))


def _open_history() -> History:
    """Return what was written in all sessions, or only in this one if no file can be kept."""
    path = user_state_path("parley", appauthor=False) / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
        _shorten(path)
    except OSError:  # no home, or a full or read-only one, is no reason not to talk
        return InMemoryHistory()
    return _Remembered(path)


class _Remembered(FileHistory):
    """Lines in a file. A line that cannot be written there is not remembered."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):  # as above
            super().store_string(string)


def _shorten(path: Path) -> None:
    if path.stat().st_size <= _MOST_BYTES:
        return
    kept = path.read_bytes()[-_MOST_BYTES // 2 :]
    entry = re.search(rb"^# ", kept, re.MULTILINE)
    new = path.with_suffix(f".{os.getpid()}")
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(kept[entry.start() :] if entry else b"")
    new.replace(path)
