"""Running the agent for a turn whose lease is ours: window, agent, finish; heartbeats meanwhile."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from parley_server.core.attempts.attempt import Attempt
from parley_server.core.attempts.event_log import EventLog
from parley_server.core.attempts.transcript import Transcript
from parley_server.core.attempts.window import budget_bytes, window_of
from parley_server.core.bells import Bells, topic_of
from parley_server.core.call import Call
from parley_server.core.errors import (
    ConversationNotFound,
    InternalError,
    LeaseLost,
    ParleyError,
    StoreUnavailable,
)
from parley_server.core.failures import Stop, error_of, place, reason_of
from parley_server.core.model import (
    AgentRun,
    Answer,
    Answered,
    Ask,
    Context,
    Failing,
    FailureReason,
    Lease,
    Owner,
    Turn,
    Window,
)
from parley_server.core.patience import wait_until, waiting_until
from parley_server.core.ports import NO_METER, Agent, Meter, Store
from parley_server.core.tasks import Heartbeat, insist

log = logging.getLogger("parley.turns")

CANCEL_LOOK_S = 0.5
"""How often a running turn is looked at for CancelTurn, where no signals reach this worker."""
FAILURE_WAIT_S = 1.0
"""How long a caller waits for its turn's failure to be written down before it is told of it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TurnSettings:
    lease_s: float
    chat_timeout_s: float
    """The server's cap on one call."""
    context_messages: int
    context_tokens: int
    instructions: str = ""


class Runs:
    """The attempts under way on this worker."""

    def __init__(
        self,
        store: Store,
        agents: Mapping[str, Agent],
        settings: TurnSettings,
        bells: Bells,
        meter: Meter = NO_METER,
    ) -> None:
        self._store = store
        self._agents = agents
        self._settings = settings
        self._bells = bells
        self._meter = meter
        self._attempts: dict[UUID, Attempt] = {}
        self.chores: set[asyncio.Task[Any]] = set()
        """Heartbeats, late writes, and agents that were told to stop."""
        self._loop = asyncio.get_running_loop()
        self._looking = Heartbeat(
            CANCEL_LOOK_S, self._look_without_signals, self.chores, self._loop
        )

    def close(self) -> None:
        """Look for nothing any more."""
        self._looking.cancel()

    def __len__(self) -> int:
        return len(self._attempts)

    def find(self, turn_id: UUID) -> Attempt | None:
        """Return the attempt of a turn that runs on this worker."""
        return self._attempts.get(turn_id)

    def end_all(self) -> None:
        """End every attempt as WORKER_DRAINED."""
        for attempt in self._attempts.values():
            attempt.stop(Stop.WORKER_DRAINED)

    def heard(self, topic: UUID) -> None:
        """Take note of a signal: of a turn that runs here, it may be that it is to be stopped."""
        attempt = self._attempts.get(topic)
        if attempt is not None:
            self._do(self._look_for_cancel(attempt))

    def heard_nothing(self) -> None:
        """Take note that signals may have been missed."""
        self._do(self._look_at_all())

    async def run(
        self, owner: Owner, ask: Ask, lease: Lease, call: Call, *, has_events: bool
    ) -> Answered:
        """Run an attempt to its end.

        Args:
            has_events: store what the agent says as it comes, for those who follow the turn.
        Returns: the answer; of a turn that was to be stopped, whatever ended it, what was said.
        Raises: AgentError, CallerLost, ConversationNotFound, LeaseLost, InternalError,
            StoreUnavailable, WorkerDrained.
        Guarantees: whatever happens, the conversation is free at once, or with the lease's end.
        """
        wait_until(call.run_ends_at)
        attempt = self._begin(owner, ask, lease, has_events)
        timer = call.attach(attempt.stop)
        heartbeat = Heartbeat(
            self._settings.lease_s / 3, lambda: self._renew(attempt), self.chores, self._loop
        )
        try:
            window = await self._window(owner, lease, ask.message)
            attempt.context = window.context
            run = AgentRun(
                owner=owner,
                conversation_id=lease.conversation_id,
                turn_id=lease.turn_id,
                attempt=lease.attempt,
                window=window,
                instructions=self._settings.instructions,
                time_left_s=call.run_ends_at - self._loop.time(),
            )
            answer = await self._answer_of(attempt, run, ask.agent)
            answered = await self._finish(attempt, answer, window.context, call.run_ends_at)
        except ParleyError as error:
            answered = await self._failed(attempt, ask, error)
        except Exception as error:
            answered = await self._failed(attempt, ask, _broken(attempt, error))
        finally:
            timer.cancel()
            heartbeat.cancel()
            attempt.stop(Stop.AGENT_DONE)
            # A worker may have taken its own turn over: then the entry is the newer attempt's.
            if self._attempts.get(lease.turn_id) is attempt:
                del self._attempts[lease.turn_id]
            self._bells.ring(topic_of(owner, lease.conversation_id))
        self._meter.answered(ask.agent, answered.answer)
        return answered

    def _begin(self, owner: Owner, ask: Ask, lease: Lease, has_events: bool) -> Attempt:
        attempt = Attempt(owner, lease, self._agents[ask.agent], self._loop)
        if has_events:
            attempt.events = EventLog(
                lambda events: self._store.append(owner, lease, events),
                on_stored=lambda: self._bells.ring(lease.turn_id),
                on_lost=lambda: attempt.stop(Stop.LEASE_LOST),
            )
        self._attempts[lease.turn_id] = attempt
        if lease.is_taken_over:
            self._meter.taken_over()
        self._bells.ring(topic_of(owner, lease.conversation_id))
        return attempt

    async def _answer_of(self, attempt: Attempt, run: AgentRun, agent: str) -> Answer:
        """Run the agent until something ends the attempt, and return what counts as its answer."""
        started = self._loop.time()
        try:
            why = await attempt.run(run, self.chores)
        finally:
            self._meter.agent_ran(agent, self._loop.time() - started, attempt.transcript.usage)
            if attempt.events is not None:
                await attempt.events.close()
        match why:
            case Stop.AGENT_DONE:
                return attempt.answer()
            case Stop.CANCELLED:
                return attempt.transcript.answer(is_cancelled=True)
            case _:
                raise error_of(why, attempt.lease)

    async def _window(self, owner: Owner, lease: Lease, message: str) -> Window:
        settings = self._settings
        max_bytes = budget_bytes(settings.context_tokens, settings.instructions)
        newest_first = []
        if lease.user_sequence > 1:
            newest_first = await self._store.window(
                owner,
                lease,
                max_messages=settings.context_messages - 1,
                max_bytes=max(0, max_bytes - len(message.encode())),
            )
            before = newest_first[0].sequence if newest_first else 0
            if before != lease.user_sequence - 1:
                # The message before has no answer, and its turn cannot be run again any more.
                self._do(self._forget_events(owner, lease))
        return window_of(newest_first, lease.user_sequence, message, max_bytes)

    async def _forget_events(self, owner: Owner, lease: Lease) -> None:
        with suppress(StoreUnavailable):  # they are never read
            await self._store.forget_events(owner, lease)

    async def _finish(
        self, attempt: Attempt, answer: Answer, context: Context, deadline: float
    ) -> Answered:
        lease = attempt.lease
        has_events = attempt.events is not None
        sequence = await self._written(
            attempt.owner, lease, answer, context, deadline, has_events=has_events
        )
        return Answered(
            conversation_id=lease.conversation_id,
            turn_id=lease.turn_id,
            user_sequence=lease.user_sequence,
            response_sequence=sequence,
            answer=answer,
            context=context,
            is_replayed=False,
        )

    async def _written(
        self,
        owner: Owner,
        lease: Lease,
        answer: Answer,
        context: Context,
        deadline: float,
        *,
        has_events: bool,
    ) -> int:
        """Write the answer, again and again until the database says what became of it.

        Returns: the answer's sequence.
        """
        sequence = await insist(
            lambda: self._store.finish(owner, lease, answer, context, has_events=has_events),
            deadline,
        )
        if sequence is not None:
            return sequence
        turn = await insist(
            lambda: self._store.turn(owner, lease.conversation_id, lease.turn_id), deadline
        )
        if turn is None:
            raise ConversationNotFound(lease.conversation_id)
        is_ours = turn.attempt == lease.attempt and turn.answer == answer
        if is_ours and turn.response_sequence is not None:
            return turn.response_sequence  # an earlier try had been carried out
        raise LeaseLost

    async def end_cancelled(self, owner: Owner, turn: Turn) -> None:
        """Close a turn that is to be stopped and that no worker runs, with what it had said.

        Of a turn without a stream nothing was stored: its answer is empty.

        Raises: StoreUnavailable.
        """
        lease = await self._store.take_over(owner, turn)
        if lease is None:
            return
        self._meter.taken_over()
        transcript = Transcript(model="")
        index = -1
        while events := await self._store.events(owner, turn.id, turn.attempt, index):
            for event in events:
                transcript.add(event.event)
            index = events[-1].index
        own = await self._store.history(
            owner,
            turn.conversation_id,
            above=turn.user_sequence - 1,
            below=turn.user_sequence + 1,
            newest_first=False,
            limit=1,
        )
        window = await self._window(owner, lease, own.messages[0].content)
        answer = transcript.answer(is_cancelled=True)
        await self._store.finish(owner, lease, answer, window.context, has_events=True)
        self._bells.ring(topic_of(owner, turn.conversation_id))

    # Failures

    async def _failed(self, attempt: Attempt, ask: Ask, error: ParleyError) -> Answered:
        """Write down why the attempt failed, so that the conversation is free at once.

        Returns: what was said, if the turn was to be stopped: its failure is no news then.
        Raises: the error.
        """
        reason = reason_of(error)
        if reason is not None:
            write = self._do(self._write_failure(attempt, ask.message, reason, str(error)))
            # With the database away, the caller is told without it.
            await asyncio.wait([write], timeout=FAILURE_WAIT_S)
            if write.done() and (cancelled := write.result()):
                return cancelled
        self._meter.failed(ask.agent, error)
        raise error

    async def _write_failure(
        self, attempt: Attempt, message: str, reason: FailureReason, text: str
    ) -> Answered | None:
        """Close the turn as failed, or as cancelled if it was to be stopped.

        Returns: the answer of a cancelled turn.
        """
        owner, lease = attempt.owner, attempt.lease
        deadline = self._loop.time() + self._settings.lease_s
        try:
            done = await insist(lambda: self._store.fail(owner, lease, reason, text), deadline)
            if done is not Failing.CANCEL_REQUESTED:
                return None
            context = attempt.context or (await self._window(owner, lease, message)).context
            answer = attempt.transcript.answer(is_cancelled=True)
            return await self._finish(attempt, answer, context, deadline)
        except StoreUnavailable:
            log.warning(  # the lease has run out by now: the turn counts as abandoned
                "failure not stored", extra={"turn_id": str(lease.turn_id)}
            )
            return None
        except ParleyError:
            return None  # somebody else has the turn, or it is gone
        finally:
            self._bells.ring(topic_of(owner, lease.conversation_id))

    # While the agent runs

    async def _renew(self, attempt: Attempt) -> None:
        """Keep the lease. With the database away, the agent goes on."""
        owner, lease = attempt.owner, attempt.lease
        try:
            with waiting_until(self._loop.time()):  # late, it would hold what nobody runs any more
                is_to_stop = await self._store.renew(owner, lease)
            if is_to_stop:
                attempt.stop(Stop.CANCELLED)  # its signal got lost
            if is_to_stop is not None:
                return
            turn = await self._store.turn(owner, lease.conversation_id, lease.turn_id)
        except StoreUnavailable:
            log.warning("heartbeat not stored", extra={"turn_id": str(lease.turn_id)})
            return
        if turn is None:
            attempt.stop(Stop.CONVERSATION_GONE)
        elif turn.fence != lease.fence:
            attempt.stop(Stop.LEASE_LOST)

    async def _look_without_signals(self) -> None:
        if not self._bells.reach_other_workers:
            await self._look_at_all()

    async def _look_at_all(self) -> None:
        """Look at every turn that runs here, for CancelTurn."""
        await asyncio.gather(*(self._look_for_cancel(a) for a in list(self._attempts.values())))

    async def _look_for_cancel(self, attempt: Attempt) -> None:
        """Stop an attempt whose turn is to be stopped."""
        owner, lease = attempt.owner, attempt.lease
        try:
            turn = await self._store.turn(owner, lease.conversation_id, lease.turn_id)
        except StoreUnavailable:
            return  # the next look sees it
        if turn is not None and turn.is_cancel_requested and turn.fence == lease.fence:
            attempt.stop(Stop.CANCELLED)

    def _do(self, chore: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(chore)
        self.chores.add(task)
        task.add_done_callback(self.chores.discard)
        return task


def _broken(attempt: Attempt, error: Exception) -> InternalError:
    """Log a defect that a run has met, and return what is told of it.

    Its text may hold what was said: the log gets type and place.
    """
    broken = InternalError(type(error).__name__, place(error))
    log.error(
        "run broke",
        extra={
            "error": broken.error,
            "place": broken.place,
            "turn_id": str(attempt.lease.turn_id),
        },
    )
    return broken
