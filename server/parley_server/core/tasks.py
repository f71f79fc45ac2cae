"""Work that goes on in the background, outlives its caller, or is tried again."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from parley_server.core.errors import StoreUnavailable

RETRY_PAUSE_S = 0.2

T = TypeVar("T")


class Outliving:
    """Runs each statement in a task of its own, which a lost caller does not cancel.

    A statement that is cancelled on its way can cost its connection (decision 0004).
    """

    def __init__(self, cap_s: float = math.inf) -> None:
        """Run nothing yet.

        Args:
            cap_s: how long a caller waits for one statement.
        """
        self._cap_s = cap_s
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, statement: Coroutine[Any, Any, T]) -> T:
        """Return what the statement returns; cancelling this leaves the statement alone.

        Raises: StoreUnavailable: it takes longer than the cap.
        """
        task = asyncio.create_task(statement)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        if self._cap_s < math.inf:
            loop = asyncio.get_running_loop()
            await finished(task, loop, loop.time() + self._cap_s)
            if not task.done():
                raise StoreUnavailable
            return task.result()
        return await asyncio.shield(task)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it may be that nobody waits for it any more


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


async def insist(statement: Callable[[], Awaitable[T]], deadline: float) -> T:
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


async def finished(
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


async def either(*futures: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Wait until one of the futures is done, or the time is over. Cancels none of them."""
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
