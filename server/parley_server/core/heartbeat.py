"""A repeated chore that costs nothing until it is first due."""

import asyncio
from collections.abc import Callable, Coroutine


class Heartbeat:
    """Runs `beat` every `interval_s` seconds, each time in a task of its own, until cancelled.

    Most turns end before their first beat is due: until then this is one timer.
    """

    def __init__(
        self,
        interval_s: float,
        beat: Callable[[], Coroutine[None, None, None]],
        tasks: set[asyncio.Task[None]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._interval_s = interval_s
        self._beat = beat
        self._tasks = tasks
        self._is_cancelled = False
        self._loop = loop
        self._timer = self._loop.call_later(interval_s, self._due)

    def cancel(self) -> None:
        """Stop; a beat under way ends by itself."""
        self._is_cancelled = True
        self._timer.cancel()

    def _due(self) -> None:
        task = self._loop.create_task(self._beat())
        self._tasks.add(task)
        task.add_done_callback(self._beaten)

    def _beaten(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._is_cancelled:
            self._timer = self._loop.call_later(self._interval_s, self._due)
