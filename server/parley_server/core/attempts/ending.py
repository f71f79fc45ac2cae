"""Writing down how attempts end: with an answer, as failed, or as cancelled."""

import asyncio
import logging
from collections.abc import Mapping

from parley_server.core.attempts.attempt import Attempt
from parley_server.core.attempts.transcript import Transcript
from parley_server.core.attempts.window import Windows
from parley_server.core.bells import Bells
from parley_server.core.errors import ConversationNotFound, LeaseLost, ParleyError, StoreUnavailable
from parley_server.core.failures import reason_of
from parley_server.core.model import (
    Answer,
    Context,
    Failing,
    FailureReason,
    HistoryQuery,
    Owner,
    Turn,
    TurnResult,
)
from parley_server.core.ports import Agent, Meter, SteppingAgent, Store
from parley_server.core.tasks import Tasks, retry_while_unavailable

log = logging.getLogger("parley.turns")

FAILURE_WAIT_S = 1.0
"""How long a caller waits for its turn's failure to be written down before it is told of it."""


class Ending:
    """Ends attempts, each under its fence: one that has lost its lease changes nothing."""

    def __init__(
        self,
        store: Store,
        agents: Mapping[str, Agent],
        windows: Windows,
        bells: Bells,
        meter: Meter,
        tasks: Tasks,
        lease_s: float,
    ) -> None:
        self._store = store
        self._agents = agents
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
        sequence = await retry_while_unavailable(
            lambda: self._store.finish(
                owner, lease, answer, context, has_more=has_more, spent=spent
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
        self._meter.failed(attempt.ask.agent, error)
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
                context = (await self._windows.read(owner, lease, attempt.ask.message)).context
            answer = attempt.transcript.answer(is_cancelled=True)
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

    async def end_cancelled(self, owner: Owner, turn: Turn) -> None:
        """Close a turn that is to be stopped and that no worker runs, with what it had said.

        That is what its steps say, or the events of a stream, which may know more. Of a turn that
        had neither nothing was stored: its answer is empty.

        Raises: StoreUnavailable.
        """
        lease = await self._store.take_over(owner, turn)
        if lease is None:
            return
        self._meter.taken_over()
        told = await self._told_by_events(owner, turn), await self._told_by_steps(owner, turn)
        at = turn.user_sequence
        query = HistoryQuery(turn.conversation_id, limit=1, above=at - 1, below=at + 1)
        own = await self._store.history(owner, query)
        window = await self._windows.read(owner, lease, own.messages[0].content)
        answer = max(told, key=lambda transcript: transcript.size).answer(is_cancelled=True)
        await self._store.finish(owner, lease, answer, window.context, has_more=True, spent=None)
        self._bells.ring_ended(owner, turn.conversation_id)

    async def _told_by_events(self, owner: Owner, turn: Turn) -> Transcript:
        transcript = Transcript(model="")
        index = -1
        while events := await self._store.events(owner, turn.id, turn.attempt, index):
            for event in events:
                transcript.add(event.event)
            index = events[-1].index
        return transcript

    async def _told_by_steps(self, owner: Owner, turn: Turn) -> Transcript:
        transcript = Transcript(model="")
        agent = self._agents.get(turn.agent)
        if isinstance(agent, SteppingAgent):
            for event in agent.retold(await self._store.steps(owner, turn.id)):
                transcript.add(event)
        return transcript
