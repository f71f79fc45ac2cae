"""Watching a conversation: what is there after a sequence, then live."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from uuid import UUID

from parley_server.core.errors import Overloaded, WatchExpired, WorkerDrained
from parley_server.core.following import Events, Source
from parley_server.core.model import (
    Owner,
    Piece,
    Position,
    Progress,
    Standing,
    Turn,
    TurnState,
    WatchUpdate,
)
from parley_server.core.outliving import Outliving
from parley_server.core.ports import Store
from parley_server.core.waiting import Bells, either, topic_of

WATCH_S = 240.0
"""How long a watch lasts, give or take a tenth, so that they do not all come back at once."""
LONGEST_WATCH_S = WATCH_S * 1.1
PROGRESS_S = 60.0
LOOK_S = 1.0
"""How often a conversation is looked at where no signals reach this worker."""
LOOK_AT_RUNNING_S = 5.0
"""How often one with an open turn is: nobody signals that a worker went away."""
PAGE_MESSAGES = 200


class Watches:
    """The watches of this worker's callers."""

    def __init__(self, store: Store, events: Events, bells: Bells, *, max_watches: int) -> None:
        self._store = store
        self._events = events
        self._bells = bells
        self._max_watches = max_watches
        self._count = 0
        self._outliving = Outliving()
        self._draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __len__(self) -> int:
        return self._count

    def drain(self) -> None:
        """End every watch, and begin no more."""
        if not self._draining.done():
            self._draining.set_result(None)

    def _check_draining(self) -> None:
        if self._draining.done():
            raise WorkerDrained

    async def watch(
        self, owner: Owner, conversation_id: UUID, after_sequence: int, *, include_events: bool
    ) -> AsyncGenerator[WatchUpdate, None]:
        """Yield messages and turn states, and the open turn's events if they are asked for.

        Raises: ConversationNotFound, Overloaded, StoreUnavailable; WatchExpired after about four
            minutes; WorkerDrained.
        Guarantees: every message behind after_sequence once, in order, each turn's last state
            behind its last message.
        """
        if self._count >= self._max_watches:
            raise Overloaded
        self._count += 1
        try:
            watch = _Watch(owner, conversation_id, after_sequence)
            async with aclosing(self._updates(watch, include_events)) as updates:
                async for update in updates:
                    yield update
        finally:
            self._count -= 1

    async def _updates(
        self, watch: "_Watch", include_events: bool
    ) -> AsyncGenerator[WatchUpdate, None]:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + WATCH_S * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        progress_at = 0.0
        while True:
            self._check_draining()
            with ExitStack() as listening:
                bells = [listening.enter_context(self._bells.listen(watch.topic))]
                source = watch.open_source if include_events else None
                if source is not None:
                    bells.append(listening.enter_context(self._bells.listen(source.turn_id)))
                is_behind = False
                async for update in self._new(watch):
                    is_behind = True
                    yield update
                if source is not None and source == watch.open_source:
                    events = await self._events.after(watch.owner, source, watch.position)
                    for stored in events:
                        is_behind = True
                        watch.position = Position(source.attempt, stored.index)
                        yield Piece(source.attempt, stored.index, stored.event)
                if is_behind or (include_events and source != watch.open_source):
                    continue
                look_at = loop.time() + self._look_s(watch, source)
                while loop.time() < look_at and not any(bell.done() for bell in bells):
                    self._check_draining()
                    if loop.time() >= ends_at:
                        raise WatchExpired
                    if loop.time() >= progress_at:
                        progress_at = loop.time() + PROGRESS_S
                        yield Progress(watch.sequence)
                    wake_at = min(look_at, progress_at, ends_at)
                    await either(*bells, self._draining, timeout_s=max(0, wake_at - loop.time()))

    def _look_s(self, watch: "_Watch", source: Source | None) -> float:
        """Return how long to wait for a bell before looking all the same, in seconds."""
        if source is not None:
            return min(self._events.next_look_s(source), LOOK_AT_RUNNING_S)
        if not self._bells.reach_other_workers:
            return LOOK_S
        return math.inf if watch.open_source is None else LOOK_AT_RUNNING_S

    async def _new(self, watch: "_Watch") -> AsyncGenerator[WatchUpdate, None]:
        """Yield what came since the last look: each turn's state behind its last message."""
        if not self._bells.reach_other_workers:
            standing = await self._outliving.run(
                self._store.standing(watch.owner, watch.conversation_id)
            )
            if standing is not None and standing == watch.standing:
                return
            watch.standing = standing
        # Turns before messages: whatever a turn says that it has written is in the messages then.
        turns = await self._outliving.run(
            self._store.turns_since(watch.owner, watch.conversation_id, watch.turns_from)
        )
        page = await self._outliving.run(
            self._store.history(
                watch.owner,
                watch.conversation_id,
                above=watch.sequence,
                below=None,
                newest_first=False,
                limit=PAGE_MESSAGES,
            )
        )
        changed = {watch.anchor(turn): turn for turn in turns if watch.is_news(turn)}
        if watch.sequence in changed:
            yield watch.told(changed.pop(watch.sequence))
        for message in page.messages:
            watch.sequence = message.sequence
            yield message
            if message.sequence in changed:
                yield watch.told(changed.pop(message.sequence))


class _Watch:
    """How far one watch has come."""

    def __init__(self, owner: Owner, conversation_id: UUID, after_sequence: int) -> None:
        self.owner = owner
        self.conversation_id = conversation_id
        self.topic = topic_of(owner, conversation_id)
        self.sequence = after_sequence
        """The last message delivered."""
        # The turn that wrote after_sequence may have ended since, without a message more.
        self.turns_from = max(0, after_sequence - 1)
        """Where the first turn began whose last state is still to come."""
        self.open_source: Source | None = None
        self.position = Position(0, -1)
        self.standing: Standing | None = None
        """How the conversation stood when it was last looked at without a signal."""
        self._told: dict[UUID, tuple[TurnState, int]] = {}

    @staticmethod
    def anchor(turn: Turn) -> int:
        """Return the sequence of the turn's last message."""
        return turn.response_sequence or turn.user_sequence

    def is_news(self, turn: Turn) -> bool:
        return self._told.get(turn.id) != (turn.state, turn.attempt)

    def told(self, turn: Turn) -> Turn:
        """Take note that a turn's state is told now."""
        self.turns_from = turn.user_sequence
        self._told = {turn.id: (turn.state, turn.attempt)}
        self.open_source = None
        if turn.state is TurnState.RUNNING:
            source = Source(self.conversation_id, turn.id, turn.user_sequence, turn.attempt)
            self.open_source = source
            self.position = Position(turn.attempt, -1)
        return turn
