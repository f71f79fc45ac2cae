"""Erasing all that an owner has: hidden before the call ends, then removed by any worker.

What was created later than the erasure began stays, but for forks of what goes. Conversations are
told apart by their time of creation, which is the beginning of the transaction that creates them. A
transaction that began before everything was hidden may end after that: it is waited for, and then
all is looked at again (decision 0027).
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import NamedTuple
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
BATCHES = 20
"""How many statements it runs for each of them before it looks again, so that an owner with much
does not have all that are erased meanwhile wait for it."""
BATCH = 500
"""How many messages, or turns, one statement removes at most."""
BATCH_BYTES = 1024 * 1024
"""How many bytes of text one statement removes at most, unless a single message is larger."""
SETTLE_S = 0.05
"""How often it looks whether older transactions have ended."""

IsOver = Callable[[], bool]


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
        self._places: dict[tuple[UUID, str], _Place] = {}
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
            erasure = await self._hidden(erasure, _never) or erasure
        if erasure.end_time is None:
            self.wake()
        return erasure

    # Hiding

    async def _hidden(self, erasure: Erasure, is_over: IsOver) -> Erasure | None:
        """Hide all that the erasure removes. Returns: the receipt then; None: it is over before.

        Args:
            is_over: whether to leave the rest to another worker.
        """
        await self._hide_once(erasure, is_over)
        is_left = True
        while is_left and not is_over():
            # What was created, forked, deleted or brought back meanwhile is there then.
            await self._settled(is_over)
            is_left = await self._hide_once(erasure, is_over)
        return None if is_over() else await self._store.note_hidden(erasure)

    async def _hide_once(self, erasure: Erasure, is_over: IsOver) -> bool:
        """Look at all conversations of the owner. Returns: whether there was anything to do."""
        found_any = False
        from_id: UUID | None = FIRST_ID
        while from_id is not None and not is_over():
            hiding = self._store.hide(erasure, from_id, limit=HIDE)
            hidden, was_due, from_id = await self.rested(hiding, HIDE_REST)
            self._telling.tell(erasure.owner_id, hidden)
            found_any = found_any or was_due
        return found_any

    async def _settled(self, is_over: IsOver) -> bool:
        """Wait until the transactions that are open now have ended. Returns: False: over before."""
        until = await self._store.moment()
        while not await self._store.is_settled(until):
            if is_over():
                return False
            await asyncio.sleep(SETTLE_S)
        return True

    # Removing

    async def work(self) -> bool:
        """Do a part of each erasure that is under way. Returns: whether there may be more to do."""
        jobs = await self._store.running(limit=JOBS)
        self._places = {key: self._places[key] for key in map(_key, jobs) if key in self._places}
        random.shuffle(jobs)
        is_more = False
        for job in jobs:
            is_more = (not self.is_closing and await self._worked_on(job)) or is_more
        return is_more

    async def _worked_on(self, job: Erasure) -> bool:
        """Do a part of what is left. Returns: False: another worker does, or this one closes."""
        if job.hide_time is None:
            hidden = await self._hidden(job, self._is_over)
            if hidden is None:
                return False
            job = hidden
        place: _Place | None = self._places.pop(_key(job), _BEGINNING)
        for _ in range(BATCHES):
            if place is None:
                break
            removed = None if self.is_closing else await self.rested(self._removed(job, place))
            if removed is None:
                return False
            self._count(removed.messages)
            place = place.behind(removed)
        if place is not None:
            self._places[_key(job)] = place
            return True
        return await self._finished(job)

    async def _removed(self, job: Erasure, place: "_Place") -> Removed | None:
        if place.are_messages_gone:
            return await self._store.remove_conversations(job, place.up_to, limit=BATCH)
        return await self._store.remove_messages(
            job, place.up_to, limit=BATCH, max_bytes=BATCH_BYTES
        )

    async def _finished(self, job: Erasure) -> bool:
        """Close an erasure that has removed everything. Returns: as `_worked_on`."""
        await self._store.forget(job)
        if not await self._settled(self._is_over):
            return False
        ended = await self._store.finish(job)
        if ended is not None:
            _log_end(ended)
        return ended is not None

    def _is_over(self) -> bool:
        return self.is_closing


class _Place(NamedTuple):
    """How far the removal of an owner has come on this worker: from the highest id down, twice."""

    are_messages_gone: bool
    up_to: UUID

    def behind(self, removed: Removed) -> "_Place | None":
        """Return where to go on. None: that was all."""
        if removed.rest is not None:
            return self._replace(up_to=removed.rest)
        return None if self.are_messages_gone else _Place(are_messages_gone=True, up_to=LAST_ID)


_BEGINNING = _Place(are_messages_gone=False, up_to=LAST_ID)


def _key(of: Erasure) -> tuple[UUID, str]:
    return of.owner_id, of.request_id


def _never() -> bool:
    """Say that a call waits: it is carried out while the worker closes, too."""
    return False


def _log_end(ended: Erasure) -> None:
    known = {
        "owner_id": str(ended.owner_id),
        "request_id": ended.request_id,
        "conversations": ended.conversations,
        "messages": ended.messages,
        "turns": ended.turns,
    }
    log.info("owner erased", extra=known)
