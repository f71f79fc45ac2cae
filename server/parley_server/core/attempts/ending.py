"""Writing down how attempts end: with an answer, as failed, or as cancelled."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from parley_server.core.attempts.attempt import Attempt
from parley_server.core.attempts.closing import closed, given_in
from parley_server.core.attempts.roster import Roster
from parley_server.core.attempts.transcript import Transcript, fitting
from parley_server.core.attempts.window import Windows
from parley_server.core.bells import Bells
from parley_server.core.errors import ConversationNotFound, LeaseLost, ParleyError, StoreUnavailable
from parley_server.core.failures import reason_of
from parley_server.core.model import (
    Answer,
    Context,
    Failing,
    FailureReason,
    FinishReason,
    Owner,
    Step,
    Turn,
    TurnResult,
    TurnState,
    WaitEnd,
)
from parley_server.core.ports import Looked, Meter, SteppingAgent, Store, WaitStore
from parley_server.core.tasks import Tasks, retry_while_unavailable

log = logging.getLogger("parley.turns")

FAILURE_WAIT_S = 1.0
"""How long a caller waits for its turn's failure to be written down before it is told of it."""


class Ending:
    """Ends attempts, each under its fence: one that has lost its lease changes nothing."""

    def __init__(
        self,
        store: Store,
        waits: WaitStore,
        roster: Roster,
        windows: Windows,
        bells: Bells,
        meter: Meter,
        tasks: Tasks,
        lease_s: float,
    ) -> None:
        self._store = store
        self._waits = waits
        self._roster = roster
        self._windows = windows
        self._bells = bells
        self._meter = meter
        self._tasks = tasks
        self._lease_s = lease_s

    async def finish(
        self, attempt: Attempt, answer: Answer, context: Context, deadline: float
    ) -> TurnResult:
        """Write the answer, again and again until the database says what became of it.

        Args:
            deadline: when to give up, on the loop's clock.
        Raises: ConversationNotFound, LeaseLost, StoreUnavailable.
        """
        owner, lease = attempt.owner, attempt.lease
        has_more, spent = attempt.has_more, attempt.transcript.usage
        digest = attempt.named.window.digest(lease.instructions)
        sequence = await retry_while_unavailable(
            lambda: self._store.finish(
                owner,
                lease,
                answer,
                context,
                instructions_digest=digest,
                has_more=has_more,
                spent=spent,
            ),
            deadline,
        )
        if sequence is None:
            sequence = await self._written_before(attempt, answer, deadline)
        return TurnResult(
            conversation_id=lease.conversation_id,
            turn_id=lease.turn_id,
            user_sequence=lease.user_sequence,
            response_sequence=sequence,
            answer=answer,
            context=context,
            is_replayed=False,
        )

    async def wait(
        self, attempt: Attempt, answer: Answer, context: Context, deadline: float
    ) -> TurnResult:
        """Write down what the turn waits for; if it is to be stopped, end it as cancelled instead.

        Args:
            answer: what was said so far.
            context, deadline: as `finish`.
        Raises: ConversationNotFound, LeaseLost, StoreUnavailable.
        """
        owner, lease, transcript = attempt.owner, attempt.lease, attempt.transcript
        waits = await retry_while_unavailable(
            lambda: self._waits.wait(
                owner,
                lease,
                answer,
                transcript.pending,
                attempt.ask.tools,
                spent=transcript.usage,
            ),
            deadline,
        )
        if waits is False:
            return await self.finish(
                attempt, transcript.answer(is_cancelled=True), context, deadline
            )
        if waits is None:
            await self._waited_before(attempt, deadline)
        return TurnResult(
            conversation_id=lease.conversation_id,
            turn_id=lease.turn_id,
            user_sequence=lease.user_sequence,
            response_sequence=0,
            answer=answer,
            context=None,
            is_replayed=False,
            pending=transcript.pending,
        )

    async def _waited_before(self, attempt: Attempt, deadline: float) -> None:
        """Raise LeaseLost unless an earlier try had been carried out: it has taken the lease."""
        owner, lease = attempt.owner, attempt.lease
        turn = await retry_while_unavailable(
            lambda: self._store.turn(owner, lease.conversation_id, lease.turn_id), deadline
        )
        if turn is None:
            raise ConversationNotFound(lease.conversation_id)
        is_ours = turn.wait is not None and turn.wait.calls == attempt.transcript.pending
        if turn.attempt != lease.attempt or not is_ours:
            raise LeaseLost

    async def _written_before(self, attempt: Attempt, answer: Answer, deadline: float) -> int:
        """Return the answer's sequence, if an earlier try had been carried out."""
        owner, lease = attempt.owner, attempt.lease
        turn = await retry_while_unavailable(
            lambda: self._store.turn(owner, lease.conversation_id, lease.turn_id), deadline
        )
        if turn is None:
            raise ConversationNotFound(lease.conversation_id)
        is_ours = turn.attempt == lease.attempt and turn.answer == answer
        if is_ours and turn.response_sequence is not None:
            return turn.response_sequence
        raise LeaseLost

    async def fail(self, attempt: Attempt, error: ParleyError) -> TurnResult:
        """Write down why the attempt failed, so that the conversation is free at once.

        Returns: what was said, if the turn was to be stopped: its failure is no news then.
        Raises: the error.
        """
        reason = reason_of(error)
        if reason is not None:
            write = self._tasks.start(self._write_failure(attempt, reason, str(error)))
            # With the database away, the caller is told without it.
            await asyncio.wait([write], timeout=FAILURE_WAIT_S)
            if write.done() and (cancelled := write.result()):
                return cancelled
        self._meter.failed(attempt.named.name, error)
        raise error

    async def _write_failure(
        self, attempt: Attempt, reason: FailureReason, text: str
    ) -> TurnResult | None:
        """Close the turn as failed, or as cancelled if it was to be stopped.

        Returns: the answer of a cancelled turn.
        """
        owner, lease, spent = attempt.owner, attempt.lease, attempt.transcript.usage
        deadline = asyncio.get_running_loop().time() + self._lease_s
        try:
            done = await retry_while_unavailable(
                lambda: self._store.fail(owner, lease, reason, text, spent=spent), deadline
            )
            if done is not Failing.CANCEL_REQUESTED:
                return None
            context = attempt.context
            if context is None:
                shown = attempt.named.window
                window = await self._windows.read(owner, lease, attempt.ask.message, shown)
                context = window.context
            answer = await self.cancelled(attempt)
            return await self.finish(attempt, answer, context, deadline)
        except StoreUnavailable:
            log.warning(  # the lease has run out by now: the turn counts as abandoned
                "failure not stored", extra={"turn_id": str(lease.turn_id)}
            )
            return None
        except ParleyError:
            return None  # another attempt has the turn, or it is gone
        finally:
            self._bells.ring_ended(owner, lease.conversation_id)

    async def cancelled(self, attempt: Attempt) -> Answer:
        """Return what was said as the answer of a turn that was stopped on request.

        A later attempt may be stopped before its agent has told again what was said before.
        """
        owner, lease = attempt.owner, attempt.lease
        answer = attempt.transcript.answer(is_cancelled=True)
        if lease.attempt == 1:
            return answer
        with suppress(StoreUnavailable):
            looked = await self._waits.look(owner, lease.conversation_id, lease.turn_id)
            if looked is not None:
                return max(answer, await self._said(owner, looked), key=_size)
        return answer

    async def end_cancelled(
        self,
        owner: Owner,
        turn: Turn,
        why: WaitEnd = WaitEnd.CANCELLED,
        *,
        only_if_over: bool = False,
    ) -> int | None:
        """Close a turn that waits, or is to be stopped and no worker runs, with what it had said.

        That is what it said up to its wait, what its steps say, or the events of a stream, which
        may know more. Of a turn that had none of them nothing was stored: its answer is empty.

        Args:
            why: of a turn that waits: what ends its wait.
            only_if_over: of such a turn: only if it has waited for too long.
        Returns: the answer's sequence; None: the turn was changed meanwhile.
        Raises: StoreUnavailable.
        """
        if turn.state is TurnState.WAITING:
            lease = await self._waits.end(owner, turn, why, only_if_over=only_if_over)
        else:
            lease = await self._store.take_over(owner, turn)
        if lease is None:
            return None
        looked = await self._waits.look(owner, turn.conversation_id, turn.id)
        if looked is None:
            return None
        if turn.state is TurnState.WAITING:
            self._meter.wait_ended(why.value)
        else:
            self._meter.taken_over()
        answer = await self._said(owner, looked)
        named = self._roster.seated(looked.turn.agent)
        window = await self._windows.read(owner, lease, looked.message, named.window)
        sequence = await self._store.finish(
            owner,
            lease,
            answer,
            window.context,
            instructions_digest=named.window.digest(lease.instructions),
            has_more=True,
            spent=None,
        )
        self._bells.ring_ended(owner, turn.conversation_id)
        return sequence

    async def _said(self, owner: Owner, looked: Looked) -> Answer:
        """Return the answer of a turn that is to be closed: what is known to have been said."""
        turn = looked.turn
        steps = await self._store.steps(owner, turn.id)
        told = [await self._told_by_events(owner, turn), self._told_by_steps(turn, steps)]
        answers = [transcript.answer(is_cancelled=True) for transcript in told]
        if looked.wait is not None and looked.wait.calls:
            answers.append(_told_by_wait(looked, steps, told[1]))
        answer = max(answers, key=_size)
        # Only steps know what the provider wants back; it is of all that they tell, and fits more.
        return replace(answer, opaque_state=answer.opaque_state or answers[1].opaque_state)

    async def _told_by_events(self, owner: Owner, turn: Turn) -> Transcript:
        transcript = Transcript(model="")
        index = -1
        while events := await self._store.events(owner, turn.id, turn.attempt, index):
            for event in events:
                transcript.add(event.event)
            index = events[-1].index
        return transcript

    def _told_by_steps(self, turn: Turn, steps: Sequence[Step]) -> Transcript:
        transcript = Transcript(model="")
        agent = self._roster.seated(turn.agent).agent
        if isinstance(agent, SteppingAgent):
            for event in agent.retold(steps):
                transcript.add(event)
        return transcript


def _told_by_wait(looked: Looked, steps: Sequence[Step], told: Transcript) -> Answer:
    """Return what a turn had said when it began to wait, with a result for each call."""
    wait = looked.wait
    if wait is None:
        raise AssertionError("a turn that never waited")
    calls = closed(wait.calls, wait.ended_by or WaitEnd.CANCELLED, given_in(steps), told.tool_calls)
    return replace(
        wait.answer,
        tool_calls=(*wait.answer.tool_calls, *fitting(calls, wait.answer)),
        usage=None,
        finish_reason=FinishReason.CANCELLED,
    )


def _size(answer: Answer) -> tuple[int, int]:
    """Return how much an answer says: results count for more than text."""
    return len(answer.tool_calls), len(answer.text)
