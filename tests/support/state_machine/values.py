"""What the model is made of: conversations, turns, calls, attempts, and how a call ends."""

import asyncio
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.attempts.closing import SENTENCES
from parley_server.core.model import AgentRun, PendingCall, WaitEnd

OWNERS = ("ada", "bob")
AGENTS = ("echo", "poet")
"""The first one is the default."""
AGENT_ERRORS = {"AGENT_UNAVAILABLE": "UNAVAILABLE", "AGENT_REFUSED": "FAILED_PRECONDITION"}
MAX_ATTEMPTS = 3
UNCOUNTED = ("CALLER_LOST",)
"""How an attempt may end here without counting against the maximum."""
MODEL = "scripted-1"
ASKS = "ASKS"
"""What lets an agent ask its caller for results of calls."""
BEGINNING = "This is answer "
"""What an agent says before it comes to its gate."""


@dataclass(eq=False)
class Conversation:
    owner: str
    id: str
    said: list[tuple[str, str, str]] = field(default_factory=list)
    """Role, content and turn of each message; its sequence is its place. Appended: no turn."""
    turns: list["Turn"] = field(default_factory=list)
    holder: "Run | None" = None
    """The newest attempt, while its turn is open."""
    is_lease_valid: bool = False
    activity: int = 0
    waiting: dict[int, list["Call"]] = field(default_factory=lambda: defaultdict(list))
    """Calls under ON_BUSY_WAIT, by worker, first come first."""
    following: list["Call"] = field(default_factory=list)
    """Calls that wait for the end of a turn with their own request id."""
    title: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    instructions: str = ""
    agent: str = ""
    revision: int = 1
    is_deleted: bool = False
    was_deleted: bool = False
    is_expired: bool = False
    """Retention has deleted it, for good."""
    idle_days: int = 0
    """For how long nothing has happened in it, as far as the database's rows say."""
    age_days: int = 0
    queue: list["Turn"] = field(default_factory=list)
    """Started turns that have not begun, first come first."""
    never_begun: list["Turn"] = field(default_factory=list)
    """Started turns that were cancelled, or refused, before they began."""
    ends: list["End"] = field(default_factory=list)
    """What the feed tells of it, in order."""

    @property
    def last_sequence(self) -> int:
        return len(self.said)

    @property
    def calls(self) -> list["Call"]:
        """Calls that wait for something here."""
        return [*self.following, *itertools.chain(*self.waiting.values())]

    @property
    def waiting_turn(self) -> "Turn | None":
        """The turn that waits for its caller. No attempt holds it."""
        last = self.turns[-1] if self.turns else None
        return last if last is not None and last.state == "WAITING" else None

    @property
    def is_held(self) -> bool:
        """Whether a turn runs, or waits for its caller."""
        runs = self.holder is not None and self.is_lease_valid
        return runs or self.waiting_turn is not None

    @property
    def is_busy(self) -> bool:
        """Whether a new turn is refused, or has to wait."""
        return self.is_held or bool(self.queue)

    @property
    def all_turns(self) -> list["Turn"]:
        """Every turn, those included that have not begun or never will."""
        return [*self.turns, *self.queue, *self.never_begun]

    @property
    def open_turn(self) -> "Turn | None":
        return self.holder.turn if self.holder is not None else self.waiting_turn

    def window(self) -> list[tuple[int, str, str]]:
        """Return what the agent of a turn that starts now is shown."""
        shown = []
        for sequence, (role, content, turn_id) in enumerate(self.said, 1):
            is_shown = bool(content)  # an answer without any was cancelled before it said anything
            if role == "USER" and turn_id and sequence < self.last_sequence:
                answer_role, answer, answered = self.said[sequence]
                is_shown = (answer_role, answered) == ("ASSISTANT", turn_id) and bool(answer)
            if is_shown:
                shown.append((sequence, role, content))
        return shown

    def ends_turn(self, sequence: int) -> bool:
        """Say whether a fork may end with this message."""
        if sequence == self.last_sequence:
            return not self.is_held
        (_, _, turn_id), (role, _, answered) = self.said[sequence - 1 : sequence + 1]
        return not (turn_id and role == "ASSISTANT" and answered == turn_id)


class End(NamedTuple):
    """The end of an attempt, or of a turn without one, as the feed tells it.

    WAITING: the attempt has ended, and its turn waits for its caller.
    """

    turn_id: str
    attempt: int
    state: str
    reason: str


@dataclass(eq=False)
class Asked:
    """A call that a turn's agent has asked its caller for."""

    call: PendingCall
    given: pb.CallResult | None = None

    @property
    def shown(self) -> cpb.PendingCall:
        """How it is shown as long as it waits."""
        kind = cpb.PendingCallKind.Value(f"PENDING_CALL_KIND_{self.call.kind.value}")
        return cpb.PendingCall(**{**self.call._asdict(), "kind": kind})

    def told(self, why: WaitEnd) -> cpb.ToolCall:
        """Return it with its result. One that was given none tells what has ended the wait."""
        call = self.call
        result, is_error = self._outcome or (SENTENCES[why], True)
        return cpb.ToolCall(
            id=call.id,
            name=call.name,
            arguments=call.arguments,
            result=result,
            is_error=is_error,
            step=call.step,
        )

    @property
    def _outcome(self) -> tuple[str, bool] | None:
        """What was given, and whether it is an error. What was approved has run."""
        given = self.given
        match given and given.WhichOneof("outcome"):
            case "result" if given:
                return given.result, False
            case "error" if given:
                return given.error, True
            case "approval":
                return "ran", False
            case "denial" if given:
                return given.denial.reason, True
        return None


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
    expected_sequence: int | None = None
    """Of a started turn: what has to hold when it begins."""
    asked: list[Asked] = field(default_factory=list)
    """All that its agent has asked its caller for, in order."""
    told: list[cpb.ToolCall] = field(default_factory=list)
    """Calls that have results: of its answer, or when it began to wait."""
    is_started: bool = False
    """While it waits: whether a worker runs it without a caller."""
    given: str = ""
    """The agent that its conversation had when it began."""

    @property
    def agent(self) -> str:
        """Whom it was given to: its caller's choice, else the conversation's."""
        return self.sent[2] or self.given

    @property
    def pending(self) -> list[Asked]:
        """The calls that are without a result."""
        return [asked for asked in self.asked if asked.given is None]

    @property
    def kept(self) -> str:
        """What is known of what it had said, once its worker is gone."""
        return BEGINNING if self.asked else ""

    @property
    def spent_attempts(self) -> int:
        """How many attempts in a row count, once the last one has ended."""
        return max(0, self.spent + (self.reason not in UNCOUNTED))

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
    def has_begun(self) -> bool:
        return bool(self.user_sequence)

    @property
    def is_newest(self) -> bool:
        last = self.response_sequence or self.user_sequence
        return self.has_begun and self.conversation.last_sequence == last

    @property
    def is_answered(self) -> bool:
        return self.state in ("COMPLETED", "CANCELLED")

    @property
    def is_abandoned(self) -> bool:
        """Whether its worker went away, or its conversation while it ran."""
        conversation = self.conversation
        holder = conversation.holder
        is_held = holder is not None and holder.turn is self
        return (is_held and not conversation.is_lease_valid) or self.reason == "TURN_ABANDONED"

    @property
    def is_stopped_when_found(self) -> bool:
        """Whether a call with its request id closes it, because CancelTurn was recorded."""
        has_failed = self.state == "FAILED" or self.is_abandoned
        return self.is_newest and has_failed and self.is_to_stop


@dataclass(eq=False)
class Call:
    owner: str
    worker: int
    request: pb.ChatRequest
    turn: Turn | None = None
    """Of ResumeTurn: the turn that it names, whose message and request id `request` has."""
    results: tuple[pb.CallResult, ...] = ()
    """Of ResumeTurn: what it gives."""
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
    is_started: bool = False
    """It needs no caller: a worker runs it by itself."""
    agent: str = AGENTS[0]
    """Whose it is."""
    asks: tuple[str, ...] = ()
    """The tools that it asks its caller for, if a rule lets it."""

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


def not_found(conversation_id: str) -> Refused:
    named = (("conversation_id", conversation_id),)
    return Refused("NOT_FOUND", "CONVERSATION_NOT_FOUND", named)


@dataclass
class Used:
    """What the ledger has counted for an owner."""

    turns: int = 0
    attempts: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Creation:
    """What a request id of CreateConversation has created."""

    request: pb.CreateConversationRequest
    conversation: Conversation
