"""Watching a conversation: what is there after a sequence, then live."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from uuid import UUID

from parley_server.core.bells import Bell, Bells, topic_of
from parley_server.core.errors import ConversationNotFound, WatchExpired, WorkerDrained
from parley_server.core.model import (
    ConversationState,
    Gone,
    Owner,
    Piece,
    Position,
    Progress,
    WatchUpdate,
)
from parley_server.core.ports import Store
from parley_server.core.streams.cursor import Cursor
from parley_server.core.streams.following import AttemptRef, Events
from parley_server.core.streams.pages import Pages
from parley_server.core.tasks import wait_any

WATCH_S = 240.0
"""How long a watch lasts, give or take a tenth, so that they do not all come back at once."""
LONGEST_WATCH_S = WATCH_S * 1.1
PROGRESS_S = 60.0
LOOK_S = 1.0
"""How often a conversation is looked at where no signals reach this worker."""
LOOK_AT_RUNNING_S = 5.0
"""How often one with an open turn is: a worker that dies signals nothing."""
BARREN_S = 0.1
"""How long a watch pauses that is behind and has read two pages without anything to tell."""


class Watches:
    """The watches of this worker's callers."""

    def __init__(self, store: Store, events: Events, bells: Bells) -> None:
        self._events = events
        self.pages = Pages(store)
        self._bells = bells
        self._draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def drain(self) -> None:
        """End every watch, and begin no more."""
        if not self._draining.done():
            self._draining.set_result(None)

    async def watch(
        self, owner: Owner, conversation_id: UUID, after_sequence: int, *, include_events: bool
    ) -> AsyncGenerator[WatchUpdate, None]:
        """Yield messages and turn states, and the open turn's events if they are asked for.

        Raises: ConversationNotFound, StoreUnavailable; WatchExpired after about four minutes;
            WorkerDrained.
        Guarantees: every message behind after_sequence once, in order, each turn's last state
            behind its last message. Progress when everything that there was has been yielded. Gone
            before ConversationNotFound, if the conversation is deleted meanwhile.
        """
        watch = _Watch(owner, conversation_id, after_sequence)
        while True:
            with self._bells.listen(watch.topic) as changed:
                async with aclosing(self._stored(watch)) as updates:
                    async for update in updates:
                        yield update
                source = watch.open_source() if include_events else None
                look_at = asyncio.get_running_loop().time() + self._look_s(watch, source)
                async with aclosing(self._live(watch, source, changed, look_at)) as updates:
                    async for update in updates:
                        yield update

    async def _stored(self, watch: "_Watch") -> AsyncGenerator[WatchUpdate, None]:
        """Yield what came since the last look, page after page, until all of it is delivered."""
        cursor = watch.cursor
        if not self._bells.reach_other_workers:
            standing = await self.pages.standing(watch.owner, watch.conversation_id)
            if standing is not None and standing == watch.standing:
                return
            watch.standing = standing
        barren = 0
        while True:
            self._check_over(watch)
            try:
                page = await self.pages.read(
                    watch.owner, watch.conversation_id, cursor.turns_from, cursor.sequence
                )
            except ConversationNotFound:
                if watch.has_begun:
                    yield Gone(watch.conversation_id)
                raise
            watch.has_begun = True
            barren += 1
            with self.pages.held(page):
                for update in cursor.take(page):
                    barren = 0
                    yield update
            if not cursor.is_behind:
                return
            if barren > 1:  # a turn that has just begun explains one such page, not two
                await wait_any(self._draining, timeout_s=BARREN_S)

    async def _live(
        self, watch: "_Watch", source: AttemptRef | None, changed: Bell, look_at: float
    ) -> AsyncGenerator[WatchUpdate, None]:
        """Yield the open turn's events, and how far the watch is, until it is to look again."""
        loop = asyncio.get_running_loop()
        feed = None if source is None else self._events.feed(watch.owner, source)
        while not changed.done() and loop.time() < look_at:
            self._check_over(watch)
            with ExitStack() as listening:
                bells = [changed, self._draining]
                if source is not None and feed is not None:
                    bells.append(listening.enter_context(self._bells.listen(source.turn_id)))
                    page = await feed.after(watch.position.index)
                    for stored in page.events:
                        watch.position = Position(source.attempt, stored.index)
                        yield Piece(source.attempt, stored.index, stored.event)
                    if page.has_more:
                        continue
                if changed.done():
                    return
                if loop.time() >= watch.progress_at:
                    watch.progress_at = loop.time() + PROGRESS_S
                    yield Progress(watch.cursor.sequence)
                wake_at = min(look_at, watch.progress_at, watch.ends_at)
                await wait_any(*bells, timeout_s=max(0, wake_at - loop.time()))

    def _check_over(self, watch: "_Watch") -> None:
        """Raise WorkerDrained or WatchExpired once a watch is to end."""
        if self._draining.done():
            raise WorkerDrained
        if asyncio.get_running_loop().time() >= watch.ends_at:
            raise WatchExpired

    def _look_s(self, watch: "_Watch", source: AttemptRef | None) -> float:
        """Return how long to wait for a bell before looking all the same, in seconds.

        The watches of a conversation look at the same moments, to share their statements.
        """
        if source is not None:
            return self._events.next_look_s(source)
        if not self._bells.reach_other_workers:
            return watch.next_look_s(LOOK_S)
        return math.inf if watch.cursor.open_turn is None else watch.next_look_s(LOOK_AT_RUNNING_S)


class _Watch:
    """One watch, and how far it has come."""

    def __init__(self, owner: Owner, conversation_id: UUID, after_sequence: int) -> None:
        self.owner = owner
        self.conversation_id = conversation_id
        self.topic = topic_of(owner, conversation_id)
        self.cursor = Cursor(after_sequence)
        self.position = Position(0, -1)
        """The last event delivered, of the turn `_followed`."""
        self._followed: UUID | None = None
        self.has_begun = False
        """Whether the conversation was there once."""
        self.standing: ConversationState | None = None
        """How the conversation stood when it was last looked at without a signal."""
        spread = random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        self.ends_at = asyncio.get_running_loop().time() + WATCH_S * spread
        self.progress_at = 0.0

    def open_source(self) -> AttemptRef | None:
        """Return where the open turn's events are, if there is one."""
        turn = self.cursor.open_turn
        if turn is None:
            return None
        if (self._followed, self.position.attempt) != (turn.id, turn.attempt):
            self._followed = turn.id
            self.position = Position(turn.attempt, -1)
        return AttemptRef(self.conversation_id, turn.id, turn.user_sequence, turn.attempt)

    def next_look_s(self, period_s: float) -> float:
        """Return how long it is to this conversation's next look, in seconds."""
        phase_s = self.topic.int % 997 / 997 * period_s
        return period_s - (asyncio.get_running_loop().time() + phase_s) % period_s
