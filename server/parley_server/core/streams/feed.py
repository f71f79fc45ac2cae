"""Watching the feed of turns that ended: what has ended since a cursor, then what ends."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from parley_server.core.bells import Bell, Bells
from parley_server.core.errors import CursorExpired, FeedExpired, WorkerDrained
from parley_server.core.model import (
    BEGINNING,
    FedTurn,
    FeedCursor,
    FeedEntry,
    FeedPage,
    FeedPlace,
    FeedProgress,
    FeedQuestion,
    FeedScope,
    FeedUpdate,
    Turn,
    TurnState,
)
from parley_server.core.ports import FeedStore
from parley_server.core.sharing import Shared
from parley_server.core.streams.watches import PROGRESS_S, WATCH_S
from parley_server.core.tasks import wait_any
from parley_server.core.turnstile import Turnstile

PAGE_ENTRIES = 50
LOOK_S = 0.8
"""How often a feed is looked at where no signals reach this worker."""
LOOK_WITH_SIGNALS_S = 15.0
"""The same while they do: a worker that was killed may have told nobody."""
PENDING_LOOK_S = 0.02
"""How soon it is looked again for what has ended and may not be told yet; then later and later."""
LONGEST_PENDING_LOOK_S = 0.5
GATHER_S = 0.03
"""How long a signal is followed by others before it is looked what they were for."""
SETTLE_S = 10.0
"""How long cursors may stay where the last settling has moved them: it is a write."""

READING = 6
"""How many statements the watches of a worker run at once, in turn between those who watch. One
that watches a tenant reads on behalf of all its owners: to the pool, it would be as many."""
READING_FOR_ONE = 2
"""How many of them for one."""

_RUN_AGAIN_TEXT = "the attempt failed, and the turn was run again"


class Feeds:
    """The watches of feeds on this worker."""

    def __init__(
        self, store: FeedStore, bells: Bells, count: Callable[[], None] | None = None
    ) -> None:
        """Watch nothing yet.

        Args:
            count: called for each turn that is told.
        """
        self._store = store
        self._bells = bells
        self._count = count
        self._pages: Shared[tuple[UUID, FeedPlace], FeedPage] = Shared()
        self._turns: Shared[tuple[object, ...], dict[UUID, tuple[Turn, str]]] = Shared()
        self._settling: Shared[None, None] = Shared()
        self._settled: FeedCursor | None = None
        """No crash of the database takes the feed back behind it. None: not asked yet."""
        self._settle_at = 0.0
        self._reading = Turnstile(READING, width_of_key=READING_FOR_ONE)
        self._draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open = 0
        """How many watches there are."""

    def drain(self) -> None:
        """End every watch, and begin no more."""
        if not self._draining.done():
            self._draining.set_result(None)

    async def watch(self, question: FeedQuestion) -> AsyncGenerator[FeedUpdate, None]:
        """Yield each turn that ended behind a cursor, and then each that ends.

        Raises: CursorExpired, StoreUnavailable; FeedExpired after about four minutes;
            WorkerDrained.
        Guarantees: each end of a turn once, in an order that is the same for every watch. Progress
            when all that had ended was told.
        """
        watch = _FeedWatch(question)
        self.open += 1
        try:
            while True:
                with self._bells.listen(question.scope.id) as changed:
                    async with aclosing(self._ended(watch)) as updates:
                        async for update in updates:
                            yield update
                    await self._until_next_look(watch, changed)
        finally:
            self.open -= 1

    async def _ended(self, watch: "_FeedWatch") -> AsyncGenerator[FeedUpdate, None]:
        """Yield all that may be told by now, and progress if it is due."""
        is_full = True
        while is_full:
            self._check_over(watch)
            page = await self._page(watch.scope, watch.place or BEGINNING)
            if watch.skips_old:
                await self._settle(page)
                page = watch.skipped(page)
            if not watch.is_continued_by(page):
                raise CursorExpired(await self._oldest_time(watch.scope))
            watch.begin(page)
            async with aclosing(self._told(watch, page)) as turns:
                async for turn in turns:
                    yield turn
            is_full = page.is_full
        watch.is_pending = page.is_pending
        is_progress_due = not page.is_pending and watch.is_progress_due()
        if is_progress_due and self._is_settling_due(page):
            await self._settle(page)
        watch.move_on(page, self._settled)
        if is_progress_due:
            yield FeedProgress(FeedCursor(page.epoch, watch.place or BEGINNING))

    def _is_settling_due(self, page: FeedPage) -> bool:
        is_old = asyncio.get_running_loop().time() >= self._settle_at
        return is_old or self._settled is None or self._settled.epoch != page.epoch

    async def _settle(self, page: FeedPage) -> None:
        """Have a page's horizon outlive a crash of the database, so that a cursor may go there.

        Postgres gives transaction ids out again that no stored transaction has used: a cursor
        ahead of the disk would miss what they end.
        """
        await self._settling.read(None, self._store.settle)
        self._settle_at = asyncio.get_running_loop().time() + SETTLE_S
        reached = page.horizon
        if self._settled is not None and self._settled.epoch == page.epoch:
            reached = max(reached, self._settled.place)
        self._settled = FeedCursor(page.epoch, reached)

    async def _told(self, watch: "_FeedWatch", page: FeedPage) -> AsyncGenerator[FeedUpdate, None]:
        """Yield the turns of a page, each as its entry says that it ended."""
        found: dict[tuple[UUID, UUID], tuple[Turn, str]] = {}
        for owner_id in dict.fromkeys(entry.owner_id for entry in page.entries):
            ids = tuple(
                dict.fromkeys(e.place.turn_id for e in page.entries if e.owner_id == owner_id)
            )
            turns = await self._read_turns(watch, owner_id, ids)
            found |= {(owner_id, turn_id): turn for turn_id, turn in turns.items()}
        for entry in page.entries:
            watch.place = entry.place
            known = found.get((entry.owner_id, entry.place.turn_id))
            if known is not None:
                turn, user = known
                if self._count is not None:
                    self._count()
                yield FedTurn(
                    _as_ended(turn, entry),
                    user if watch.scope.is_tenant else "",
                    FeedCursor(page.epoch, entry.place),
                )

    async def _page(self, scope: FeedScope, after: FeedPlace) -> FeedPage:
        """Read what comes behind a place: once for all watches that stand there."""

        async def read() -> FeedPage:
            async with self._reading.of(scope.owner.id):
                return await self._store.feed(scope, after, limit=PAGE_ENTRIES)

        return await self._pages.read((scope.id, after), read)

    async def _read_turns(
        self, watch: "_FeedWatch", owner_id: UUID, ids: tuple[UUID, ...]
    ) -> dict[UUID, tuple[Turn, str]]:
        """Read turns of one owner: once for all watches that tell of them at the same time."""
        tenant, labels = watch.scope.owner.tenant, watch.labels

        async def read() -> dict[UUID, tuple[Turn, str]]:
            async with self._reading.of(watch.scope.owner.id):
                return await self._store.fed_turns(owner_id, tenant, ids, labels)

        return await self._turns.read((owner_id, tenant, ids, tuple(sorted(labels.items()))), read)

    async def _oldest_time(self, scope: FeedScope) -> datetime:
        """Return when the oldest turn ended that is kept, or the present time."""
        page = await self._store.feed(scope, BEGINNING, limit=1)
        return page.entries[0].end_time if page.entries else datetime.now(UTC)

    async def _until_next_look(self, watch: "_FeedWatch", changed: Bell) -> None:
        """Wait for something to end, or for the time to look all the same."""
        period_s = LOOK_WITH_SIGNALS_S if self._bells.reach_other_workers else LOOK_S
        wait_s = watch.next_wait_s(period_s)
        await wait_any(changed, self._draining, timeout_s=wait_s)
        if changed.done():  # more ends at about the same time, as a rule
            await wait_any(self._draining, timeout_s=GATHER_S)

    def _check_over(self, watch: "_FeedWatch") -> None:
        """Raise WorkerDrained or FeedExpired once a watch is to end."""
        if self._draining.done():
            raise WorkerDrained
        if asyncio.get_running_loop().time() >= watch.ends_at:
            raise FeedExpired


class _FeedWatch:
    """One watch, and how far it has come."""

    def __init__(self, question: FeedQuestion) -> None:
        self.scope = question.scope
        self.labels = question.labels
        self.place: FeedPlace | None = None
        """Behind the last turn told. None: at the beginning of what is kept."""
        self.is_pending = False
        """Whether something had ended at the last look that could not be told yet."""
        self._epoch: UUID | None = None
        if question.after is not None:
            self._epoch, self.place = question.after
        self.skips_old = question.only_new and question.after is None
        """Whether what is there is not told."""
        self._pending_look_s = PENDING_LOOK_S
        self._loop = asyncio.get_running_loop()
        spread = random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        self.ends_at = self._loop.time() + WATCH_S * spread
        self._progress_at = 0.0

    def is_continued_by(self, page: FeedPage) -> bool:
        """Whether all that ended behind this watch's place is kept, and the place is of this feed.

        A place in the future is of a database that went back to an earlier state.
        """
        if self.place is None:
            return True
        is_kept = page.removed_xid <= self.place.xid <= page.next_xid
        return is_kept and page.epoch == self._epoch

    def begin(self, page: FeedPage) -> None:
        """Take note of the epoch."""
        self._epoch = page.epoch

    def skipped(self, page: FeedPage) -> FeedPage:
        """Return a first page without what it holds: all before the horizon is not told."""
        self.skips_old = False
        return replace(page, entries=(), is_full=False)

    def move_on(self, page: FeedPage, settled: FeedCursor | None) -> None:
        """Go to the horizon of a page that was told, as far as no crash takes the feed back."""
        if settled is not None and settled.epoch == page.epoch:
            self.place = max(self.place or BEGINNING, min(page.horizon, settled.place))

    def is_progress_due(self) -> bool:
        """Whether to tell that all was told; if so, that is noted as done."""
        is_due = self._loop.time() >= self._progress_at
        if is_due:
            self._progress_at = self._loop.time() + PROGRESS_S
        return is_due

    def next_wait_s(self, period_s: float) -> float:
        """Return how long to wait for a signal, in seconds.

        The watches of a feed look at the same moments, to share their statements.
        """
        now = self._loop.time()
        if self.is_pending:
            self._pending_look_s = min(self._pending_look_s * 2, LONGEST_PENDING_LOOK_S)
            return self._pending_look_s
        self._pending_look_s = PENDING_LOOK_S
        phase_s = self.scope.id.int % 997 / 997 * period_s
        look_at = now + period_s - (now + phase_s) % period_s
        return max(0, min(look_at, self._progress_at, self.ends_at) - now)


def _as_ended(turn: Turn, entry: FeedEntry) -> Turn:
    """Return a turn as the attempt left it of which an entry says that it ended.

    An answer is final. Of an attempt that failed the turn may have been run again since.
    """
    is_as_now = turn.state is TurnState.FAILED and turn.attempt == entry.attempt
    if entry.is_waiting:
        return _as_waited(turn, entry)
    if entry.error_reason is None or is_as_now:
        return turn
    return replace(
        turn,
        state=TurnState.FAILED,
        attempt=entry.attempt,
        error_reason=entry.error_reason,
        error_text=_RUN_AGAIN_TEXT,
        end_time=entry.end_time,
        response_sequence=None,
        context=None,
        answer=None,
    )


def _as_waited(turn: Turn, entry: FeedEntry) -> Turn:
    """Return a turn as it was when it began to wait; what it waits for only while it does."""
    if turn.state is TurnState.WAITING and turn.attempt == entry.attempt:
        return turn
    return replace(
        turn,
        state=TurnState.WAITING,
        attempt=entry.attempt,
        error_reason=None,
        error_text="",
        end_time=None,
        response_sequence=None,
        context=None,
        answer=None,
        wait=None,
    )
