"""Removing what deleted conversations held: in small batches, with rests, by any worker."""

import random
from collections.abc import Callable
from datetime import timedelta

from parley_server.core.model import Deletion, DeletionStage
from parley_server.core.ports import DeletionStore
from parley_server.core.upkeep import Upkeep

JOBS = 20
"""How many conversations it takes note of in one look."""
BATCHES = 20
"""How many statements it runs for each of them before it looks again, so that a long one does not
have all that is deleted meanwhile wait for it."""
BATCH = 250
"""How many messages, or ids, one statement removes at most."""
BATCH_BYTES = 1024 * 1024
"""How many bytes of text one statement removes at most, unless a single message is larger."""
TOMBSTONE = timedelta(days=30)
"""How long a deleted conversation's ids are kept, so that late retries are refused."""


class Purging(Upkeep):
    """Looks for deleted conversations that are due, from `open` to `close`."""

    def __init__(self, store: DeletionStore, count: Callable[[int], None]) -> None:
        """Look for nothing yet.

        Args:
            count: called with how many messages each statement has removed.
        """
        super().__init__()
        self._store = store
        self._count = count

    async def work(self) -> bool:
        """Do what is due, one conversation after the other. Returns: whether there may be more.

        Workers begin at different ones, so that they seldom meet.
        """
        jobs = await self._store.due(limit=JOBS)
        random.shuffle(jobs)
        is_more = len(jobs) == JOBS
        for job in jobs:
            is_more = await self._worked_on(job) or is_more
        return is_more

    async def _worked_on(self, job: Deletion) -> bool:
        """Do a part of what is due about a conversation. Returns: whether there may be more."""
        has_more = True
        for _ in range(BATCHES):
            if self.is_closing or not has_more:
                break
            has_more = await self.rested(self._batch(job))
        return has_more

    async def _batch(self, job: Deletion) -> bool:
        if job.stage is DeletionStage.TOMBSTONE:
            return await self._store.forget(job, limit=BATCH)
        has_more, messages = await self._store.purge(
            job, limit=BATCH, max_bytes=BATCH_BYTES, tombstone=TOMBSTONE
        )
        self._count(messages)
        return has_more
