"""Following a turn under way: what has been stored of it, then live, on whatever worker it runs."""

import asyncio
import weakref
from bisect import bisect_right
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakValueDictionary

from parley_server.core.attempts.running import Attempts
from parley_server.core.bells import LOOK_WITH_SIGNALS_S, Bell, Bells
from parley_server.core.errors import StoreUnavailable
from parley_server.core.model import (
    Lease,
    Owner,
    Piece,
    Position,
    Started,
    StoredEvent,
    StreamEvent,
    Text,
    ToolCall,
    Turn,
)
from parley_server.core.ports import Store
from parley_server.core.sharing import Shared
from parley_server.core.tasks import wait_any

EVENT_LOOK_S = 0.2
"""How often events of another worker are looked for where no signals reach this one."""
EVENTS_AT_ONCE = 100
EVENT_BYTES_AT_ONCE = 64 * 1024
KEPT_BYTES = 128 * 1024
"""How much of an attempt is kept for those who follow it a little later than the first."""


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """An attempt whose events can be followed."""

    conversation_id: UUID
    turn_id: UUID
    user_sequence: int
    attempt: int


class FeedPage(NamedTuple):
    """Events of an attempt, in order."""

    events: list[StoredEvent]
    has_more: bool
    """Whether there may be more by now. False: what comes later rings the turn's bell."""


class Events:
    """The attempts that are followed on this worker."""

    def __init__(self, store: Store, bells: Bells, attempts: Attempts) -> None:
        self._store = store
        self._bells = bells
        self._attempts = attempts
        self._feeds: WeakValueDictionary[tuple[UUID, UUID, int], Feed] = WeakValueDictionary()

    def feed(self, owner: Owner, source: AttemptRef) -> "Feed":
        """Return an attempt's events, the same feed for all who follow it at the same time."""
        key = (owner.id, source.turn_id, source.attempt)
        feed = self._feeds.get(key)
        if feed is None:
            feed = Feed(self._store, self._bells, self._attempts, owner, source)
            self._feeds[key] = feed
        return feed

    def next_look_s(self, source: AttemptRef) -> float:
        """Return how long to wait for a bell before looking all the same, in seconds.

        Looks fall on the same moments for all that wait, so that they can share a statement.
        """
        if self._bells.reach_other_workers or self._attempts.find(source.turn_id) is not None:
            return self._bells.next_look_s()
        return EVENT_LOOK_S - asyncio.get_running_loop().time() % EVENT_LOOK_S


class Feed:
    """The events of an attempt: out of memory where it runs here, else out of the store.

    The store is asked once for all who keep up, each time that the turn's bell has rung; the newest
    events are kept for those who come a little later. Those who are far behind, or begin to follow,
    read pages by themselves, and nothing is kept for them.
    """

    def __init__(
        self, store: Store, bells: Bells, attempts: Attempts, owner: Owner, source: AttemptRef
    ) -> None:
        self._store = store
        self._bells = bells
        self._attempts = attempts
        self._owner = owner
        self._source = source
        self._kept: list[StoredEvent] = []
        """The newest events that were read for all."""
        self._kept_bytes = 0
        self._end: int | None = None
        """Up to which index was read for all. None: nothing was."""
        self._has_more = False
        """Whether the last page was full."""
        self._bell: Bell | None = None
        """Not done: nothing was stored since the last look began."""
        self._looked_at = 0.0
        self._listening = ExitStack()
        weakref.finalize(self, self._listening.close)
        self._looks: Shared[None, None] = Shared()
        self._pages: Shared[int, FeedPage] = Shared()

    async def after(self, index: int) -> FeedPage:
        """Return what has been stored behind an index, up to a page of it."""
        here = self._attempts.find(self._source.turn_id)
        if here is not None and here.lease.attempt == self._source.attempt:
            return _page_of(here.events.stored if here.events else [], index)
        if self._end is None:
            self._end = index
        if index >= self._end and not self._is_up_to_date:
            await self._looks.read(None, self._look)
        if index < self._end and (not self._kept or self._kept[0].index > index + 1):
            return await self._pages.read(index, lambda: self._read(index))
        page = _page_of(self._kept, index)
        # Where no signals come, the next look is near.
        is_late = self._bells.reach_other_workers and not self._is_up_to_date
        return FeedPage(page.events, page.has_more or self._has_more or is_late)

    @property
    def _is_up_to_date(self) -> bool:
        is_quiet = self._bell is not None and not self._bell.done()
        # A signal may be lost: then the next look that is due finds what it was for.
        is_due = asyncio.get_running_loop().time() > self._looked_at + LOOK_WITH_SIGNALS_S
        return is_quiet and not is_due and self._bells.reach_other_workers

    async def _look(self) -> None:
        """Read what is new, for all. Does nothing if a look that has just ended saw everything."""
        if self._is_up_to_date:
            return
        self._bell = None
        self._looked_at = asyncio.get_running_loop().time()
        self._listening.close()
        bell = self._listening.enter_context(self._bells.listen(self._source.turn_id))
        end = -1 if self._end is None else self._end
        page = await self._read(end)
        self._keep(page.events, end)
        self._has_more = page.has_more
        if not page.has_more:
            self._bell = bell

    def _keep(self, events: list[StoredEvent], end: int) -> None:
        if not events:
            return
        self._kept += events
        self._kept_bytes += sum(map(_size, events))
        self._end = events[-1].index
        count = 0
        while self._kept_bytes > KEPT_BYTES and self._kept[count].index <= end:
            self._kept_bytes -= _size(self._kept[count])
            count += 1
        del self._kept[:count]

    async def _read(self, index: int) -> FeedPage:
        events = await self._store.events(
            self._owner,
            self._source.turn_id,
            self._source.attempt,
            index,
            limit=EVENTS_AT_ONCE,
            max_bytes=EVENT_BYTES_AT_ONCE,
            may_be_behind=True,
        )
        # How much a tool call counts for is the store's to know.
        is_full = (
            len(events) >= EVENTS_AT_ONCE
            or any(isinstance(stored.event, ToolCall) for stored in events)
            or sum(map(_size, events)) >= EVENT_BYTES_AT_ONCE
        )
        return FeedPage(events, has_more=is_full)


def _page_of(events: list[StoredEvent], index: int) -> FeedPage:
    """Return the events behind an index, up to a page of them."""
    first = bisect_right(events, index, key=attrgetter("index"))
    page = events[first : first + EVENTS_AT_ONCE]
    return FeedPage(page, has_more=first + len(page) < len(events))


def _size(stored: StoredEvent) -> int:
    event = stored.event
    if isinstance(event, Text):
        return len(event.text.encode())
    return len(event.arguments.encode()) + len(event.result.encode())


class Following:
    """What a stream sees of its turn while the work for it is done elsewhere."""

    def __init__(self, owner: Owner, events: Events, bells: Bells) -> None:
        self._owner = owner
        self._events = events
        self._bells = bells
        self._source: AttemptRef | None = None
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def attempt(self) -> int:
        """The attempt that was followed last; 0: none was."""
        return self._source.attempt if self._source else 0

    def follow(self, attempt: Lease | Turn) -> None:
        """Say which attempt there is to see from now on."""
        turn_id = attempt.turn_id if isinstance(attempt, Lease) else attempt.id
        source = AttemptRef(
            attempt.conversation_id, turn_id, attempt.user_sequence, attempt.attempt
        )
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
            up no other, and nothing is kept for it.
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
                await wait_any(work, changed, timeout_s=left_s)
                continue
            if not is_started:
                is_started = True
                yield Started(
                    source.conversation_id, source.turn_id, source.user_sequence, source.attempt
                )
            if position.attempt != source.attempt:
                position = Position(source.attempt, -1)
            feed = self._events.feed(self._owner, source)
            with self._bells.listen(source.turn_id) as bell:
                page = await feed.after(position.index)
                for stored in page.events:
                    position = Position(source.attempt, stored.index)
                    yield Piece(source.attempt, stored.index, stored.event)
                if not page.has_more and self._source is source:
                    look_s = min(left_s, self._events.next_look_s(source))
                    await wait_any(work, changed, bell, timeout_s=look_s)
