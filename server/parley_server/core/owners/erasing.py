"""Erasing all that an owner has: hidden before the call ends, then removed by any worker.

What was created later than the erasure began stays. Conversations are told apart by their time of
creation, which is the beginning of the transaction that creates them. A transaction that began
before the erasure may end after everything was hidden: it is waited for, and then all is looked at
again (decision 0027).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from uuid import UUID

from parley_server.core.model import FIRST_ID, LAST_ID, Erasure, Owner, Removed
from parley_server.core.owners.telling import Telling
from parley_server.core.ports import ErasureStore
from parley_server.core.tasks import Tasks
from parley_server.core.upkeep import Upkeep

log = logging.getLogger("parley.upkeep")

JOBS = 20
"""How many erasures a worker takes note of in one look."""
HIDE = 200
"""How many conversations it looks at, and hides at most, in one transaction."""
HIDE_REST = 1
"""How long it rests after that, in times of what it took: a caller waits for it."""
BATCH = 500
"""How many messages, or turns, one statement removes at most."""
BATCH_BYTES = 1024 * 1024
"""How many bytes of text one statement removes at most, unless a single message is larger."""
SETTLE_S = 0.05
"""How often it looks whether older transactions have ended."""

Remove = Callable[[Erasure, UUID], Awaitable[Removed | None]]


class Erasing(Upkeep):
    """Erases owners for this worker's callers, and carries on with every erasure under way."""

    def __init__(
        self,
        store: ErasureStore,
        telling: Telling,
        count: Callable[[int], None],
    ) -> None:
        """Erase nothing yet.

        Args:
            count: called with how many messages each statement has removed.
        """
        super().__init__()
        self._store = store
        self._telling = telling
        self._count = count
        self._tasks = Tasks()

    async def erase(self, owner: Owner, request_id: str) -> Erasure:
        """Begin to erase an owner, or look at the erasure of this request id.

        Returns: the receipt as it is now.
        Guarantees: when this returns, no call finds anything of it any more. What was begun is
            carried on if the caller leaves.
        """
        return await self._tasks.shielded(self._begun(owner, request_id))

    async def _begun(self, owner: Owner, request_id: str) -> Erasure:
        erasure = await self._store.begin(owner, request_id)
        if erasure.hide_time is None:
            erasure = await self._hidden(erasure)
        if erasure.end_time is None:
            self.wake()
        return erasure

    # Hiding

    async def _hidden(self, erasure: Erasure) -> Erasure:
        await self._hide_once(erasure)
        await self._until_settled(erasure.start_time)
        while await self._hide_once(erasure):
            pass  # what was created, deleted or brought back meanwhile
        return await self._store.note_hidden(erasure)

    async def _hide_once(self, erasure: Erasure) -> bool:
        """Look at all conversations of the owner. Returns: whether there was anything to do."""
        found_any = False
        from_id: UUID | None = FIRST_ID
        while from_id is not None:
            hiding = self._store.hide(erasure, from_id, limit=HIDE)
            hidden, was_due, from_id = await self.rested(hiding, HIDE_REST)
            self._telling.tell(erasure.owner_id, hidden)
            found_any = found_any or was_due
        return found_any

    async def _until_settled(self, until: datetime) -> None:
        is_settled = False
        while not is_settled:
            is_settled = await self._store.is_settled(until)
            if not is_settled:
                await asyncio.sleep(SETTLE_S)

    # Removing

    async def work(self) -> bool:
        """Carry on with what is under way. Returns: whether one has ended: there may be another."""
        jobs = await self._store.running(limit=JOBS)
        random.shuffle(jobs)
        has_ended = False
        for job in jobs:
            has_ended = (not self.is_closing and await self._carried_out(job)) or has_ended
        return has_ended

    async def _carried_out(self, job: Erasure) -> bool:
        """Do all that is left. Returns: False: another worker does, or this one closes."""
        if job.hide_time is None:
            job = await self._hidden(job)
        store = self._store
        for remove in (
            partial(store.remove_messages, limit=BATCH, max_bytes=BATCH_BYTES),
            partial(store.remove_conversations, limit=BATCH),
        ):
            if not await self._all_removed(job, remove):
                return False
        await self._until_settled(await store.forget(job))
        ended = await store.finish(job)
        if ended is not None:
            _log_end(ended)
        return ended is not None

    async def _all_removed(self, job: Erasure, remove: Remove) -> bool:
        up_to: UUID | None = LAST_ID
        while up_to is not None:
            removed = None if self.is_closing else await self.rested(remove(job, up_to))
            if removed is None:
                return False
            self._count(removed.messages)
            up_to = removed.rest
        return True


def _log_end(ended: Erasure) -> None:
    known = {
        "owner_id": str(ended.owner_id),
        "request_id": ended.request_id,
        "conversations": ended.conversations,
        "messages": ended.messages,
        "turns": ended.turns,
    }
    log.info("owner erased", extra=known)
