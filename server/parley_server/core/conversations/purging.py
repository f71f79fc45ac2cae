"""Removing what deleted conversations held: in small batches, with rests, by any worker."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import timedelta

from parley_server.core.conversations.ports import DeletionStore
from parley_server.core.errors import StoreUnavailable
from parley_server.core.failures import raised_at
from parley_server.core.model import Deletion, DeletionStage

log = logging.getLogger("parley.upkeep")

LOOK_S = 5.0
"""How often a worker looks for something that is due."""
JOBS = 20
"""How many conversations it takes note of in one look."""
BATCH = 250
"""How many messages, or ids, one statement removes at most."""
BATCH_BYTES = 1024 * 1024
"""How many bytes of text one statement removes at most, unless a single message is larger."""
REST = 3
"""How long it rests after each statement, in times of what that took: turns go first."""
TOMBSTONE = timedelta(days=30)
"""How long a deleted conversation's ids are kept, so that late retries are refused."""


def _count_nothing(messages: int) -> None:
    """Count nothing."""


class Purging:
    """Looks for deleted conversations that are due, from `open` to `close`."""

    def __init__(self, store: DeletionStore, count: Callable[[int], None] = _count_nothing) -> None:
        """Look for nothing yet.

        Args:
            count: called with how many messages each statement has removed.
        """
        self._store = store
        self._count = count
        self._woken = asyncio.Event()
        self._is_closing = False
        self._running: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, once the statement under way has ended."""
        self._is_closing = True
        self._woken.set()
        if self._running is not None:
            await asyncio.wait([self._running])

    def wake(self) -> None:
        """Look at once: something has been deleted here."""
        self._woken.set()

    async def _run(self) -> None:
        while not self._is_closing:
            self._woken.clear()
            try:
                has_more = await self._work()
            except StoreUnavailable:
                has_more = False  # the next look tries again
            except Exception as error:
                log.exception("purging failed", extra={"place": raised_at(error)})
                has_more = False
            if not has_more:
                await self._wait(LOOK_S * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _work(self) -> bool:
        """Do all that is due, one conversation after the other. Returns: whether there may be more.

        Workers begin at different ones, so that they seldom meet.
        """
        jobs = await self._store.due(limit=JOBS)
        random.shuffle(jobs)
        for job in jobs:
            has_more = True
            while has_more and not self._is_closing:
                began = asyncio.get_running_loop().time()
                has_more = await self._batch(job)
                took_s = asyncio.get_running_loop().time() - began
                await asyncio.sleep(REST * took_s)
        return len(jobs) == JOBS

    async def _batch(self, job: Deletion) -> bool:
        if job.stage is DeletionStage.TOMBSTONE:
            return await self._store.forget(job, limit=BATCH)
        has_more, messages = await self._store.purge(
            job, limit=BATCH, max_bytes=BATCH_BYTES, tombstone=TOMBSTONE
        )
        self._count(messages)
        return has_more
