"""Adding messages to a conversation without running an agent."""

import asyncio
from uuid import UUID

from parley_server.core.bells import Bells, topic_of
from parley_server.core.call import Call
from parley_server.core.errors import (
    DeadlineTooShort,
    InvalidRequest,
    TurnInProgress,
    Violation,
)
from parley_server.core.model import Added, NewMessages, OnBusy, OnDisconnect, Owner
from parley_server.core.patience import wait_until
from parley_server.core.ports import HistoryStore, NotAdded
from parley_server.core.tasks import Tasks
from parley_server.core.turns.waiting import Waiting


class Appending:
    """Adds messages for this worker's callers. What is begun is carried out."""

    def __init__(self, store: HistoryStore, bells: Bells, waiting: Waiting, cap_s: float) -> None:
        """Make the use case.

        Args:
            waiting: where calls wait for a turn to end, with those that wait for their own.
            cap_s: the server's cap on one call.
        """
        self._store = store
        self._bells = bells
        self._waiting = waiting
        self._cap_s = cap_s
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()

    async def append(
        self, owner: Owner, new: NewMessages, time_left_s: float | None = None
    ) -> Added:
        """Add messages behind the last one, or return where an earlier call has added them.

        Args:
            time_left_s: until the caller's deadline; None: it has none, the server's cap holds.
        Raises: ConversationNotFound, RequestIdReused, SequenceMismatch, TurnInProgress,
            DeadlineTooShort, StoreUnavailable, WorkerDrained; InvalidRequest: a message was written
            later than now, or names a turn that the conversation has.
        Guarantees: all messages are stored, one behind the other, or none.
        """
        call = Call(self._loop, time_left_s, self._cap_s, OnDisconnect.CANCEL)
        try:
            return await self._tasks.shielded(self._append(owner, new, call))
        finally:
            call.lose()

    async def _append(self, owner: Owner, new: NewMessages, call: Call) -> Added:
        wait_until(call.ends_at)
        topic = topic_of(owner, new.conversation_id)
        if new.on_busy is OnBusy.REJECT:
            return await self._try(owner, new, topic)
        if self._waiting.is_empty(topic):
            try:
                return await self._try(owner, new, topic)
            except TurnInProgress:
                if call.is_too_short:
                    raise
        elif known := await self._store.added(owner, new):
            return known
        return await self._waiting.in_turn(
            topic,
            call,
            lambda: self._try(owner, new, topic),
            lambda: self._known_or_too_short(owner, new),
        )

    async def _known_or_too_short(self, owner: Owner, new: NewMessages) -> Added:
        known = await self._store.added(owner, new)
        if known is None:
            raise DeadlineTooShort
        return known

    async def _try(self, owner: Owner, new: NewMessages, topic: UUID) -> Added:
        added = await self._store.add(owner, new)
        if isinstance(added, NotAdded):
            raise InvalidRequest(_wrong(new, added))
        if added.has_ended_turn:
            self._bells.ring_ended(owner, new.conversation_id)
        else:
            self._bells.ring(topic)
        return added


def _wrong(new: NewMessages, found: NotAdded) -> list[Violation]:
    """Return what is wrong with messages that only the store could tell."""
    late = [
        Violation(
            f"messages[{number}].create_time",
            "IN_THE_FUTURE",
            f"must not be later than now, {found.now.isoformat(timespec='seconds')}",
        )
        for number, message in enumerate(new.messages)
        if message.is_later_than(found.now)
    ]
    if found.clash is None:
        return late
    clash = Violation(
        f"messages[{found.clash}].turn_id",
        "OF_A_TURN",
        "names a turn that this conversation has: leave it empty",
    )
    return [clash, *late]
