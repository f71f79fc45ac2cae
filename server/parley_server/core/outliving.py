"""Reads that outlive a lost caller."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Outliving:
    """Runs each statement in a task of its own, which a lost caller does not cancel.

    A statement that is cancelled on its way can cost its connection (decision 0004).
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, statement: Coroutine[Any, Any, T]) -> T:
        """Return what the statement returns; cancelling this leaves the statement alone."""
        task = asyncio.create_task(statement)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)
