"""Handles keys while an answer comes: Ctrl-C cancels the turn, then leaves; the others wait."""

import os
import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from parley.v1 import conversation_pb2 as parts
from parley_client.errors import ParleyError
from parley_client.sync_client import ParleyClient

try:
    import termios
except ImportError:  # not everywhere
    termios = None  # type: ignore[assignment]


@contextmanager
def keys_held_back() -> Iterator[None]:
    """Keep what is typed in the block off the screen: it would disturb what is drawn there.

    It is not lost: the next read from the terminal gets it.
    """
    if not _has_keyboard():
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(keyboard, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        if _has_keyboard():  # not if Ctrl-Z and `bg` gave it back to the shell
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _has_keyboard() -> bool:
    """Return whether what is typed is for this process.

    A job in the background may not change the terminal: it would be stopped for trying.
    """
    if termios is None or not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # a terminal that does not control this process has no jobs
        return True


def discard_typed() -> None:
    """Forget what was typed and not read yet, so that it answers no question."""
    if termios is not None and sys.stdin.isatty():
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


class CancelOnInterrupt:
    """Inside the block, Ctrl-C cancels a turn; its stream continues and brings what was kept.

    A second Ctrl-C raises KeyboardInterrupt, and so does the first one if nothing could be
    cancelled: the turn has not begun, has failed, or the server cannot be reached. For the main
    thread only, which receives signals.
    """

    def __init__(self, client: ParleyClient, request_id: str) -> None:
        self._client = client
        self._request_id = request_id
        self._is_inside = False
        self.was_pressed = False

    def __enter__(self) -> Self:
        self._is_inside = True
        self._before = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_inside = False
        signal.signal(signal.SIGINT, self._before)

    def _pressed(self, _number: int, _frame: FrameType | None) -> None:
        if self.was_pressed:
            raise KeyboardInterrupt
        self.was_pressed = True
        # The stream continues meanwhile: it brings the answer.
        threading.Thread(target=self._cancel, daemon=True).start()

    def _cancel(self) -> None:
        try:
            turn = self._client.cancel_turn(request_id=self._request_id)
            is_cancelled = turn.state != parts.TURN_STATE_FAILED
        except (ParleyError, OSError, ValueError):  # the stream fails in the same way, and says so
            is_cancelled = False
        if not is_cancelled and self._is_inside:
            interrupt_main()
