"""Reads that outlive a lost caller."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from parley_server.core.errors import StoreUnavailable
from parley_server.core.waiting import finished

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
