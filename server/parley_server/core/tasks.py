"""Work in the background: it outlives its caller, is repeated, or is tried again."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from parley_server.core.errors import ParleyError, StoreUnavailable

log = logging.getLogger("parley.background")

RETRY_PAUSE_S = 0.2

T = TypeVar("T")


class Begun:
    """What was begun for a call: it goes on when the call does not, and still takes room."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def add(self, task: asyncio.Task[Any]) -> None:
        """Take note of one more task."""
        self._tasks = [each for each in self._tasks if not each.done()]
        self._tasks.append(task)

    def when_done(self, then: Callable[[], None]) -> None:
        """Call something once all of it has ended, at once if it has."""
        left = next((task for task in self._tasks if not task.done()), None)
        if left is None:
            then()
        else:
            left.add_done_callback(lambda _: self.when_done(then))


begun_for_call: ContextVar[Begun | None] = ContextVar("begun_for_call", default=None)
"""Where `Tasks` take note of what they start. None: nowhere."""


class Tasks:
    """Background work: each task is kept until it ends, and no caller cancels it.

    A statement that is cancelled on its way can cost its connection (decision 0004).
    """

    def __init__(self, on_error: Callable[[BaseException], None] | None = None) -> None:
        """Start nothing yet.

        Args:
            on_error: called with what a task has raised; None: that is for who awaits it.
        """
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin some work, which goes on whatever becomes of its caller."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        if (begun := begun_for_call.get()) is not None:
            begun.add(task)
        return task

    async def shielded(self, work: Coroutine[Any, Any, T], cap_s: float = math.inf) -> T:
        """Return what the work returns; cancelling this leaves the work alone.

        Args:
            cap_s: how long to wait for it.
        Raises: StoreUnavailable: it takes longer than the cap.
        """
        task = self.start(work)
        with told_if_left(task):
            if cap_s < math.inf:
                await wait_done(task, self._loop, self._loop.time() + cap_s)
                if not task.done():
                    raise StoreUnavailable
                return task.result()
            return await asyncio.shield(task)

    def time(self) -> float:
        """Return the time on the clock by which deadlines are given."""
        return self._loop.time()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Wait until all that has begun has ended, or the time is over."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._on_error is not None:
            self._on_error(error)


@contextmanager
def told_defects(to: logging.Logger, what: str, **known: object) -> Iterator[None]:
    """Tell of a defect that the block meets in the log, and go on behind it.

    Args:
        what: has not been done then.
        known: of what the block is for.
    Raises: StoreUnavailable: that is no defect.
    """
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception:  # of which the log tells type and place
        to.exception(what, extra={key: str(value) for key, value in known.items()})


@contextmanager
def told_if_left(task: asyncio.Task[Any]) -> Iterator[None]:
    """Wait for a task inside the block; once it is left before, a defect is told in the log."""
    try:
        yield
    finally:
        if not task.done():
            task.remove_done_callback(_tell)  # others may have left it as well
            task.add_done_callback(_tell)


def _tell(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, ParleyError):
        log.error("work failed that its caller had left", exc_info=error)


class Heartbeat:
    """Runs `beat` every `interval_s` seconds, each time in a new task, until cancelled.

    Most turns end before their first beat is due: until then this is one timer.
    """

    def __init__(
        self,
        interval_s: float,
        beat: Callable[[], Coroutine[None, None, None]],
        tasks: Tasks,
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
        self._tasks.start(self._beat()).add_done_callback(self._beaten)

    def _beaten(self, _: asyncio.Task[None]) -> None:
        if not self._is_cancelled:
            self._timer = self._loop.call_later(self._interval_s, self._due)


async def retry_while_unavailable(statement: Callable[[], Awaitable[T]], deadline: float) -> T:
    """Run a statement that may be carried out twice, until the database says what became of it.

    Args:
        deadline: when to give up, on the loop's clock; it is tried once in any case.
    Raises: StoreUnavailable: the database did not answer until then.
    """
    while True:
        try:
            return await statement()
        except StoreUnavailable:
            loop = asyncio.get_running_loop()
            if loop.time() + RETRY_PAUSE_S >= deadline:
                raise StoreUnavailable from None
            await asyncio.sleep(RETRY_PAUSE_S)


async def wait_done(
    work: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, deadline: float
) -> None:
    """Wait until a task is done, or the deadline on the loop's clock. Cancels nothing.

    The same as `asyncio.wait` for one task, at half its price: every turn pays it.
    """
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    work.add_done_callback(wake)
    timer = loop.call_at(deadline, wake)
    try:
        await waiter
    finally:
        timer.cancel()
        work.remove_done_callback(wake)


async def wait_any(*futures: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Wait until one of the futures is done, or the time is over. Cancels none of them."""
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
