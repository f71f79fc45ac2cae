"""The turn machine: how one turn is claimed, waited for, run, and ended.

    chat ─► claim ─► lease ──────────────► run: window ─► agent ─► finish ─► answered
              │                             ▲                        └─ fail ─► error
              └► the turn of this request id│
                   answered ─► replayed     │
                   failed, newest ─► reclaim┘  abandoned: once this worker's place for it is free
                   queued, running ─► wait for its end, look again
                   waiting for its caller ─► what it waits for; `Resuming` lets it go on

Each call's work is a task that is never cancelled, because a statement that was sent cannot
be taken back: a lost caller is a signal to it (`Call.lose`), and so is a worker that drains. A
stream is such a call with a watcher: `Following` tells which attempt there is to see.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
from contextlib import aclosing, suppress
from typing import Any

from parley_server.core.attempts.roster import Roster
from parley_server.core.attempts.running import Attempts, TurnSettings
from parley_server.core.bells import Bells, topic_of
from parley_server.core.call import Call
from parley_server.core.errors import (
    ParleyError,
    StoreUnavailable,
    TurnNotFound,
)
from parley_server.core.model import (
    Begun,
    Completed,
    Lease,
    OnDisconnect,
    Owner,
    Position,
    StreamEvent,
    Turn,
    TurnRef,
    TurnRequest,
    TurnResult,
    TurnState,
    Wait,
)
from parley_server.core.patience import wait_until
from parley_server.core.ports import (
    NO_METER,
    NO_TRACER,
    Ids,
    Meter,
    Store,
    Tracer,
    WaitStore,
)
from parley_server.core.reading import find_turn
from parley_server.core.streams.following import Events, Following
from parley_server.core.tasks import Tasks, wait_any, wait_done
from parley_server.core.turns.claims import Claims
from parley_server.core.turns.rules import CancelStep, Step, next_cancel_step, next_step
from parley_server.core.turns.suspects import Suspects
from parley_server.core.turns.waiting import Waiting
from parley_server.core.turnstile import subtract

log = logging.getLogger("parley.turns")

OVERTIME_S = 10.0
"""How long after its end a call may still be writing down how it ended, before it is given up."""
CANCEL_WAIT_S = 2.0
"""How long CancelTurn waits for the turn to end."""

Work = Callable[[Call, Following | None], Coroutine[Any, Any, TurnResult]]
"""What is done for a call, followed by a stream or not."""


class Turns:
    """Runs turns for this worker's callers. Everything that outlives a call is in the store."""

    def __init__(
        self,
        store: Store,
        waits: WaitStore,
        roster: Roster,
        settings: TurnSettings,
        ids: Ids,
        bells: Bells,
        meter: Meter = NO_METER,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Make the turn machine.

        Args:
            ids: makes turn ids and conversation ids that rise with time.
        """
        self._store = store
        self._settings = settings
        self._bells = bells
        self.waiting = Waiting(bells)
        self.suspects = Suspects()
        self._meter = meter
        self.attempts = Attempts(store, waits, roster, settings, bells, meter, tracer)
        end_cancelled = self.attempts.ending.end_cancelled
        self._claims = Claims(store, end_cancelled, bells, self.waiting, ids, settings.lease_s)
        self.events = Events(store, bells, self.attempts)
        self._loop = asyncio.get_running_loop()
        self.tasks = Tasks(_log_defect)
        """What is under way for callers, and the attempts at started turns."""
        self.left_behind: Counter[Hashable] = Counter()
        """By owner, how many calls have ended before the work for them has: their turns go on."""
        self.roster = roster

    @property
    def queued(self) -> int:
        """How many calls of this worker queue up for a conversation's turn."""
        return self.waiting.queued

    @property
    def open_calls(self) -> int:
        """How many calls this worker has work under way for, those that were left included."""
        return len(self.tasks)

    async def chat(
        self, owner: Owner, ask: TurnRequest, time_left_s: float | None = None
    ) -> TurnResult:
        """Make one turn and return its answer, or the answer it was given before.

        Args:
            time_left_s: until the caller's deadline; None: it has none, the server's cap holds.
        Raises: ConversationNotFound, RequestIdReused, TurnInProgress, SequenceMismatch, LeaseLost,
            TurnSuperseded, AttemptsExhausted, TurnLimitReached, BudgetExhausted, AgentRefused,
            AgentTimeout, AgentUnavailable, DeadlineTooShort, InternalError, StoreUnavailable,
            WorkerDrained.
        Guarantees: promises 1 to 6 of the design. Cancelling it means that the caller is lost.
        """
        return await self.answered(
            owner, ask.on_disconnect, time_left_s, lambda *seen: self._answer(owner, ask, *seen)
        )

    async def stream(
        self, owner: Owner, ask: TurnRequest, after: Position, time_left_s: float | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """Make one turn and yield it as it comes, or attach to it while it runs.

        Args:
            after: the last event seen; of another attempt than the one that runs, it says nothing.
        Yields: Started, unless the turn had ended before; Pieces; Completed.
        Raises: as `chat`.
        Guarantees: what is yielded has been stored. Closing it means that the caller is lost.
        """
        events = self.streamed(
            owner,
            ask.on_disconnect,
            after,
            time_left_s,
            lambda *seen: self._answer(owner, ask, *seen),
        )
        async with aclosing(events):
            async for event in events:
                yield event

    async def answered(
        self, owner: Owner, on_disconnect: OnDisconnect, time_left_s: float | None, work: Work
    ) -> TurnResult:
        """Do the work of a call, which goes on without it if need be, and return what came of it.

        Args: as `chat`.
        Raises: StoreUnavailable: it has not come to an end in time; what the work raises.
        """
        call = Call(self._loop, time_left_s, self._settings.chat_timeout_s, on_disconnect)
        task = self.tasks.start(work(call, None))
        try:
            await wait_done(task, self._loop, call.ends_at + OVERTIME_S)
            if not task.done():
                raise StoreUnavailable
            return task.result()
        finally:
            self._leave(owner, call, task)

    async def streamed(
        self,
        owner: Owner,
        on_disconnect: OnDisconnect,
        after: Position,
        time_left_s: float | None,
        work: Work,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Do the work of a call as `answered`, and yield what there is to see meanwhile.

        Args: as `stream`.
        """
        call = Call(self._loop, time_left_s, self._settings.chat_timeout_s, on_disconnect)
        following = Following(owner, self.events, self._bells)
        task = self.tasks.start(work(call, following))
        try:
            seen = following.until(task, after, call.ends_at + OVERTIME_S)
            async with aclosing(seen):
                async for event in seen:
                    yield event
            yield Completed(await task, following.attempt)
        finally:
            self._leave(owner, call, task)

    async def cancel(self, owner: Owner, name: TurnRef) -> Turn:
        """Stop a turn and keep what was said so far as its answer.

        Returns: the turn as it stands after 2 s at the latest.
        Raises: TurnNotFound, StoreUnavailable.
        Guarantees: a turn that ended stays as it is; against a finish, the first commit wins.
        """
        work = self.tasks.start(self._cancelled(owner, name))
        await wait_done(work, self._loop, self._loop.time() + self._settings.chat_timeout_s)
        if not work.done():
            raise StoreUnavailable
        return work.result()

    async def run_started(self, begun: Begun) -> None:
        """Run an attempt at a started turn, without a caller. Whatever comes of it is stored."""
        call = Call(self._loop, None, self._settings.chat_timeout_s, OnDisconnect.CONTINUE)
        with suppress(ParleyError):  # written down, and nobody is left to tell
            await self.attempts.run_turn(begun.owner, begun.ask, begun.lease, call, has_events=True)

    async def drain(self, grace_s: float) -> None:
        """Take no new turns, let open ones end for a while, then end them as WORKER_DRAINED.

        Returns once everything that this worker has begun is written down, or cannot be.
        """
        self.waiting.drain()
        await self.tasks.wait(grace_s)
        self.attempts.end_all()
        self.attempts.close()
        for rest in (self.tasks, self.attempts.tasks):
            await rest.wait(OVERTIME_S)

    def _leave(self, owner: Owner, call: Call, work: asyncio.Task[TurnResult]) -> None:
        """Take note that a call has ended, whether or not its work has."""
        call.lose()
        if not work.done():
            self.left_behind[owner.id] += 1
            work.add_done_callback(lambda _: subtract(self.left_behind, owner.id))

    async def _answer(
        self, owner: Owner, ask: TurnRequest, call: Call, following: Following | None
    ) -> TurnResult:
        wait_until(call.ends_at)
        fingerprint = ask.fingerprint()
        found: Lease | Turn | None = None
        has_waited = False
        while True:
            self.waiting.check_draining()
            if found is None:
                found = await self._claims.claim(owner, ask, fingerprint, call)
            if isinstance(found, Lease):
                return await self.run(owner, ask, found, call, following)
            step = next_step(found, fingerprint, has_waited=has_waited)
            has_waited |= step is Step.WAIT
            came = await self.take(step, owner, ask, found, call, following)
            if isinstance(came, TurnResult):
                return came
            found = came

    async def take(
        self,
        step: Step,
        owner: Owner,
        ask: TurnRequest,
        turn: Turn,
        call: Call,
        following: Following | None,
    ) -> TurnResult | Turn | None:
        """Take the step that the rules name for a turn that is there.

        Returns: its answer; else the turn as it stands then; None: it is gone.
        Raises: as `chat`.
        """
        match step:
            case Step.REPLAY:
                self._meter.replayed(turn.agent)
                return replayed(turn)
            case Step.WAIT:
                if following is not None and turn.state is TurnState.RUNNING:
                    following.follow(turn)
                return await self._claims.wait_for_end(owner, turn, call)
            case Step.END_CANCELLED:
                await self.attempts.ending.end_cancelled(owner, turn)
                return await self._store.turn(owner, turn.conversation_id, turn.id)
            case Step.RETAKE:
                found = await self._claims.reclaim(owner, turn, call)
                if isinstance(found, Lease):
                    return await self.run(owner, ask, found, call, following)
                return found
            case Step.RETAKE_ALONE:
                with self.suspects.place(turn.abandoned_attempts) as place:
                    found = await self._claims.reclaim_in_place(owner, turn, call, place)
                    if isinstance(found, Lease):
                        return await self.run(owner, ask, found, call, following)
                return found

    async def run(
        self, owner: Owner, ask: TurnRequest, lease: Lease, call: Call, following: Following | None
    ) -> TurnResult:
        """Run an attempt for a call; its events are stored if anybody follows it, or may.

        Raises: as `Attempts.run_turn`.
        """
        if following is not None:
            following.follow(lease)
        has_events = following is not None or lease.is_started
        return await self.attempts.run_turn(owner, ask, lease, call, has_events=has_events)

    async def _cancelled(self, owner: Owner, name: TurnRef) -> Turn:
        turn = await find_turn(self._store, owner, name)
        loop = self._loop
        deadline = loop.time() + CANCEL_WAIT_S
        is_requested = False
        while True:
            with self._bells.listen(topic_of(owner, turn.conversation_id)) as bell:
                current = await self._store.turn(owner, turn.conversation_id, turn.id)
                if current is None:
                    raise TurnNotFound(name.turn_id, name.request_id)
                step = next_cancel_step(current)
                # It may have run no attempt at that moment, and run the next one by now.
                is_recorded = is_requested and current.is_cancel_requested
                if step is CancelStep.WAIT and not is_recorded:
                    is_requested = True
                    await self._store.request_cancel(owner, current)
                    self.attempts.keeping.heard(current.id)
                    self._bells.ring(current.id)
                if step is CancelStep.DONE or loop.time() >= deadline:
                    return current
                if step is CancelStep.UNQUEUE:
                    await self._store.cancel_queued(owner, current)
                    self._bells.ring_ended(owner, current.conversation_id)
                    continue
                if step is CancelStep.END_CANCELLED:
                    await self.attempts.ending.end_cancelled(owner, current)
                    continue
                look_s = min(self._bells.next_look_s(), deadline - loop.time())
                await wait_any(bell, timeout_s=look_s)


def _log_defect(error: BaseException) -> None:
    if not isinstance(error, ParleyError):
        log.error("call failed", extra={"error": type(error).__name__})


def replayed(turn: Turn) -> TurnResult:
    """Return the answer of a turn that has ended, or what one waits for, as told again."""
    if turn.wait is not None:
        return waiting(turn, turn.wait, is_replayed=True)
    if turn.answer is None or turn.context is None or turn.response_sequence is None:
        raise AssertionError("an answered turn without its answer")
    return TurnResult(
        conversation_id=turn.conversation_id,
        turn_id=turn.id,
        user_sequence=turn.user_sequence,
        response_sequence=turn.response_sequence,
        answer=turn.answer,
        context=turn.context,
        is_replayed=True,
    )


def waiting(turn: Turn, wait: Wait, *, is_replayed: bool) -> TurnResult:
    """Return what a call is told of a turn that waits for its caller."""
    return TurnResult(
        conversation_id=turn.conversation_id,
        turn_id=turn.id,
        user_sequence=turn.user_sequence,
        response_sequence=0,
        answer=wait.answer,
        context=None,
        is_replayed=is_replayed,
        pending=wait.pending,
    )
