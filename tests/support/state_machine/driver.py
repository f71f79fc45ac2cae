"""What the service is seen to do, and what it must do by itself, whatever rule came before."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import grpc
from hypothesis.stateful import RuleBasedStateMachine

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.bells import topic_of
from parley_server.core.model import Owner, WaitEnd
from parley_server.process.worker import Worker
from support.services import details_of, info_of
from support.state_machine.answers import is_answer, standing_of
from support.state_machine.model import Model
from support.state_machine.values import (
    AGENT_ERRORS,
    AGENTS,
    ASKS,
    BEGINNING,
    OWNERS,
    Call,
    Conversation,
    Follows,
    Outcome,
    Refused,
    Replayed,
    Run,
    Starts,
    Turn,
    Waits,
    not_found,
)
from support.state_machine.world import WORKERS, World, now_and_then, soon


class Driver(RuleBasedStateMachine):
    """The rules.

    None has a precondition: who of several starts a turn is not for hypothesis to say, and what it
    may draw must not depend on it. A rule that has nothing to do does nothing.
    """

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.example = next(self.world.examples)
        self.messages = itertools.count(1)
        self.request_ids = itertools.count(1)

    async def _make(self, call: Call) -> None:
        self._send(call)
        turn = self.model.turn_of(call)
        if turn is not None and not isinstance(self.model.outcome(call), Refused):
            self._is_stopped_late(turn)
        self._takes_place(call)
        outcome = self.model.outcome(call)
        if turn is not None and turn.state == "WAITING" and not isinstance(outcome, Refused):
            self.model.gives(call, turn)
        if isinstance(outcome, Starts):
            await self._starts({call: outcome})
        elif isinstance(outcome, Follows) and turn is not None:
            self._follow(call, turn.conversation)
        elif isinstance(outcome, Waits):
            found = (call.owner, call.request.conversation_id.lower())
            self.model.conversations[found].waiting[call.worker].append(call)
        else:
            await self._ends(call, [outcome, *self._or_forgotten(call)])
        await self._is_quiet()

    def _send(self, call: Call) -> None:
        service, request = self.world.services[call.worker], call.request
        fields = {descriptor.name: value for descriptor, value in request.ListFields()}
        if call.turn is None:
            sent = service.chat(user=call.owner, timeout=100, **fields)
        else:
            names = ("request_id",) if request.request_id else ("conversation_id", "turn_id")
            named = {"turn_id": call.turn.id, **fields}
            sent = service.resume(
                *call.results,
                user=call.owner,
                timeout=100,
                on_disconnect=request.on_disconnect,
                **{name: named[name] for name in names},
            )
        call.task = asyncio.ensure_future(sent)
        self.world.calls.append(call.task)

    def _takes_place(self, call: Call) -> None:
        """A message takes the place of a turn that waits, which is cancelled."""
        request = call.request
        found = self.model.conversations.get((call.owner, request.conversation_id.lower()))
        if request.on_busy != pb.ON_BUSY_REPLACE or found is None or self.model.turn_of(call):
            return
        turn, is_expected = (
            found.waiting_turn,
            call.expected_sequence in (None, found.last_sequence),
        )
        if turn is not None and is_expected and not found.queue:
            self.model.answered(turn, turn.kept, "CANCELLED", WaitEnd.REPLACED)
            if call.expected_sequence is not None:
                request.expected_sequence = found.last_sequence

    def _or_forgotten(self, call: Call) -> list[Outcome]:
        """Behind a turn that has failed, what it waited for is forgotten, by and by."""
        if (turn := call.turn) is None or turn.is_newest or not self.model.new_results(call, turn):
            return []
        return [Refused("FAILED_PRECONDITION", "CALL_NOT_PENDING")]

    async def _lets_go(self, run: Run, reason: str) -> None:
        if not run.gate.done():
            run.gate.set_result(reason)
        if reason in AGENT_ERRORS:
            await self._stops(run, lambda: self.model.failed(run.turn, reason))
        elif reason == ASKS or run.turn.pending:
            await self._stops(run, lambda: self.model.waits(run))
        else:
            answer = f"{BEGINNING}{run.turn.id} {run.attempt}"
            await self._stops(run, lambda: self.model.answered(run.turn, answer))
        await self._is_quiet()

    async def _stops(self, run: Run, end: Callable[[], None]) -> None:
        """An attempt ends its turn. One that was overtaken changes nothing."""
        await soon(run.closed.wait())
        self.model.runs.remove(run)
        turn, conversation = run.turn, run.turn.conversation
        callers = [c for c in run.callers if c not in conversation.following]
        if not run.is_holder:
            for call in callers:
                await self._was_overtaken(call, run)
            return
        end()
        await self._is_shown(turn, run.attempt)
        if turn.state == "WAITING" and any(self.model.new_results(c, turn) for c in callers):
            await self._give_now(callers, turn)
            return
        told = [c for c in run.callers if c in conversation.following]
        await self._goes_on(conversation)
        outcomes: list[Outcome] = [Replayed(turn)]
        if turn.reason in AGENT_ERRORS:
            outcomes = [Refused(AGENT_ERRORS[turn.reason], turn.reason)]
        answers = [await self._ends(call, outcomes) for call in callers]
        if (turn.is_answered or turn.state == "WAITING") and run.callers:
            answers += [await soon(call.task) for call in told if call.task]
            assert 1 == sum(not a.replayed for a in answers if a)

    async def _give_now(self, callers: Sequence[Call], turn: Turn) -> None:
        """A turn waits again for what a call gives that has run it for that."""
        (call,) = callers
        outcome = self.model.outcome(call)
        self.model.gives(call, turn)
        if isinstance(outcome, Starts):
            await self._starts({call: outcome})
        else:
            await self._ends(call, [outcome])

    async def _is_stopped(self, run: Run) -> None:
        """The agent of an attempt is stopped, by something else than its gate."""
        await soon(run.closed.wait())
        self.model.runs.remove(run)

    async def _was_overtaken(self, call: Call, run: Run) -> None:
        """Its attempt changed nothing. Only if the turn was cancelled is there something to say."""
        reason = run.gate.result() if run.gate.done() and not run.gate.cancelled() else ""
        allowed: list[Outcome] = [Refused("ABORTED", "LEASE_LOST")]
        if run.turn.conversation.was_deleted:
            allowed.append(not_found(run.turn.conversation.id))
        if reason in AGENT_ERRORS:
            allowed.append(Refused(AGENT_ERRORS[reason], reason))
        if run.turn.state == "CANCELLED" and run.turn.attempt == run.attempt:
            allowed.append(Replayed(run.turn))
        await self._ends(call, allowed)

    def _is_stopped_late(self, turn: Turn) -> None:
        """A call finds its abandoned turn that is to be stopped, and ends it without a word."""
        if turn.is_stopped_when_found:
            self.model.answered(turn, turn.kept, "CANCELLED")

    # What happens by itself

    async def _goes_on(self, conversation: Conversation) -> None:
        """A conversation was freed: who waits for it starts a turn, or is answered."""
        calls = conversation.calls
        before = {call: self.model.outcome(call) for call in calls}
        await self._begins(conversation)
        now = {call: self.model.outcome(call) for call in calls}
        firsts = [*conversation.following]
        for line in conversation.waiting.values():
            firsts += [c for c in line if isinstance(now[c], Starts)][:1]
        starters = {c: o for c in firsts if isinstance(o := now[c], Starts)}
        if starters:
            await self._starts(starters)
        await self._lines_move_up(conversation, before)
        for call in list(conversation.following):
            outcome = self.model.outcome(call)
            if not isinstance(outcome, Follows):
                conversation.following.remove(call)
                # Told of the failure it waited for, or that the conversation has gone on since.
                turn = self.model.turn_of(call)
                assert turn is not None
                gone_on = Refused("FAILED_PRECONDITION", "TURN_SUPERSEDED")
                others = [] if turn.is_newest else [gone_on]
                await self._ends(call, [before.get(call, outcome), outcome, *others])

    async def _begins(self, conversation: Conversation) -> None:
        """The first started turn that can begin does; those before it that do not fit are refused.

        A call that waits begins none: started turns go first.
        """
        while conversation.queue and not conversation.is_held:
            turn = conversation.queue[0]
            if turn.expected_sequence not in (None, conversation.last_sequence):
                self.model.never_begins(turn, "FAILED", "SEQUENCE_MISMATCH")
                await self._is_shown(turn, 0)
            else:
                await self._runs_by_itself(turn, partial(self.model.begun, turn))

    async def _runs_by_itself(self, turn: Turn, begun: Callable[[Run], None]) -> None:
        """Some worker runs a started turn, without a caller."""
        run = await soon(self.world.entered.get())
        run.is_started = True
        begun(run)
        conversation = turn.conversation
        assert conversation.owner == run.seen.owner.user
        assert conversation.id == str(run.seen.conversation_id)
        self._is_shown_window(run)

    async def _lines_move_up(self, conversation: Conversation, before: dict[Call, Outcome]) -> None:
        """The first call of each line tries: it may have nothing to wait for any more."""
        for line in conversation.waiting.values():
            while line:
                outcome = self.model.outcome(line[0])
                if isinstance(outcome, Waits):
                    break
                call = line.pop(0)
                if isinstance(outcome, Follows):
                    self._follow(call, conversation)
                else:
                    await self._ends(call, [before.get(call, outcome), outcome])

    def _follow(self, call: Call, conversation: Conversation) -> None:
        call.is_following = True
        conversation.following.append(call)

    async def _starts(self, starters: dict[Call, Starts]) -> None:
        """Exactly one of these calls runs an agent, which is shown what was said."""
        run = await soon(self.world.entered.get())
        message = run.seen.window.messages[-1].content
        callers = [
            call
            for call in starters
            if (call.owner, call.worker, call.request.message)
            == (run.seen.owner.user, run.worker, message)
        ]
        assert callers, f"an attempt that nobody may begin: {message}"
        call, outcome = callers[0], starters[callers[0]]
        self.model.started(outcome, call, run)
        conversation = run.turn.conversation
        assert conversation.id == str(run.seen.conversation_id)
        run.callers = callers
        if len(callers) == 1:
            for line in (conversation.following, *conversation.waiting.values()):
                if call in line:
                    line.remove(call)
        self._is_shown_window(run)

    def _is_shown_window(self, run: Run) -> None:
        """The agent of an attempt is the turn's, and is shown what was said."""
        turn, conversation = run.turn, run.turn.conversation
        assert (turn.id, turn.attempt) == (str(run.seen.turn_id), run.seen.attempt)
        assert run.agent == (turn.agent or AGENTS[0])
        shown = [(m.sequence, m.role.value, m.content) for m in run.seen.window.messages]
        assert conversation.window() == shown
        omitted = sum(1 for s in range(1, turn.user_sequence) if s not in {m[0] for m in shown})
        turn.context = (shown[0][0], len(shown), omitted)

    async def _ends(self, call: Call, allowed: list[Outcome]) -> pb.ChatResponse | None:
        """The call has ended, or is about to, in one of these ways."""
        assert call.task is not None
        await soon(asyncio.wait([call.task]))
        error = call.task.exception()
        if error is None:
            response = call.task.result()
            turns = [o.turn for o in allowed if isinstance(o, Replayed)]
            assert turns, f"answered, where it had to be {allowed}"
            is_answer(turns[0], response)
            return response
        assert isinstance(error, grpc.aio.AioRpcError), repr(error)
        info = info_of(error)
        told = (error.code().name, info.reason)
        matching = [o for o in allowed if isinstance(o, Refused) and (o.code, o.reason) == told]
        assert matching, f"{told}, where it had to be {allowed}"
        assert any(dict(o.metadata).items() <= dict(info.metadata).items() for o in matching)
        assert details_of(error)
        return None

    async def _is_shown(self, turn: Turn, attempt: int) -> None:
        """Return once the end of an attempt is stored, or a later one has begun."""
        pause = now_and_then()
        service = self.world.services[0]
        while True:
            shown = await service.turn(
                user=turn.conversation.owner,
                conversation_id=turn.conversation.id,
                turn_id=turn.id,
            )
            if shown.attempt > attempt or standing_of(shown) == turn.standing:
                return
            await pause(f"the turn stays {standing_of(shown)}, not {turn.standing}")

    async def _is_quiet(self) -> None:
        """Return once every call that waits is where it waits, and see that nothing else runs."""
        for conversation in self.conversations():
            # Somebody may have used a request id in one that is waited with in another.
            await self._lines_move_up(conversation, {})
        pause = now_and_then()
        for worker in WORKERS:
            here = self.world.services[worker].worker
            mine = [c for c in self.conversations() if c.owner in self._owners()]
            waiting = sum(len(c.waiting[worker]) for c in mine)
            heads = sum(bool(c.waiting[worker]) for c in mine)
            following = sum(call.worker == worker for c in mine for call in c.following)
            # One of several that cannot be told apart runs the turn instead of following it.
            several = [r for r in self.model.runs if len(r.callers) > 1 and r.worker == worker]
            expected = waiting, heads + following - len(several)
            topics = {topic_of(Owner.of("", c.owner), UUID(c.id)) for c in mine}
            while (found := _registered(here, topics)) != expected:
                self._nobody_gave_up()
                await pause(f"{found} calls wait on worker {worker}, not {expected}")
        assert self.world.entered.empty(), "an attempt that nobody asked for"

    def _nobody_gave_up(self) -> None:
        for conversation in self.conversations():
            for call in conversation.calls:
                assert call.task is not None
                assert not call.task.done(), f"{call} ended: {call.task}"

    # One example

    def _named(self, owner: str) -> str:
        return f"{owner}-{self.example}"

    def conversations(self) -> list[Conversation]:
        return list(self.model.conversations.values())

    def _waiting(self) -> list[Conversation]:
        """Return where a turn waits for its caller."""
        return [c for c in self.conversations() if c.waiting_turn is not None]

    def _owners(self) -> list[str]:
        return [self._named(owner) for owner in OWNERS]


def _registered(worker: Worker, topics: set[UUID]) -> tuple[int, int]:
    """Return how many calls of a worker queue up, and how many listen for the end of a turn."""
    return worker.turns.queued, sum(map(worker.bells.listeners, topics))
