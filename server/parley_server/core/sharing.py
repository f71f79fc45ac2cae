"""Reads that several calls share."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from parley_server.core.errors import StoreUnavailable
from parley_server.core.patience import for_any_call, patience_ends_at
from parley_server.core.tasks import told_if_left

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Lets calls that ask for the same thing at the same time share one read.

    Each read runs in its own task, which a lost caller does not cancel (decision 0004). It waits
    for the store whatever the deadline of the call that was first; each call waits for it as long
    as its own deadline allows.
    """

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}
        self._waiting: dict[K, asyncio.Task[V]] = {}

    async def read(self, key: K, read: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return what a read returns, or raise what it raises.

        Args:
            key: what is asked for. Calls with equal keys share `read` of the first of them.
        Raises: StoreUnavailable, also when the call may not wait for longer.
        Guarantees: the read begins after this call does, so whatever was stored before is in it.
            Of one key, one read runs and one more waits for its end.
        """
        task = self._waiting.get(key)
        if task is None:
            task = asyncio.create_task(self._read(key, read), context=for_any_call())
            self._waiting[key] = task
        until = patience_ends_at(asyncio.get_running_loop().time())
        try:
            with told_if_left(task):
                async with asyncio.timeout_at(None if until == math.inf else until):
                    return await asyncio.shield(task)
        except TimeoutError:
            raise StoreUnavailable from None

    async def _read(self, key: K, read: Callable[[], Coroutine[Any, Any, V]]) -> V:
        if (before := self._running.get(key)) is not None:
            await asyncio.wait([before])
        task = self._waiting.pop(key)
        self._running[key] = task
        try:
            return await read()
        finally:
            del self._running[key]
