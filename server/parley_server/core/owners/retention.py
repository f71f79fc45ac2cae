"""Deleting conversations that have become too old: in small batches, with rests, by any worker."""

import logging
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from parley_server.core.model import Hidden
from parley_server.core.owners.telling import Telling
from parley_server.core.ports import RetentionStore
from parley_server.core.upkeep import Upkeep

log = logging.getLogger("parley.upkeep")

OWNERS = 50
"""How many owners a worker takes note of in one look."""
BATCH = 200
"""How many conversations one transaction deletes at most."""
PARTS = 24
"""How often an owner is looked at within the time after which conversations go."""
SELDOM = timedelta(hours=6)
"""How often an owner is looked at if that time is long."""
LOWEST = UUID(int=0)


class Retention(Upkeep):
    """Looks for conversations that are too old, from `open` to `close`."""

    def __init__(
        self,
        store: RetentionStore,
        telling: Telling,
        *,
        idle: timedelta,
        age: timedelta,
        on_deleted: Callable[[], None],
        count: Callable[[int], None],
    ) -> None:
        """Look for nothing yet.

        Args:
            idle: how long after its last turn a conversation goes; 0: never.
            age: how long after its creation a conversation goes; 0: never.
            on_deleted: called once conversations are deleted.
            count: called with how many conversations each batch has deleted.
        """
        super().__init__()
        self._store = store
        self._telling = telling
        self._idle = idle
        self._age = age
        self._on_deleted = on_deleted
        self._count = count
        self._every = min([SELDOM, *(period / PARTS for period in (idle, age) if period)])

    def open(self) -> None:
        """Begin to look, if there is anything to look for."""
        if self._idle or self._age:
            super().open()

    async def work(self) -> bool:
        """Look at the owners that are due. Returns: whether there may be more."""
        owners = await self._store.due_owners(self._every, limit=OWNERS)
        for owner_id in owners:
            if not self.is_closing and await self.rested(self._store.take(owner_id, self._every)):
                await self._look_at(owner_id)
        return len(owners) == OWNERS

    async def _look_at(self, owner_id: UUID) -> None:
        count = 0
        if self._idle:
            count += await self._delete_idle(owner_id)
        if self._age:
            count += await self._delete_aged(owner_id)
        if count:
            known = {"owner_id": str(owner_id), "conversations": count}
            log.info("conversations expired", extra=known)

    async def _delete_idle(self, owner_id: UUID) -> int:
        count, has_more = 0, True
        while has_more and not self.is_closing:
            hidden = await self.rested(self._store.delete_idle(owner_id, self._idle, limit=BATCH))
            self._tell(owner_id, hidden)
            count += len(hidden)
            has_more = len(hidden) == BATCH
        return count

    async def _delete_aged(self, owner_id: UUID) -> int:
        count = 0
        from_id: UUID | None = LOWEST
        while from_id is not None and not self.is_closing:
            deleting = self._store.delete_aged(owner_id, self._age, from_id, limit=BATCH)
            hidden, from_id = await self.rested(deleting)
            self._tell(owner_id, hidden)
            count += len(hidden)
        return count

    def _tell(self, owner_id: UUID, hidden: list[Hidden]) -> None:
        if hidden:
            self._telling.tell(owner_id, hidden)
            self._count(len(hidden))
            self._on_deleted()
