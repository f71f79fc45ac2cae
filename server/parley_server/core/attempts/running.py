"""Running the agent for a turn whose lease is ours: window, agent, end; renewals meanwhile."""

import asyncio
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from parley_server.core.attempts.attempt import Attempt
from parley_server.core.attempts.ending import Ending
from parley_server.core.attempts.event_log import EventLog
from parley_server.core.attempts.keeping import Keeping
from parley_server.core.attempts.roster import NamedAgent, Roster
from parley_server.core.attempts.step_log import StepLog
from parley_server.core.attempts.window import Windows
from parley_server.core.bells import Bells, topic_of
from parley_server.core.call import Call
from parley_server.core.errors import InternalError, ParleyError
from parley_server.core.failures import Stop, error_of, outcome_of, raised_at
from parley_server.core.model import (
    AgentRun,
    Answer,
    FinishReason,
    Lease,
    Owner,
    TurnRequest,
    TurnResult,
)
from parley_server.core.patience import wait_until
from parley_server.core.ports import NO_METER, NO_TRACER, Meter, Store, Tracer, WaitStore
from parley_server.core.tasks import Tasks

log = logging.getLogger("parley.turns")


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """How turns are run."""

    lease_s: float
    chat_timeout_s: float
    """The server's cap on one call."""


class Attempts:
    """The attempts under way on this worker."""

    def __init__(
        self,
        store: Store,
        waits: WaitStore,
        roster: Roster,
        settings: TurnSettings,
        bells: Bells,
        meter: Meter = NO_METER,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._store = store
        self._roster = roster
        self._settings = settings
        self._bells = bells
        self._meter = meter
        self._tracer = tracer
        self._attempts: dict[UUID, Attempt] = {}
        self._is_closed = False
        """Whether attempts that begin are ended at once: their claims were under way."""
        self.tasks = Tasks()
        """Heartbeats, late writes, and agents that were told to stop."""
        self._loop = asyncio.get_running_loop()
        self._windows = Windows(store, self.tasks)
        self.ending = Ending(
            store, waits, roster, self._windows, bells, meter, self.tasks, settings.lease_s
        )
        self.keeping = Keeping(store, bells, self._attempts, self.tasks, settings.lease_s)

    def close(self) -> None:
        """Look for nothing any more, and end what begins from now on as WORKER_DRAINED."""
        self._is_closed = True
        self.keeping.close()

    def __len__(self) -> int:
        return len(self._attempts)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._attempts.values()))

    def find(self, turn_id: UUID) -> Attempt | None:
        """Return the attempt of a turn that runs on this worker."""
        return self._attempts.get(turn_id)

    def end_all(self) -> None:
        """End every attempt as WORKER_DRAINED."""
        for attempt in self._attempts.values():
            attempt.stop(Stop.WORKER_DRAINED)

    async def run_turn(
        self, owner: Owner, ask: TurnRequest, lease: Lease, call: Call, *, has_events: bool
    ) -> TurnResult:
        """Run an attempt to its end.

        Args:
            has_events: store what the agent says as it comes, for those who follow the turn.
        Returns: the answer; of a turn that was to be stopped, whatever ended it, what was said; of
            one that waits for its caller, what was said so far.
        Raises: AgentError, CallerLost, ConversationNotFound, LeaseLost, InternalError,
            StoreUnavailable, WorkerDrained.
        Guarantees: whatever happens, the conversation is free at once, or with the lease's end.
        """
        wait_until(call.run_ends_at)
        named = self._roster.seated(lease.agent)
        with named.uses, self._tracer.attempt(lease, named.name) as span:
            attempt = self._begin(owner, ask, lease, named, has_events)
            try:
                answered = await self._run_to_end(attempt, call)
            except ParleyError as error:
                span.ended(outcome_of(error), is_failure=True)
                raise
            span.ended("WAITING" if answered.pending else answered.answer.outcome)
            return answered

    async def _run_to_end(self, attempt: Attempt, call: Call) -> TurnResult:
        """Run an attempt, and see to it that whatever ends it is written down."""
        owner, lease, agent = attempt.owner, attempt.lease, attempt.named.name
        timer = call.attach(attempt.stop)
        heartbeat = self.keeping.keep(attempt)
        try:
            answered = await self._run(attempt, call)
        except ParleyError as error:
            answered = await self.ending.fail(attempt, error)
        except Exception as error:
            answered = await self.ending.fail(attempt, _broken(attempt, error))
        finally:
            timer.cancel()
            heartbeat.cancel()
            attempt.stop(Stop.AGENT_DONE)
            # A worker may have taken its own turn over: then the entry is the newer attempt's.
            if self._attempts.get(lease.turn_id) is attempt:
                del self._attempts[lease.turn_id]
            self._bells.ring_ended(owner, lease.conversation_id)
        if answered.pending:
            self._meter.waited(agent)
        else:
            self._meter.answered(agent, answered.answer)
        return answered

    def _begin(
        self, owner: Owner, ask: TurnRequest, lease: Lease, named: NamedAgent, has_events: bool
    ) -> Attempt:
        attempt = Attempt(owner, ask, lease, named, self._loop)
        if has_events:
            attempt.events = EventLog(
                lambda events: self._store.append(owner, lease, events),
                on_stored=lambda: self._bells.ring(lease.turn_id),
                on_lost=lambda: attempt.stop(Stop.LEASE_LOST),
            )
        self._attempts[lease.turn_id] = attempt
        if self._is_closed:
            attempt.stop(Stop.WORKER_DRAINED)
        if lease.is_taken_over:
            self._meter.taken_over()
            self._bells.ring_ended(owner, lease.conversation_id)
        else:
            self._bells.ring(topic_of(owner, lease.conversation_id))
        return attempt

    async def _run(self, attempt: Attempt, call: Call) -> TurnResult:
        """Read the window, run the agent, and write what it answers."""
        owner, lease, named = attempt.owner, attempt.lease, attempt.named
        window = await self._windows.read(owner, lease, attempt.ask.message, named.window)
        attempt.context = window.context
        attempt.steps = await self._steps(attempt)
        run = AgentRun(
            owner=owner,
            conversation_id=lease.conversation_id,
            turn_id=lease.turn_id,
            attempt=lease.attempt,
            window=window,
            instructions=named.window.told(lease.instructions),
            time_left_s=min(call.run_ends_at - self._loop.time(), named.limits.seconds or math.inf),
            steps=attempt.steps,
            tools=attempt.ask.tools,
            limits=named.limits,
        )
        answer = await self._answer_of(attempt, run)
        if answer.finish_reason is FinishReason.ACTION_REQUIRED:
            return await self.ending.wait(attempt, answer, window.context, call.run_ends_at)
        return await self.ending.finish(attempt, answer, window.context, call.run_ends_at)

    async def _steps(self, attempt: Attempt) -> StepLog:
        """Return where the attempt stores its steps, with those of the attempts before it."""
        owner, lease = attempt.owner, attempt.lease
        done = await self._store.steps(owner, lease.turn_id) if lease.attempt > 1 else []
        return StepLog(
            done,
            lambda step: self._store.store_step(owner, lease, step),
            on_lost=lambda: attempt.stop(Stop.LEASE_LOST),
            tasks=self.tasks,
        )

    async def _answer_of(self, attempt: Attempt, run: AgentRun) -> Answer:
        """Run the agent until something ends the attempt, and return what counts as its answer."""
        started = self._loop.time()
        try:
            why = await attempt.run(run, self.tasks)
        finally:
            seconds = self._loop.time() - started
            self._meter.agent_ran(attempt.named.name, seconds, attempt.transcript.usage)
            if attempt.events is not None:
                await attempt.events.close()
            if attempt.steps is not None:
                await attempt.steps.close()
        match why:
            case Stop.AGENT_DONE:
                return attempt.answer()
            case Stop.CANCELLED:
                return await self.ending.cancelled(attempt)
            case _:
                raise error_of(why, attempt.lease)


def _broken(attempt: Attempt, error: Exception) -> InternalError:
    """Log a defect that a run has met, and return what is told of it.

    Its text may hold what was said: the log gets type and place.
    """
    broken = InternalError(type(error).__name__, raised_at(error))
    log.error(
        "attempt broke",
        extra={
            "error": broken.error,
            "place": broken.place,
            "turn_id": str(attempt.lease.turn_id),
        },
    )
    return broken
