"""Rules of turns: calls, callers who leave, agents, cancels, leases that pass."""

import asyncio
import itertools
from dataclasses import dataclass
from functools import partial

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner
from support.databases import as_superuser
from support.services import an_id, refused
from support.state_machine.answers import standing_of
from support.state_machine.driver import Driver
from support.state_machine.values import (
    AGENT_ERRORS,
    AGENTS,
    ASKS,
    BEGINNING,
    OWNERS,
    Call,
    Run,
    Turn,
)
from support.state_machine.world import WORKERS, now_and_then

SIGNALS_S = 0.1
"""In which signals that are under way have come."""

indices = st.integers(0, 1000)
workers = st.sampled_from(WORKERS)
owners = st.sampled_from(OWNERS)
agents = st.sampled_from(["", "", "", "", *AGENTS])
"""That callers name; mostly none, so that the conversation's answers."""


@dataclass(frozen=True)
class How:
    """How a call is made."""

    worker: int
    has_request_id: bool
    on_busy: "pb.OnBusy.ValueType"
    on_disconnect: "pb.OnDisconnect.ValueType"
    agent: str


hows = st.builds(
    How,
    worker=workers,
    has_request_id=st.booleans(),
    on_busy=st.sampled_from([pb.ON_BUSY_REJECT, *[pb.ON_BUSY_WAIT] * 4, *[pb.ON_BUSY_REPLACE] * 2]),
    on_disconnect=st.sampled_from(pb.OnDisconnect.values()),
    agent=agents,
)


class Turns(Driver):
    # Calls

    @rule(
        owner=owners,
        where=st.sampled_from(["new", "missing", "missing", "strange", "theirs", "theirs"]),
        index=indices,
        how=hows,
        expected=st.sampled_from([None, None, None, 0, 1]),
    )
    def chat_elsewhere(
        self, owner: str, where: str, index: int, how: How, expected: int | None
    ) -> None:
        """A turn in a conversation that the owner does not have, as a rule."""
        owner = self._named(owner)
        theirs = [c.id for c in self.conversations() if c.owner != owner]
        conversation_id = "" if where == "new" else an_id()
        if where == "theirs" and theirs:
            conversation_id = theirs[index % len(theirs)]
        allow_missing = where == "missing" or bool(index % 2)
        if where == "strange":
            allow_missing = False
        self._chat(owner, conversation_id, how, expected, allow_missing=allow_missing)

    @rule(
        index=indices,
        how=hows,
        expected=st.sampled_from([None, None, None, None, 0, 0, 1, -1]),
        allow_missing=st.booleans(),
    )
    def chat_on(self, index: int, how: How, expected: int | None, allow_missing: bool) -> None:
        """The next turn of a conversation, mostly of one that has an open one.

        Args:
            expected: from the conversation's last sequence.
        """
        known = self.conversations()
        if not known:
            return
        busy = [c for c in known if c.is_held] if index % 4 else []
        found = (busy or known)[index % len(busy or known)]
        if expected is not None:
            expected = max(0, found.last_sequence + expected)
        conversation_id = found.id.upper() if index % 5 == 0 else found.id
        self._chat(found.owner, conversation_id, how, expected, allow_missing=allow_missing)

    def _chat(
        self,
        owner: str,
        conversation_id: str,
        how: How,
        expected: int | None,
        *,
        allow_missing: bool,
    ) -> None:
        request = pb.ChatRequest(
            conversation_id=conversation_id,
            message=f"message {next(self.messages)}",
            request_id=f"r{next(self.request_ids)}" if how.has_request_id else "",
            on_busy=self._on_busy(how, owner, conversation_id),
            on_disconnect=how.on_disconnect,
            allow_missing=allow_missing,
            agent=how.agent,
        )
        if expected is not None:
            request.expected_sequence = expected
        call = Call(owner, how.worker, request)
        if request.request_id:
            self.model.calls[owner, request.request_id] = call
        self.world.do(self._make(call))

    def _on_busy(self, how: How, owner: str, conversation_id: str) -> "pb.OnBusy.ValueType":
        """Return what a call does where a turn is open.

        It takes no turn's place where others wait for that: who of them is first, nobody can say.
        """
        found = self.model.conversations.get((owner, conversation_id.lower()))
        are_first = found is not None and any(found.waiting.values())
        is_raced = are_first and how.on_busy == pb.ON_BUSY_REPLACE
        return pb.ON_BUSY_REJECT if is_raced else how.on_busy

    @rule(
        index=indices,
        how=hows,
        altered=st.sampled_from([None] * 7 + ["message", "conversation_id", "agent"]),
        expected=st.sampled_from([None, None, 0, 77]),
    )
    def chat_again(self, index: int, how: How, altered: str | None, expected: int | None) -> None:
        """The same request id once more, mostly one whose turn runs, or one of the last."""
        calls = list(self.model.calls.values())
        if not calls:
            return
        if index % 3:
            running = {(r.turn.conversation.owner, r.turn.request_id) for r in self.model.runs}
            running |= {(c.owner, t.request_id) for c in self._waiting() if (t := c.waiting_turn)}
            calls = [c for n, c in self.model.calls.items() if n in running] or calls
        first = calls[-1 - index % min(3, len(calls))]
        request = pb.ChatRequest()
        request.CopyFrom(first.request)
        request.on_busy = self._on_busy(how, first.owner, request.conversation_id)
        request.on_disconnect = how.on_disconnect
        if (first.owner, request.request_id) in self.model.requests:
            request.ClearField("expected_sequence")
            if expected is not None:
                request.expected_sequence = expected
        # Else the first still waits. With another expectation than this one, each could be the one
        # that makes the turn, and the other one's end would hang on which of them came first.
        if altered:
            other = {"message": "another", "conversation_id": an_id(), "agent": "echo"}[altered]
            setattr(request, altered, other)
        self.world.do(self._make(Call(first.owner, how.worker, request)))

    @rule(index=indices)
    def caller_is_lost(self, index: int) -> None:
        """A caller goes away: one that waits, or one whose turn runs."""
        calls = self._can_be_lost()
        if not calls:
            return
        call = calls[index % len(calls)]
        run = next((r for r in self.model.runs if call in r.callers), None)
        if run is not None and self._is_raced_by_queue(run):
            return

        async def lose() -> None:
            assert call.task is not None
            call.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call.task
            for conversation in self.conversations():
                for line in (conversation.following, *conversation.waiting.values()):
                    if call in line:
                        line.remove(call)
            if run is not None:
                run.callers.clear()
                if call.request.on_disconnect != pb.ON_DISCONNECT_CONTINUE:
                    await self._stops(run, lambda: self.model.failed(run.turn, "CALLER_LOST"))
            await self._is_quiet()

        self.world.do(lose())

    def _can_be_lost(self) -> list[Call]:
        # The caller of an overtaken attempt may have been told already that all is deleted.
        runs = [r for r in self.model.runs if r.is_holder or not r.turn.conversation.was_deleted]
        calls = [r.callers[0] for r in runs if len(r.callers) == 1]
        ambiguous = {c for r in self.model.runs if len(r.callers) > 1 for c in r.callers}
        for conversation in self.conversations():
            lines = itertools.chain(conversation.following, *conversation.waiting.values())
            calls += [c for c in lines if c not in ambiguous and c not in calls]
        return calls

    # Agents

    @rule(index=indices, reason=st.sampled_from(["", "", ASKS, ASKS, *AGENT_ERRORS]))
    def agent_ends(self, index: int, reason: str) -> None:
        """An agent answers, fails, or asks its caller."""
        if not self.model.runs:
            return
        run = self.model.runs[index % len(self.model.runs)]
        line = itertools.chain(*run.turn.conversation.waiting.values())
        if reason in AGENT_ERRORS and any(
            c.request.request_id == run.turn.request_id != "" for c in line
        ):
            return  # those that follow may see the failure, or the attempt that comes after it
        run.asks = ("weather",)
        self.world.do(self._lets_go(run, reason))

    @rule(index=indices, worker=workers, by_request_id=st.booleans())
    def cancel_turn(self, index: int, worker: int, by_request_id: bool) -> None:
        """CancelTurn of a conversation's newest turn: what was said so far is the answer."""
        known = [c for c in self.conversations() if c.turns]
        if not known:
            return
        turn = known[-1 - index % len(known)].turns[-1]
        conversation = turn.conversation
        run = conversation.holder
        if run is not None and len(run.callers) > 1:
            return
        name = {"conversation_id": conversation.id, "turn_id": turn.id}
        if by_request_id and turn.request_id:
            name = {"request_id": turn.request_id}
        service = self.world.services[worker]

        async def cancel() -> None:
            if conversation.is_deleted:
                refusal = await refused(service.cancel(user=conversation.owner, **name))
                assert ("NOT_FOUND", "TURN_NOT_FOUND") == refusal
                return
            shown = await service.cancel(user=conversation.owner, **name)
            if turn.is_newest and (turn.is_abandoned or turn.is_stopped_when_found):
                if not turn.is_exhausted:
                    self.model.answered(turn, turn.kept, "CANCELLED")
                await self._goes_on(conversation)
            elif conversation.waiting_turn is turn:
                self.model.answered(turn, turn.kept, "CANCELLED")
                await self._goes_on(conversation)
            elif run is not None:
                await self._stops(run, lambda: self.model.answered(turn, BEGINNING, "CANCELLED"))
            assert turn.standing == standing_of(shown)
            assert turn.response_sequence == shown.response_sequence
            await self._is_quiet()

        self.world.do(cancel())

    @rule(index=indices, worker=workers)
    def lease_passes(self, index: int, worker: int) -> None:
        """A worker stands still for longer than its lease."""
        runs = self._can_be_abandoned()
        if not runs:
            return
        run = runs[index % len(runs)]
        conversation = run.turn.conversation

        async def abandon() -> None:
            with psycopg.connect(
                as_superuser(self.world.database_url), autocommit=True
            ) as connection:
                changed = connection.execute(
                    "UPDATE conversation SET lease_expires_at = now() - interval '1 second'"
                    " WHERE id = %s AND owner_id = %s",
                    [conversation.id, Owner.of("", conversation.owner).id],
                )
                assert 1 == changed.rowcount
                # It would be due when the lease was to end.
                connection.execute(
                    "UPDATE queue_due SET due_time = now() WHERE conversation_id = %s",
                    [conversation.id],
                )
            conversation.is_lease_valid = False
            if run.is_started:
                self.world.services[worker].worker.starting.wake()
                await self._is_run_again(run.turn)
            else:
                if conversation.queue:
                    self.world.services[worker].worker.starting.wake()
                if conversation.following:
                    self._is_stopped_late(run.turn)
            await self._goes_on(conversation)
            await self._is_quiet()

        self.world.do(abandon())

    async def _is_run_again(self, turn: Turn) -> None:
        """A worker finds an abandoned turn that was started, and nobody has to ask for it."""
        if turn.is_stopped_when_found:
            self.model.answered(turn, await self._kept(turn), "CANCELLED")
        elif turn.is_exhausted:
            self.model.overrun(turn.conversation)
            await self._is_shown(turn, turn.attempt)
        else:
            await self._runs_by_itself(turn, partial(self.model.started_again, turn))

    async def _kept(self, turn: Turn) -> str:
        """Return what a cancelled turn had said: all of it, or nothing if it was not stored yet."""
        service, owner = self.world.services[0], turn.conversation.owner
        named = {"conversation_id": turn.conversation.id, "turn_id": turn.id}
        pause = now_and_then()
        while (shown := await service.turn(user=owner, **named)).response_sequence == 0:
            await pause(f"the turn stays {standing_of(shown)}, and is to be cancelled")
        last = await service.history(
            turn.conversation.id, user=owner, after_sequence=shown.response_sequence - 1
        )
        assert last.messages[0].content in ("", BEGINNING)
        return last.messages[0].content

    def _can_be_abandoned(self) -> list[Run]:
        return [
            run
            for run in self._held()
            if not (run.turn.is_to_stop and self._is_raced_for(run))
            and not self._is_raced_by_queue(run)
        ]

    def _held(self) -> list[Run]:
        return [
            run
            for run in self.model.runs
            if run.is_holder and run.turn.conversation.is_held and len(run.callers) <= 1
        ]

    def _is_raced_by_queue(self, run: Run) -> bool:
        """Whether a call would take the turn again while a worker is about to begin one."""
        conversation = run.turn.conversation
        same = [c for c in conversation.calls if self.model.turn_of(c) is run.turn]
        return bool(same) and (run.is_started or bool(conversation.queue))

    @staticmethod
    def _is_raced_for(run: Run) -> bool:
        """Whether one call would end the turn as cancelled, and another one open a new turn."""
        conversation = run.turn.conversation
        return bool(conversation.following) and any(conversation.waiting.values())

    @rule(index=indices)
    def cancel_is_recorded(self, index: int) -> None:
        """CancelTurn is recorded, and the signal to the worker that runs the turn is lost."""
        runs = self._held()
        if not runs:
            return
        turn = runs[index % len(runs)].turn
        # A signal of earlier events would do as well: the worker looks at the turn then.
        self.world.do(asyncio.sleep(SIGNALS_S))
        with psycopg.connect(as_superuser(self.world.database_url), autocommit=True) as connection:
            changed = connection.execute(
                "UPDATE turn SET cancel_requested_time = now() WHERE id = %s", [turn.id]
            )
            assert 1 == changed.rowcount
        turn.is_to_stop = True
