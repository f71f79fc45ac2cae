"""Rules of turns that wait for their caller: asked, given results, expired."""

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import rule

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner, WaitEnd
from support.databases import as_superuser
from support.services import an_id
from support.state_machine.driver import Driver
from support.state_machine.turns import How, hows, indices, workers
from support.state_machine.values import ASKS, Asked, Call, Turn

_OVER = """
UPDATE turn_wait SET end_time = now() WHERE owner_id = %(owner)s AND turn_id = %(turn)s;
UPDATE wait_due SET due_time = now() WHERE owner_id = %(owner)s AND turn_id = %(turn)s;
"""


class WaitingTurns(Driver):
    @rule(
        index=indices,
        names=st.lists(st.sampled_from(["weather", "approve"]), min_size=1, max_size=3),
    )
    def agent_asks(self, index: int, names: list[str]) -> None:
        """An agent asks its caller for results of calls: its turn waits."""
        if not self.model.runs:
            return
        run = self.model.runs[index % len(self.model.runs)]
        run.asks = tuple(names)
        self.world.do(self._lets_go(run, ASKS))

    @rule(index=indices, how=hows, is_whole=st.booleans(), is_refusal=st.booleans())
    def resume(self, index: int, how: How, is_whole: bool, is_refusal: bool) -> None:
        """ResumeTurn of a turn that waits, with what is pending, or with one result of that.

        Args:
            is_refusal: the results are errors and denials.
        """
        waiting = [turn for c in self._waiting() if (turn := c.waiting_turn) is not None]
        if waiting:
            turn = waiting[-1 - index % len(waiting)]
            self._resume(turn, "all" if is_whole else "some", index, how, is_refusal=is_refusal)

    @rule(
        index=indices,
        how=hows,
        what=st.sampled_from(["all", "some", "same", "other", "unknown"]),
        is_refusal=st.booleans(),
    )
    def resume_again(self, index: int, how: How, what: str, is_refusal: bool) -> None:
        """ResumeTurn of a turn that has waited, or never did, whatever it does now.

        Args:
            what: it gives: as `resume`; what was given before; something else for that; what is
                pending, and a result for a call that nobody has asked for.
        """
        known = [turn for c in self.conversations() for turn in c.turns]
        turns = [turn for turn in known if turn.asked] if index % 4 else known
        if turns:
            turn = turns[-1 - index % len(turns)]
            self._resume(turn, what, index, how, is_refusal=is_refusal)

    def _resume(self, turn: Turn, what: str, index: int, how: How, *, is_refusal: bool) -> None:
        results = self._results(turn, what, index, is_refusal=is_refusal)
        if not results:
            return
        conversation = turn.conversation
        request = pb.ChatRequest(
            conversation_id=conversation.id,
            message=turn.message,
            request_id=turn.request_id if index % 2 else "",
            on_disconnect=pb.ON_DISCONNECT_CONTINUE
            if self._is_started(turn)
            else how.on_disconnect,
        )
        call = Call(conversation.owner, how.worker, request, turn, results)
        has_new = bool(self.model.new_results(call, turn))
        if has_new and turn.state == "RUNNING" and turn.pending and not turn.is_abandoned:
            return  # whoever follows the attempt sees that the turn waits again, or goes on
        self.world.do(self._make(call))
        run = conversation.holder
        if has_new and run is not None and run.turn is turn and turn.pending:
            self.world.do(self._lets_go(run, ""))

    @staticmethod
    def _is_started(turn: Turn) -> bool:
        """Whether it goes on without the caller of a resume."""
        holder = turn.conversation.holder
        runs = holder is not None and holder.turn is turn and holder.is_started
        return turn.is_started or runs

    @staticmethod
    def _results(
        turn: Turn, what: str, index: int, *, is_refusal: bool
    ) -> tuple[pb.CallResult, ...]:
        before = [asked.given for asked in turn.asked if asked.given is not None]
        new = [_given(asked, f"given {index}", is_refusal=is_refusal) for asked in turn.pending]
        if what == "unknown" or not turn.asked:
            new.append(pb.CallResult(call_key=an_id(), result="for nobody"))
        if what == "other" and before:
            altered = pb.CallResult(call_key=before[-1].call_key, error="something else")
            return (*new, altered)
        if what == "some":
            return (*before, *new[:1])
        return tuple((before if what == "same" else new) or before)

    @rule(worker=workers, index=indices)
    def wait_expires(self, worker: int, index: int) -> None:
        """A turn has waited for too long, and a worker looks."""
        waiting = self._waiting()
        if not waiting or index % 3 == 0:
            return
        conversation = waiting[index % len(waiting)]
        turn = conversation.waiting_turn
        assert turn is not None
        what = {"owner": Owner.of("", conversation.owner).id, "turn": turn.id}
        with psycopg.connect(
            as_superuser(self.world.database_url), cursor_factory=psycopg.ClientCursor
        ) as connection:
            connection.execute(_OVER, what)

        async def look() -> None:
            self.world.services[worker].worker.expiring.wake()
            self.model.answered(turn, turn.kept, "CANCELLED", WaitEnd.EXPIRED)
            await self._is_shown(turn, turn.attempt)
            await self._goes_on(conversation)
            await self._is_quiet()

        self.world.do(look())

    async def stops_waiting(self, turn: Turn) -> None:
        """CancelTurn of a turn that waits."""
        conversation = turn.conversation
        await self.world.services[0].cancel(
            user=conversation.owner, conversation_id=conversation.id, turn_id=turn.id
        )
        self.model.answered(turn, turn.kept, "CANCELLED")
        await self._goes_on(conversation)
        await self._is_quiet()


def _given(asked: Asked, text: str, *, is_refusal: bool) -> pb.CallResult:
    key = asked.call.call_key
    if asked.shown.kind == cpb.PENDING_CALL_KIND_APPROVAL:
        if is_refusal:
            return pb.CallResult(call_key=key, denial=pb.Denial(reason=text))
        return pb.CallResult(call_key=key, approval=pb.Approval())
    if is_refusal:
        return pb.CallResult(call_key=key, error=text)
    return pb.CallResult(call_key=key, result=text)
