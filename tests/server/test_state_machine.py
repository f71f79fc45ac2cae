"""The whole service against a model of it: the tables of the turn machine, kept in memory.

Two workers on one database are called through real channels. Hypothesis chooses what callers and
agents do; agents wait at a gate until a rule lets them answer, fail, or leaves them there. After
every rule the test waits until nothing is left to happen, so that the model knows what must be.

It fails, among other things, when a claim does not test the row it locked, when a finish does not
test the fence, and when what was never answered is shown to an agent.
"""

import asyncio
import itertools
import os
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import grpc
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    rule,
    run_state_machine_as_test,
)

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.bells import topic_of
from parley_server.core.errors import AgentRefused
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, Owner, Text
from parley_server.process.worker import Worker
from parley_server.storage.schema import integrity
from support.agents import ScriptedAgent
from support.databases import as_superuser
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    an_id,
    details_of,
    info_of,
    reason_of,
    settings_for,
)

EXAMPLES = int(os.environ.get("PARLEY_TEST_EXAMPLES", "50"))
STEPS = 40
SETTLED_S = 10.0
"""How long anything may take that has to happen; it takes milliseconds."""
OWNERS = ("ada", "bob")
AGENT_ERRORS = {"AGENT_UNAVAILABLE": "UNAVAILABLE", "AGENT_REFUSED": "FAILED_PRECONDITION"}
WORKERS = (0, 1)
MAX_ATTEMPTS = 3
UNCOUNTED = ("CALLER_LOST",)
"""How an attempt may end here without counting against the maximum."""
BEGINNING = "This is answer "
"""What an agent says before it comes to its gate."""

T = TypeVar("T")


# What the model knows


@dataclass(eq=False)
class Conversation:
    owner: str
    id: str
    said: list[tuple[str, str, str]] = field(default_factory=list)
    """Role, content and turn of each message; its sequence is its place."""
    turns: list["Turn"] = field(default_factory=list)
    holder: "Run | None" = None
    """The newest attempt, while its turn is open."""
    is_lease_valid: bool = False
    activity: int = 0
    waiting: dict[int, list["Call"]] = field(default_factory=lambda: defaultdict(list))
    """Calls under ON_BUSY_WAIT, by worker, first come first."""
    following: list["Call"] = field(default_factory=list)
    """Calls that wait for the end of a turn with their own request id."""

    @property
    def last_sequence(self) -> int:
        return len(self.said)

    @property
    def is_held(self) -> bool:
        return self.holder is not None and self.is_lease_valid

    @property
    def open_turn(self) -> "Turn | None":
        return self.holder.turn if self.holder is not None else None

    def window(self) -> list[tuple[int, str, str]]:
        """Return what the agent of a turn that starts now is shown."""
        shown = []
        for sequence, (role, content, turn_id) in enumerate(self.said, 1):
            turn = next(t for t in self.turns if t.id == turn_id)
            is_withdrawn = turn.state == "CANCELLED" and not turn.answer
            if (turn.is_answered and not is_withdrawn) or sequence == self.last_sequence:
                shown.append((sequence, role, content))
        return shown


@dataclass(eq=False)
class Turn:
    id: str
    conversation: Conversation
    request_id: str
    message: str
    sent: tuple[str, str, str]
    """What counts for the fingerprint."""
    user_sequence: int
    state: str = "RUNNING"
    attempt: int = 1
    reason: str = ""
    answer: str = ""
    response_sequence: int = 0
    context: tuple[int, int, int] = (0, 0, 0)
    spent: int = 0
    """Attempts in a row, before the present one, that count."""
    is_to_stop: bool = False
    """CancelTurn was recorded for it, and its worker does not know."""

    @property
    def spent_attempts(self) -> int:
        """How many attempts in a row count, once the last one has ended."""
        return self.spent + (self.reason not in UNCOUNTED)

    @property
    def is_exhausted(self) -> bool:
        has_failed = self.state == "FAILED" or self.is_abandoned
        return has_failed and not self.is_to_stop and self.spent_attempts >= MAX_ATTEMPTS

    @property
    def standing(self) -> tuple[str, str]:
        """How it is shown: its state, and why it failed."""
        if self.is_exhausted:
            return "FAILED", "ATTEMPTS_EXHAUSTED"
        return ("FAILED", "TURN_ABANDONED") if self.is_abandoned else (self.state, self.reason)

    @property
    def is_newest(self) -> bool:
        return self.conversation.turns[-1] is self

    @property
    def is_answered(self) -> bool:
        return self.state in ("COMPLETED", "CANCELLED")

    @property
    def is_abandoned(self) -> bool:
        conversation = self.conversation
        return conversation.open_turn is self and not conversation.is_lease_valid


@dataclass(eq=False)
class Call:
    owner: str
    worker: int
    request: pb.ChatRequest
    is_following: bool = False
    """It has waited for an attempt of the turn with its request id."""
    task: "asyncio.Task[pb.ChatResponse] | None" = None

    @property
    def sent(self) -> tuple[str, str, str]:
        return self.request.conversation_id.lower(), self.request.message, self.request.agent

    @property
    def expected_sequence(self) -> int | None:
        has_one = self.request.HasField("expected_sequence")
        return self.request.expected_sequence if has_one else None


@dataclass(eq=False)
class Run:
    """One attempt, standing at its gate."""

    worker: int
    seen: AgentRun
    gate: "asyncio.Future[str]"
    closed: asyncio.Event
    turn: Turn = None  # type: ignore[assignment]  # set when the model knows of it
    callers: list[Call] = field(default_factory=list)
    """Who may have started it: one, or several that cannot be told apart."""

    @property
    def is_holder(self) -> bool:
        return self.turn.conversation.holder is self

    @property
    def attempt(self) -> int:
        return self.seen.attempt


# What the tables say becomes of a call


@dataclass(frozen=True)
class Refused:
    code: str
    reason: str
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Replayed:
    turn: Turn


@dataclass(frozen=True)
class Starts:
    turn: Turn | None
    """None: a new one."""


class Follows:
    """It waits for the turn of its request id."""


class Waits:
    """It waits for the conversation."""


Outcome = Refused | Replayed | Starts | Follows | Waits


class Model:
    def __init__(self) -> None:
        self.conversations: dict[tuple[str, str], Conversation] = {}
        self.requests: dict[tuple[str, str], Turn] = {}
        self.calls: dict[tuple[str, str], Call] = {}
        """The first call under each request id."""
        self.runs: list[Run] = []
        """Those that stand at their gate, overtaken ones included."""
        self.clock = itertools.count(1)

    def outcome(self, call: Call) -> Outcome:
        """Return what becomes of a call now: the design's first two tables, in its order."""
        request = call.request
        turn = self.requests.get((call.owner, request.request_id)) if request.request_id else None
        if turn is not None:
            return self._of_known(call, turn)
        conversation = self.conversations.get((call.owner, request.conversation_id.lower()))
        if conversation is None and request.conversation_id and not request.allow_missing:
            named = (("conversation_id", request.conversation_id.lower()),)
            return Refused("NOT_FOUND", "CONVERSATION_NOT_FOUND", named)
        last = conversation.last_sequence if conversation else 0
        if call.expected_sequence not in (None, last):
            return Refused("ABORTED", "SEQUENCE_MISMATCH", (("last_sequence", str(last)),))
        if conversation is not None and conversation.is_held:
            if request.on_busy == pb.ON_BUSY_WAIT:
                return Waits()
            held = (("conversation_id", conversation.id), ("turn_id", conversation.open_turn.id))
            return Refused("ABORTED", "TURN_IN_PROGRESS", held)
        return Starts(None)

    def _of_known(self, call: Call, turn: Turn) -> Outcome:
        if turn.sent != call.sent:
            named = (("request_id", turn.request_id),)
            return Refused("ALREADY_EXISTS", "REQUEST_ID_REUSED", named)
        if turn.is_answered:
            return Replayed(turn)
        if turn.state == "RUNNING" and not turn.is_abandoned:
            return Follows()
        if call.is_following and turn.reason in AGENT_ERRORS and not turn.is_exhausted:
            return Refused(AGENT_ERRORS[turn.reason], turn.reason)
        ended: tuple[tuple[str, str], ...] = (("turn_id", turn.id),)
        if not turn.is_newest:
            return Refused("FAILED_PRECONDITION", "TURN_SUPERSEDED", ended)
        if turn.is_exhausted:
            ended = (*ended, ("attempts", str(turn.spent_attempts)))
            return Refused("FAILED_PRECONDITION", "ATTEMPTS_EXHAUSTED", ended)
        return Starts(turn)

    def started(self, outcome: Starts, call: Call, run: Run) -> None:
        """Write down that a call began an attempt."""
        turn = outcome.turn
        if turn is None:
            turn = self._opened(call, run)
        else:
            assert not turn.is_to_stop
            assert not turn.is_exhausted
            turn.spent = turn.spent_attempts
            turn.attempt += 1
            turn.state, turn.reason = "RUNNING", ""
        conversation = turn.conversation
        conversation.holder, conversation.is_lease_valid = run, True
        conversation.activity = next(self.clock)
        run.turn = turn
        self.runs.append(run)

    def _opened(self, call: Call, run: Run) -> Turn:
        owner, conversation_id = call.owner, str(run.seen.conversation_id)
        conversation = self.conversations.get((owner, conversation_id))
        if conversation is None:
            conversation = Conversation(owner, conversation_id)
            self.conversations[owner, conversation_id] = conversation
        if (overrun := conversation.open_turn) is not None:
            overrun.state, overrun.reason = "FAILED", "TURN_ABANDONED"
        request, turn_id = call.request, str(run.seen.turn_id)
        conversation.said.append(("USER", request.message, turn_id))
        turn = Turn(
            turn_id,
            conversation,
            request.request_id,
            request.message,
            call.sent,
            conversation.last_sequence,
        )
        conversation.turns.append(turn)
        if request.request_id:
            self.requests[owner, request.request_id] = turn
        return turn

    def failed(self, turn: Turn, reason: str) -> None:
        if turn.is_to_stop:
            self.answered(turn, BEGINNING, "CANCELLED")
            return
        turn.conversation.holder = None
        turn.state, turn.reason = "FAILED", reason

    def answered(self, turn: Turn, answer: str, state: str = "COMPLETED") -> None:
        conversation = turn.conversation
        conversation.holder = None
        turn.state, turn.reason, turn.answer = state, "", answer
        conversation.said.append(("ASSISTANT", answer, turn.id))
        turn.response_sequence = conversation.last_sequence


# The service, driven


class World:
    """Two workers for all examples. Each example has owners of its own, so it starts empty."""

    def __init__(self, database_url: str, usual: dict[str, Any]) -> None:
        self.database_url = database_url
        self.usual = usual
        self.runner = asyncio.Runner()
        self.services: list[Service] = []
        self.entered: asyncio.Queue[Run] = asyncio.Queue()
        self.calls: list[asyncio.Task[pb.ChatResponse]] = []
        self.examples = itertools.count(1)
        self._started = AsyncExitStack()

    async def clear(self) -> None:
        """Forget an example, and stop what it left running because it failed."""
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)
        self.calls.clear()
        while not self.entered.empty():
            self.entered.get_nowait()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    async def start(self) -> None:
        for number in WORKERS:
            # The lease ends when a rule says so, and never by itself.
            settings = settings_for(**self.usual, lease_s=3600, max_attempts=MAX_ATTEMPTS)
            worker = Worker(settings, agent=ScriptedAgent(self._script(number)))
            port = await self._started.enter_async_context(worker.serving())
            channel = await self._started.enter_async_context(
                grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            )
            self.services.append(Service(worker, port, channel))
        pause = now_and_then()
        while not all(service.worker.signals.are_live for service in self.services):
            await pause("the workers do not hear each other")

    def _script(self, worker: int) -> Callable[[AgentRun], AsyncGenerator[AgentEvent, None]]:
        async def script(seen: AgentRun) -> AsyncGenerator[AgentEvent, None]:
            run = Run(worker, seen, asyncio.get_running_loop().create_future(), asyncio.Event())
            try:
                yield Text(BEGINNING)
                self.entered.put_nowait(run)
                what = await run.gate
                if what == "AGENT_UNAVAILABLE":
                    raise RuntimeError("as the rule says")
                if what == "AGENT_REFUSED":
                    raise AgentRefused
                yield Text(f"{seen.turn_id} {seen.attempt}")
                yield Finish(FinishReason.STOP, "scripted-1")
            finally:
                run.closed.set()

        return script

    def close(self) -> None:
        try:
            self.do(self._started.aclose())
        finally:
            self.runner.close()


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, SETTLED_S)


def now_and_then() -> Callable[[str], Awaitable[None]]:
    """Return a pause for loops that wait for something. It ends the test if that never comes."""
    deadline = time.monotonic() + SETTLED_S

    async def pause(what: str) -> None:
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.002)

    return pause


indices = st.integers(0, 1000)
workers = st.sampled_from(WORKERS)
owners = st.sampled_from(OWNERS)


@dataclass(frozen=True)
class How:
    """How a call is made."""

    worker: int
    has_request_id: bool
    on_busy: "pb.OnBusy.ValueType"
    on_disconnect: "pb.OnDisconnect.ValueType"


hows = st.builds(
    How,
    worker=workers,
    has_request_id=st.booleans(),
    on_busy=st.sampled_from([pb.ON_BUSY_UNSPECIFIED, pb.ON_BUSY_REJECT, *[pb.ON_BUSY_WAIT] * 4]),
    on_disconnect=st.sampled_from(pb.OnDisconnect.values()),
)


class Machine(RuleBasedStateMachine):
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
            on_busy=how.on_busy,
            on_disconnect=how.on_disconnect,
            allow_missing=allow_missing,
        )
        if expected is not None:
            request.expected_sequence = expected
        call = Call(owner, how.worker, request)
        if request.request_id:
            self.model.calls[owner, request.request_id] = call
        self.world.do(self._make(call))

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
            calls = [c for n, c in self.model.calls.items() if n in running] or calls
        first = calls[-1 - index % min(3, len(calls))]
        request = pb.ChatRequest()
        request.CopyFrom(first.request)
        request.on_busy, request.on_disconnect = how.on_busy, how.on_disconnect
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

    async def _make(self, call: Call) -> None:
        service = self.world.services[call.worker]
        fields = {descriptor.name: value for descriptor, value in call.request.ListFields()}
        call.task = asyncio.ensure_future(service.chat(user=call.owner, timeout=100, **fields))
        self.world.calls.append(call.task)
        known = self.model.requests.get((call.owner, call.request.request_id))
        if known is not None and known.sent == call.sent:
            self._is_stopped_late(known)
        outcome = self.model.outcome(call)
        if isinstance(outcome, Starts):
            await self._starts({call: outcome})
        elif isinstance(outcome, Follows):
            turn = self.model.requests[call.owner, call.request.request_id]
            self._follow(call, turn.conversation)
        elif isinstance(outcome, Waits):
            found = (call.owner, call.request.conversation_id.lower())
            self.model.conversations[found].waiting[call.worker].append(call)
        else:
            await self._ends(call, [outcome])
        await self._is_quiet()

    @rule(index=indices)
    def caller_is_lost(self, index: int) -> None:
        """A caller goes away: one that waits, or one whose turn runs."""
        calls = self._can_be_lost()
        if not calls:
            return
        call = calls[index % len(calls)]
        run = next((r for r in self.model.runs if call in r.callers), None)

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
        calls = [r.callers[0] for r in self.model.runs if len(r.callers) == 1]
        ambiguous = {c for r in self.model.runs if len(r.callers) > 1 for c in r.callers}
        for conversation in self.conversations():
            lines = itertools.chain(conversation.following, *conversation.waiting.values())
            calls += [c for c in lines if c not in ambiguous and c not in calls]
        return calls

    # Agents

    @rule(index=indices, reason=st.sampled_from(["", "", "", *AGENT_ERRORS]))
    def agent_ends(self, index: int, reason: str) -> None:
        """An agent answers, or fails."""
        if not self.model.runs:
            return
        run = self.model.runs[index % len(self.model.runs)]
        line = itertools.chain(*run.turn.conversation.waiting.values())
        if reason and any(c.request.request_id == run.turn.request_id != "" for c in line):
            return  # those that follow may see the failure, or the attempt that comes after it
        self.world.do(self._lets_go(run, reason))

    async def _lets_go(self, run: Run, reason: str) -> None:
        if not run.gate.done():
            run.gate.set_result(reason)
        if reason:
            await self._stops(run, lambda: self.model.failed(run.turn, reason))
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
        told = [c for c in run.callers if c in conversation.following]
        await self._goes_on(conversation)
        outcomes: list[Outcome] = [Replayed(turn)]
        if turn.reason in AGENT_ERRORS:
            outcomes = [Refused(AGENT_ERRORS[turn.reason], turn.reason)]
        answers = [await self._ends(call, outcomes) for call in callers]
        if turn.is_answered and run.callers:
            answers += [await soon(call.task) for call in told]
            assert 1 == sum(not a.replayed for a in answers)

    async def _was_overtaken(self, call: Call, run: Run) -> None:
        """Its attempt changed nothing. Only if the turn was cancelled is there something to say."""
        reason = run.gate.result() if run.gate.done() and not run.gate.cancelled() else ""
        allowed: list[Outcome] = [Refused("ABORTED", "LEASE_LOST")]
        if reason:
            allowed.append(Refused(AGENT_ERRORS[reason], reason))
        if run.turn.state == "CANCELLED" and run.turn.attempt == run.attempt:
            allowed.append(Replayed(run.turn))
        await self._ends(call, allowed)

    @rule(index=indices, worker=workers, by_request_id=st.booleans())
    def cancel_turn(self, index: int, worker: int, by_request_id: bool) -> None:
        """CancelTurn of a conversation's newest turn: what was said so far is the answer."""
        known = self.conversations()
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
            shown = await service.cancel(user=conversation.owner, **name)
            if turn.is_abandoned:
                if not turn.is_exhausted:
                    self.model.answered(turn, "", "CANCELLED")  # nothing of it was stored
                await self._goes_on(conversation)
            elif run is not None:
                await self._stops(run, lambda: self.model.answered(turn, BEGINNING, "CANCELLED"))
            assert turn.standing == _standing(shown)
            assert turn.response_sequence == shown.response_sequence
            await self._is_quiet()

        self.world.do(cancel())

    @rule(index=indices)
    def lease_passes(self, index: int) -> None:
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
            conversation.is_lease_valid = False
            if conversation.following:
                self._is_stopped_late(run.turn)
            await self._goes_on(conversation)
            await self._is_quiet()

        self.world.do(abandon())

    def _can_be_abandoned(self) -> list[Run]:
        return [
            run for run in self._held() if not (run.turn.is_to_stop and self._is_raced_for(run))
        ]

    def _held(self) -> list[Run]:
        return [
            run
            for run in self.model.runs
            if run.is_holder and run.turn.conversation.is_held and len(run.callers) <= 1
        ]

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
        with psycopg.connect(as_superuser(self.world.database_url), autocommit=True) as connection:
            changed = connection.execute(
                "UPDATE turn SET cancel_requested_time = now() WHERE id = %s", [turn.id]
            )
            assert 1 == changed.rowcount
        turn.is_to_stop = True

    def _is_stopped_late(self, turn: Turn) -> None:
        """A call finds its abandoned turn that is to be stopped, and ends it without a word."""
        if turn.is_newest and turn.is_abandoned and turn.is_to_stop:
            self.model.answered(turn, "", "CANCELLED")

    # What happens by itself

    async def _goes_on(self, conversation: Conversation) -> None:
        """A conversation was freed: who waits for it starts a turn, or is answered."""
        calls = [*conversation.following, *itertools.chain(*conversation.waiting.values())]
        before = {call: self.model.outcome(call) for call in calls}
        firsts = [*conversation.following]
        for line in conversation.waiting.values():
            firsts += [c for c in line if isinstance(before[c], Starts)][:1]
        starters = {c: before[c] for c in firsts if isinstance(before[c], Starts)}
        if starters:
            await self._starts(starters)
        await self._lines_move_up(conversation, before)
        for call in list(conversation.following):
            outcome = self.model.outcome(call)
            if not isinstance(outcome, Follows):
                conversation.following.remove(call)
                # Told of the failure it waited for, or that the conversation has gone on since.
                turn = self.model.requests[call.owner, call.request.request_id]
                gone_on = Refused("FAILED_PRECONDITION", "TURN_SUPERSEDED")
                others = [] if turn.is_newest else [gone_on]
                await self._ends(call, [before.get(call, outcome), outcome, *others])

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
        turn, conversation = run.turn, run.turn.conversation
        assert (turn.id, turn.attempt) == (str(run.seen.turn_id), run.seen.attempt)
        assert conversation.id == str(run.seen.conversation_id)
        run.callers = callers
        if len(callers) == 1:
            for line in (conversation.following, *conversation.waiting.values()):
                if call in line:
                    line.remove(call)
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
            self._is_answer(turns[0], response)
            return response
        assert isinstance(error, grpc.aio.AioRpcError), repr(error)
        info = info_of(error)
        told = (error.code().name, info.reason)
        matching = [o for o in allowed if isinstance(o, Refused) and (o.code, o.reason) == told]
        assert matching, f"{told}, where it had to be {allowed}"
        assert any(dict(o.metadata).items() <= dict(info.metadata).items() for o in matching)
        assert details_of(error)
        return None

    def _is_answer(self, turn: Turn, response: pb.ChatResponse) -> None:
        first, count, omitted = turn.context
        is_cancelled = turn.state == "CANCELLED"
        expected = pb.ChatResponse(
            conversation_id=turn.conversation.id,
            turn_id=turn.id,
            response=turn.answer,
            user_sequence=turn.user_sequence,
            response_sequence=turn.response_sequence,
            # One that is cancelled has not said yet which model it was.
            model=response.model if is_cancelled else "scripted-1",
            finish_reason=cpb.FINISH_REASON_CANCELLED if is_cancelled else cpb.FINISH_REASON_STOP,
            context=cpb.Context(first_sequence=first, message_count=count, omitted_count=omitted),
            replayed=response.replayed,
        )
        assert expected == response

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
            if shown.attempt > attempt or _standing(shown) == turn.standing:
                return
            await pause(f"the turn stays {_standing(shown)}, not {turn.standing}")

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
            for call in itertools.chain(conversation.following, *conversation.waiting.values()):
                assert not call.task.done(), f"{call} ended: {call.task}"

    # Reads

    @rule(owner=owners, worker=workers, newest_first=st.booleans(), after=st.integers(0, 3))
    def read(self, owner: str, worker: int, newest_first: bool, after: int) -> None:
        self.world.do(self._read(self._named(owner), worker, newest_first, after))

    async def _read(self, owner: str, worker: int, newest_first: bool, after: int) -> None:
        service = self.world.services[worker]
        mine = [c for c in self.conversations() if c.owner == owner]
        listed = (await service.conversations(user=owner)).conversations
        by_activity = sorted(mine, key=lambda c: -c.activity)
        assert [_listing(c) for c in by_activity] == [_listing_of(c) for c in listed]
        for conversation in mine:
            await self._is_hidden(service, conversation)
            page = await service.history(
                conversation.id,
                user=owner,
                order=pb.ORDER_NEWEST_FIRST if newest_first else pb.ORDER_OLDEST_FIRST,
                after_sequence=after,
            )
            said = [(s, *m) for s, m in enumerate(conversation.said, 1) if s > after]
            assert (said[::-1] if newest_first else said) == [
                (m.sequence, cpb.Role.Name(m.role).removeprefix("ROLE_"), m.content, m.turn_id)
                for m in page.messages
            ]
            assert conversation.last_sequence == page.last_sequence
            for turn in conversation.turns:
                await self._is_turn(service, turn)

    async def _is_turn(self, service: Service, turn: Turn) -> None:
        conversation = turn.conversation
        shown = await service.turn(
            user=conversation.owner, conversation_id=conversation.id, turn_id=turn.id
        )
        is_known = bool(turn.request_id)
        if is_known:
            same = await service.turn(user=conversation.owner, request_id=turn.request_id)
            assert shown == same
        expected = turn.standing
        assert expected == _standing(shown)
        assert bool(expected[1]) == bool(shown.error_text)
        assert (expected[0] == "RUNNING") != shown.HasField("end_time")
        assert (
            turn.attempt,
            turn.request_id,
            turn.user_sequence,
            turn.response_sequence,
            turn.sent[2],
        ) == (
            shown.attempt,
            shown.request_id,
            shown.user_sequence,
            shown.response_sequence,
            shown.agent,
        )

    async def _is_hidden(self, service: Service, conversation: Conversation) -> None:
        """What another owner has is not there."""
        other = next(o for o in self._owners() if o != conversation.owner)
        turn_id = conversation.turns[-1].id
        calls = [service.turn(conversation_id=conversation.id, turn_id=turn_id, user=other)]
        if (other, conversation.id) not in self.model.conversations:
            calls.append(service.history(conversation.id, user=other))
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert grpc.StatusCode.NOT_FOUND == caught.value.code()

    # One example

    def _named(self, owner: str) -> str:
        return f"{owner}-{self.example}"

    def conversations(self) -> list[Conversation]:
        return list(self.model.conversations.values())

    def _owners(self) -> list[str]:
        return [self._named(owner) for owner in OWNERS]

    def teardown(self) -> None:
        """Let everything end, and read it all once more."""
        try:
            self.world.do(self._end())
        finally:
            self.world.do(self.world.clear())

    async def _end(self) -> None:
        while self.model.runs:
            await self._lets_go(self.model.runs[0], "")
        assert {True} >= {call.done() for call in self.world.calls}
        for worker, owner in itertools.product(WORKERS, self._owners()):
            await self._read(owner, worker, newest_first=False, after=0)


def _standing(turn: cpb.Turn) -> tuple[str, str]:
    reason = reason_of(turn)
    state = cpb.TurnState.Name(turn.state).removeprefix("TURN_STATE_")
    return state, "" if reason == "UNSPECIFIED" else reason


def _listing(conversation: Conversation) -> tuple[object, ...]:
    return (
        conversation.id,
        conversation.said[0][1],
        conversation.said[-1][1],
        conversation.last_sequence,
        conversation.open_turn.id if conversation.is_held else "",
    )


def _listing_of(shown: cpb.Conversation) -> tuple[object, ...]:
    return (
        shown.conversation_id,
        shown.title,
        shown.preview,
        shown.last_sequence,
        shown.open_turn_id,
    )


def _registered(worker: Worker, topics: set[UUID]) -> tuple[int, int]:
    """Return how many calls of a worker queue up, and how many listen for the end of a turn."""
    return worker.turns.queued, sum(map(worker.bells.listeners, topics))


@pytest.mark.timeout(300 if EXAMPLES <= 60 else 0)
@WITH_AND_WITHOUT_ROW_SECURITY
def test_service_behaves_as_its_model(
    database_url: str, usual: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What nobody signals, a lease that passes, is looked for more often: examples become shorter.
    monkeypatch.setattr("parley_server.core.bells.LOOK_S", 0.03)
    monkeypatch.setattr("parley_server.core.bells.LOOK_WITH_SIGNALS_S", 0.03)
    # Who runs beside whom is not for the model to say: suspects do not wait for each other.
    monkeypatch.setattr("parley_server.core.turns.suspects.WAIT_S", 0.0)
    monkeypatch.setattr("parley_server.core.turns.suspects.REPEATED_WAIT_S", 0.0)
    # A cancel whose signal is lost stays unnoticed: nobody looks, not even after a gap in the
    # signals, which workers that have just met, or a slow machine, may have at any time.
    monkeypatch.setattr("parley_server.core.attempts.keeping.CANCEL_LOOK_S", 3600.0)
    monkeypatch.setattr("parley_server.core.attempts.keeping.Keeping.missed", lambda _: None)
    world = World(database_url, usual)
    try:
        world.do(world.start())
        machine = type("ServiceMachine", (Machine,), {"world": world})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                # What never comes takes SETTLED_S to be missed: shrinking would take many minutes.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        world.close()
    assert () == integrity.examine(as_superuser(database_url)).problems
