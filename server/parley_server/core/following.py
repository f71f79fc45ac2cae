"""Following a turn under way: what has been stored of it, then live, on whatever worker it runs."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from parley_server.core.errors import StoreUnavailable
from parley_server.core.model import (
    Lease,
    Owner,
    Piece,
    Position,
    Started,
    StoredEvent,
    StreamEvent,
    Turn,
)
from parley_server.core.outliving import Outliving
from parley_server.core.ports import Store
from parley_server.core.runs import Runs
from parley_server.core.waiting import Bells, either

EVENT_LOOK_S = 0.2
"""How often events of another worker are looked for where no signals reach this one."""


@dataclass(frozen=True, slots=True)
class Source:
    """An attempt whose events can be followed."""

    conversation_id: UUID
    turn_id: UUID
    user_sequence: int
    attempt: int


class Events:
    """Reads the events of attempts: out of memory where they run here, else out of the store."""

    def __init__(self, store: Store, bells: Bells, runs: Runs) -> None:
        self._store = store
        self._bells = bells
        self._runs = runs
        self._outliving = Outliving()

    async def after(self, owner: Owner, source: Source, position: Position) -> list[StoredEvent]:
        """Return what has been stored behind a position of this attempt."""
        here = self._runs.find(source.turn_id)
        if here is not None and here.lease.attempt == source.attempt:
            return here.events.stored[position.index + 1 :] if here.events else []
        return await self._outliving.run(
            self._store.events(owner, source.turn_id, source.attempt, position.index)
        )

    def next_look_s(self, source: Source) -> float:
        """Return how long to wait for a bell before looking all the same, in seconds."""
        if self._bells.reach_other_workers or self._runs.find(source.turn_id) is not None:
            return self._bells.next_look_s()
        return EVENT_LOOK_S


class Following:
    """What a stream sees of its turn while the work for it is done elsewhere."""

    def __init__(self, owner: Owner, events: Events, bells: Bells) -> None:
        self._owner = owner
        self._events = events
        self._bells = bells
        self._source: Source | None = None
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def attempt(self) -> int:
        """The attempt that was followed last; 0: none was."""
        return self._source.attempt if self._source else 0

    def follow(self, attempt: Lease | Turn) -> None:
        """Say which attempt there is to see from now on."""
        turn_id = attempt.turn_id if isinstance(attempt, Lease) else attempt.id
        source = Source(attempt.conversation_id, turn_id, attempt.user_sequence, attempt.attempt)
        if source != self._source:
            self._source = source
            self._changed.set_result(None)
            self._changed = asyncio.get_running_loop().create_future()

    async def until(
        self, work: asyncio.Task[Any], after: Position, deadline: float
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield what there is to see until the work is done.

        Args:
            after: the last event that the caller has seen.
            deadline: when to give up, on the loop's clock.
        Raises: StoreUnavailable: the work is not done by then.
        Guarantees: a caller that keeps up sees each event once, in order; one that does not holds
            nobody up, and nothing is kept for it.
        """
        loop = asyncio.get_running_loop()
        position = after
        is_started = False
        while not work.done():
            source, changed = self._source, self._changed
            left_s = deadline - loop.time()
            if left_s <= 0:
                raise StoreUnavailable
            if source is None:
                await either(work, changed, timeout_s=left_s)
                continue
            if not is_started:
                is_started = True
                yield Started(
                    source.conversation_id, source.turn_id, source.user_sequence, source.attempt
                )
            if position.attempt != source.attempt:
                position = Position(source.attempt, -1)
            with self._bells.listen(source.turn_id) as bell:
                events = await self._events.after(self._owner, source, position)
                for stored in events:
                    position = Position(source.attempt, stored.index)
                    yield Piece(source.attempt, stored.index, stored.event)
                if not events and self._source is source:
                    look_s = min(left_s, self._events.next_look_s(source))
                    await either(work, changed, bell, timeout_s=look_s)
