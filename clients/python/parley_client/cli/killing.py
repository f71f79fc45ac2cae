"""Signals that end the command: it ends as by an error, so that the terminal is put back."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from parley_client.cli.failures import KILLED

if TYPE_CHECKING:
    from prompt_toolkit import Application  # takes a third of a command's start

_NAMES = ("SIGTERM", "SIGHUP", "SIGQUIT")
_NUMBERS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
"""Not all of them are there everywhere."""


def end_on_signals() -> None:
    """Have signals end the process with their exit code.

    One that is ignored, as with nohup, stays ignored. A second one ends the process at once.
    """
    for number in _NUMBERS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


@contextmanager
def signals_end(app: "Application[Any]") -> Iterator[None]:
    """Have signals end an application inside the block: its loop bears no error in its midst."""
    taken = [number for number in _NUMBERS if signal.getsignal(number) is _end]
    for number in taken:
        signal.signal(number, partial(_end, leave=partial(_leave, app)))
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, _end)


def _end(
    number: int, _frame: FrameType | None, *, leave: Callable[[SystemExit], None] | None = None
) -> None:
    signal.signal(number, signal.SIG_DFL)
    end = SystemExit(KILLED + number)
    if leave is None:
        raise end
    leave(end)


def _leave(app: "Application[Any]", end: SystemExit) -> None:
    if app.loop is None or not app.is_running:
        raise end
    app.loop.call_soon_threadsafe(partial(app.exit, exception=end))
