"""Turns whose last attempt ended with its worker: run one at a time, for one of them may be why.

What ends a worker, such as a tool that exits, takes every other turn with it. Those turns look just
like the one to blame, and all of them are run again at the same moment. So a worker gives them one
place, first come first served, and makes the new attempt only once the place is had: one that waits
has no lease and loses no attempt. A worker with many turns may also have died of something else,
and its turns have to be taken over soon; so the wait is bounded, except for a turn that has ended
with its worker twice in a row (decision 0018).
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 2.5
"""How long a turn that was abandoned once waits for the place. With the look that notices the end
of its lease, it is taken over within five seconds of that end (promise 5)."""
REPEATED_WAIT_S = math.inf
"""The same for one that was abandoned more often in a row: as long as its call lasts."""


class Suspects:
    """The place of this worker, and the line for it."""

    def __init__(self) -> None:
        self._line: deque[asyncio.Future[None]] = deque()
        self._running = 0

    @contextmanager
    def place(self, abandoned_attempts: int) -> Iterator[asyncio.Future[None]]:
        """Queue up; what is yielded is done once the turn may run. Leaving the block gives it back.

        Args:
            abandoned_attempts: how many attempts in a row, up to now, ended with their worker.
        """
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        wait_s = WAIT_S if abandoned_attempts <= 1 else REPEATED_WAIT_S
        timer = None if math.isinf(wait_s) else loop.call_later(wait_s, self._admit, place)
        self._line.append(place)
        self._move_up()
        try:
            yield place
        finally:
            if timer is not None:
                timer.cancel()
            if place.done():
                self._running -= 1
            else:
                self._line.remove(place)
            self._move_up()

    def _move_up(self) -> None:
        """Let the first of the line run once no suspect does."""
        if self._line and self._running == 0:
            self._admit(self._line[0])

    def _admit(self, place: asyncio.Future[None]) -> None:
        if not place.done():
            self._line.remove(place)
            self._running += 1
            place.set_result(None)
