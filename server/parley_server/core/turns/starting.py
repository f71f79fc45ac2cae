"""Running started turns: on any worker that has room, in turn between owners.

    look ─► due, a few of each owner ─► begin ─► run
                                          └─► interrupted before ─► take again, end, or give up

A worker looks when something has changed here, when another worker says that it has no room, and
every two seconds. Calls with callers go first: started turns get the places that these leave free,
and at most half of all.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable
from math import ceil
from uuid import UUID

from parley_server.core.bells import Bells
from parley_server.core.errors import StoreUnavailable
from parley_server.core.failures import raised_at
from parley_server.core.model import (
    Backlog,
    Begun,
    FailureReason,
    Interrupted,
    NotBegun,
    Owner,
    QueueKey,
    RefusedTurn,
    Turn,
    TurnRequest,
    TurnState,
)
from parley_server.core.ports import QueueStore, Store
from parley_server.core.tasks import told_defects, wait_any
from parley_server.core.turns.machine import Turns
from parley_server.core.turnstile import subtract

log = logging.getLogger("parley.turns")

LOOK_S = 2.0
"""How often a worker looks for turns to begin. Lease + 5 s (promise 5) leaves room for it."""
AGAIN_S = 0.05
"""How soon it looks again where there may be more, or where another statement was in the way."""
REST = 2
"""How long it rests after a look, in times of what reading where turns are due has taken.

That reads a row for each conversation that is due, 10,000 of them in 8 ms of Postgres' CPU.
"""
LONGEST_REST_S = 0.5
BEGINS = 4
"""How many turns it begins at once: calls want the connections too."""
AT_ONCE = 100
"""How many conversations it takes note of in one look."""
SHARE = 0.5
"""How much of a worker's places started turns may have."""
BACKLOG_S = 10.0
"""How often it is measured how much there is to do."""
QUEUE_TOPIC = UUID(int=1)
"""What workers signal to each other when started turns wait and there is no room here."""


def _count_nothing() -> None:
    """Count nothing."""


class Starting:
    """Looks for started turns that can begin, from `open` to `close`, and runs them."""

    def __init__(
        self,
        queue: QueueStore,
        store: Store,
        turns: Turns,
        bells: Bells,
        *,
        places: int,
        calls: Callable[[], int],
        owner_share: float,
        count: Callable[[], None] = _count_nothing,
    ) -> None:
        """Look for nothing yet.

        Args:
            places: how many turns this worker runs at once, those of its callers included.
            calls: how many of them calls have.
            owner_share: how much of what started turns may have is one owner's at most.
            count: called for each turn that begins.
        """
        self._queue = queue
        self._store = store
        self._turns = turns
        self._bells = bells
        self._places = places
        self._calls = calls
        self._most = max(1, int(places * SHARE))
        self._most_of_owner = ceil(self._most * owner_share)
        self._count = count
        self._running: Counter[UUID] = Counter()
        """By owner, how many started turns run or are about to."""
        self._busy: set[QueueKey] = set()
        """Where one is about to."""
        self._served: dict[UUID, int] = {}
        """When each owner's last one began, in looks."""
        self._looks = 0
        self._rest_s = 0.0
        """How long to rest before the next look."""
        self._woken = asyncio.Event()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._looking: asyncio.Task[None] | None = None
        self._backlog_due = 0.0
        self.backlog = Backlog(0, 0, 0)
        """As last measured."""

    @property
    def _is_closing(self) -> bool:
        return self._closing.done()

    @property
    def running(self) -> int:
        """How many started turns run here."""
        return self._running.total()

    def open(self) -> None:
        """Begin to look."""
        self._looking = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Begin no more. What runs is the turn machine's to drain."""
        self._closing.set_result(None)
        self._woken.set()
        if self._looking is not None:
            await asyncio.wait([self._looking])

    def wake(self) -> None:
        """Look at once: a turn was accepted, or there is room. Without room, others are told."""
        if self._is_closing or self._room() <= 0:
            self._bells.ring(QUEUE_TOPIC)  # the end of a turn wakes this worker
        else:
            self._woken.set()

    def heard(self, topic: UUID) -> None:
        """Take note of a signal of another worker."""
        if topic == QUEUE_TOPIC:
            self._woken.set()

    def freed(self, owner: Owner, conversation_id: UUID) -> None:
        """Have the queue of a conversation looked at in which a call's turn has just ended."""
        self._turns.tasks.start(self._wake(owner, conversation_id))

    async def _wake(self, owner: Owner, conversation_id: UUID) -> None:
        await self._queue.wake(owner, conversation_id)
        self.wake()

    def _room(self) -> int:
        return min(self._most, self._places - self._calls()) - self.running

    async def _run(self) -> None:
        while not self._is_closing:
            self._woken.clear()
            try:
                has_more = await self._look()
            except StoreUnavailable:
                has_more = False  # the next look tries again
            except Exception as error:
                log.exception("starting turns failed", extra={"place": raised_at(error)})
                has_more = False
            rest_s = max(self._rest_s, AGAIN_S) if has_more else self._rest_s
            if rest_s:
                await wait_any(self._closing, timeout_s=rest_s)
            if not has_more:
                await self._wait(LOOK_S * random.uniform(0.8, 1.0))  # noqa: S311 - spreads load

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _look(self) -> bool:
        """Begin what there is room for. Returns: whether to look again soon."""
        self._rest_s = 0.0
        await self._measure()
        if self._room() <= 0:
            return False  # the end of a turn wakes it
        self._looks += 1
        due = await self._due()
        chosen = self._chosen(due)
        is_more = False
        for first in range(0, len(chosen), BEGINS):
            part = chosen[first : first + BEGINS]
            outcomes = await asyncio.gather(*(self._begin_or_tell(key) for key in part))
            is_more |= any(is_again for is_again in outcomes)
        return is_more or len(chosen) < len(due) == AT_ONCE

    async def _due(self) -> list[QueueKey]:
        """Read where turns are due, and note how long to rest for that."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        due = await self._queue.due(limit=AT_ONCE)
        self._rest_s = min(REST * (loop.time() - began), LONGEST_REST_S)
        return due

    def _chosen(self, due: Iterable[QueueKey]) -> list[QueueKey]:
        """Return where to begin now: owners in turn, those first that were served least lately."""
        rank: Counter[UUID] = Counter()
        ranked = []
        for key in due:
            owner = key.owner_id
            if key in self._busy or self._running[owner] + rank[owner] >= self._most_of_owner:
                continue
            ranked.append((self._running[owner] + rank[owner], self._served.get(owner, 0), key))
            rank[owner] += 1
        chosen = [key for _, _, key in sorted(ranked, key=lambda it: it[:2])][: self._room()]
        for key in chosen:
            self._served.pop(key.owner_id, None)
            self._served[key.owner_id] = self._looks
        while len(self._served) > 10 * AT_ONCE:
            del self._served[next(iter(self._served))]
        return chosen

    async def _begin_or_tell(self, key: QueueKey) -> bool:
        """Do as `_begin`. A defect that one queue meets keeps no other from its turn."""
        with told_defects(log, "started turn not begun", conversation_id=key.conversation_id):
            return await self._begin(key)
        return False

    async def _begin(self, key: QueueKey) -> bool:
        """Begin the first turn of a queue, and leave it to a task. Returns: whether to look again.

        The place is taken at once, and given back when the turn has ended.
        """
        if self._is_closing:
            return False
        self._take(key)
        try:
            found = await self._queue.begin(key)
        except BaseException:
            self._leave(key)
            raise
        if isinstance(found, RefusedTurn):
            self._leave(key)
            self._bells.ring_ended(found.owner, key.conversation_id)
            return True
        if isinstance(found, NotBegun):
            self._leave(key)
            return found is not NotBegun.BUSY
        if isinstance(found, Begun):
            self._busy.discard(key)
            self._count()
        work = self._run_begun(found) if isinstance(found, Begun) else self._resume(key, found)
        self._turns.tasks.start(work).add_done_callback(lambda _: self._end(key))
        return False

    def _take(self, key: QueueKey) -> None:
        self._busy.add(key)
        self._running[key.owner_id] += 1

    def _leave(self, key: QueueKey) -> None:
        self._busy.discard(key)
        subtract(self._running, key.owner_id)

    def _end(self, key: QueueKey) -> None:
        self._leave(key)
        self.wake()

    async def _run_begun(self, begun: Begun) -> None:
        await self._turns.run_started(begun)

    async def _resume(self, key: QueueKey, of: Interrupted) -> None:
        """Go on with a turn of which an attempt has ended, or was abandoned with its worker."""
        owner = of.owner
        turn = await self._store.turn(owner, of.conversation_id, of.turn_id)
        if turn is None:
            return
        if turn.is_cancel_requested:
            await self._turns.attempts.ending.end_cancelled(owner, turn)
            return
        is_over = turn.error_reason is FailureReason.ATTEMPTS_EXHAUSTED
        if is_over or (turn.state is TurnState.QUEUED and not turn.is_newest):
            await self._queue.give_up(of)
            self._bells.ring_ended(owner, of.conversation_id)
            return
        if not turn.abandoned_attempts:  # no suspect: it must not hold their place while it runs
            await self._run_again(key, of, turn)
            return
        with self._turns.suspects.place(turn.abandoned_attempts) as place:
            await wait_any(place, self._closing)
            await self._run_again(key, of, turn)

    async def _run_again(self, key: QueueKey, of: Interrupted, turn: Turn) -> None:
        """Make another attempt at a turn, unless this worker begins no more."""
        if self._is_closing:
            return
        lease = await self._store.reclaim(of.owner, turn)
        if lease is None:
            return
        self._busy.discard(key)
        ask = TurnRequest(
            of.conversation_id,
            of.message,
            request_id=turn.request_id,
            agent=turn.agent,
            tools=of.tools,
        )
        await self._run_begun(Begun(of.owner, lease, ask))

    async def _measure(self) -> None:
        """Measure now and then how much there is to do, for metrics."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._backlog_due:
            self._backlog_due = loop.time() + BACKLOG_S
            self.backlog = await self._queue.backlog()
