"""What a caller may see of the service: the tables of the turn machine, kept in memory."""

import asyncio
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import AgentRun

OWNERS = ("ada", "bob")
AGENT_ERRORS = {"AGENT_UNAVAILABLE": "UNAVAILABLE", "AGENT_REFUSED": "FAILED_PRECONDITION"}
MAX_ATTEMPTS = 3
UNCOUNTED = ("CALLER_LOST",)
"""How an attempt may end here without counting against the maximum."""
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
    def is_held(self) -> bool:
        return self.holder is not None and self.is_lease_valid

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
        return self.holder.turn if self.holder is not None else None

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
    """The end of an attempt, or of a turn without one, as the feed tells it."""

    turn_id: str
    attempt: int
    state: str
    reason: str


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
        is_overrun = conversation.open_turn is self and not conversation.is_lease_valid
        return is_overrun or self.reason == "TURN_ABANDONED"

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
    """It has no caller: a worker runs it by itself."""

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


class Model:
    """What was said and done so far, in one example."""

    def __init__(self) -> None:
        self.conversations: dict[tuple[str, str], Conversation] = {}
        self.requests: dict[tuple[str, str], Turn] = {}
        self.calls: dict[tuple[str, str], Call] = {}
        """The first call under each request id."""
        self.runs: list[Run] = []
        """Those that stand at their gate, overtaken ones included."""
        self.creations: dict[tuple[str, str], Creation] = {}
        """By the owner and the request id of CreateConversation."""
        self.used: dict[str, Used] = defaultdict(Used)
        """By owner."""
        self.clock = itertools.count(1)

    def outcome(self, call: Call) -> Outcome:
        """Return what becomes of a call now: the design's first two tables, in its order."""
        request = call.request
        turn = self.requests.get((call.owner, request.request_id)) if request.request_id else None
        if turn is not None:
            return self._of_known(call, turn)
        conversation = self.conversations.get((call.owner, request.conversation_id.lower()))
        is_missing = conversation is None and request.conversation_id and not request.allow_missing
        if is_missing or (conversation is not None and conversation.is_deleted):
            return not_found(request.conversation_id.lower())
        last = conversation.last_sequence if conversation else 0
        if call.expected_sequence not in (None, last):
            return Refused("ABORTED", "SEQUENCE_MISMATCH", (("last_sequence", str(last)),))
        if conversation is not None and conversation.is_busy:
            if request.on_busy == pb.ON_BUSY_WAIT:
                return Waits()
            # Only for a moment, in which no call is looked at, nothing but a queue makes it busy.
            busy = conversation.open_turn or conversation.queue[0]
            held = (("conversation_id", conversation.id), ("turn_id", busy.id))
            return Refused("ABORTED", "TURN_IN_PROGRESS", held)
        return Starts(None)

    def _of_known(self, call: Call, turn: Turn) -> Outcome:
        if turn.conversation.is_deleted:
            return not_found(turn.conversation.id)
        if turn.sent != call.sent:
            named = (("request_id", turn.request_id),)
            return Refused("ALREADY_EXISTS", "REQUEST_ID_REUSED", named)
        if turn.state == "QUEUED":
            return Follows()
        if not turn.has_begun:
            if turn.state == "FAILED":
                return Refused("ABORTED", "SEQUENCE_MISMATCH")
            return Refused("FAILED_PRECONDITION", "TURN_SUPERSEDED", (("turn_id", turn.id),))
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
        if outcome.turn is None:
            self._runs(self._opened(call, run), run)
        else:
            self.started_again(outcome.turn, run)

    def started_again(self, turn: Turn, run: Run) -> None:
        """Write down that another attempt of a turn began."""
        assert not turn.is_to_stop
        assert not turn.is_exhausted
        if turn.state == "RUNNING":
            self._lost(turn)
            self._ends(turn, "FAILED", "TURN_ABANDONED")
        turn.spent = turn.spent_attempts
        turn.attempt += 1
        turn.state, turn.reason = "RUNNING", ""
        self._runs(turn, run)

    def _runs(self, turn: Turn, run: Run) -> None:
        conversation = turn.conversation
        conversation.holder, conversation.is_lease_valid = run, True
        self.is_active(conversation)
        run.turn = turn
        self.runs.append(run)

    def is_active(self, conversation: Conversation) -> None:
        """Write down that something happens in a conversation: it is the first in lists."""
        conversation.activity = next(self.clock)
        conversation.idle_days = 0

    # Turns that are started

    def accepted(self, call: Call, turn_id: str, conversation_id: str) -> Turn:
        """Write down that a turn is in its conversation's queue, which may be a new one."""
        conversation = self.conversations.get((call.owner, conversation_id))
        if conversation is None:
            conversation = Conversation(call.owner, conversation_id, activity=next(self.clock))
            self.conversations[call.owner, conversation_id] = conversation
        request = call.request
        turn = Turn(
            turn_id,
            conversation,
            request.request_id,
            request.message,
            call.sent,
            user_sequence=0,
            state="QUEUED",
            attempt=0,
            expected_sequence=call.expected_sequence,
        )
        conversation.queue.append(turn)
        if request.request_id:
            self.requests[call.owner, request.request_id] = turn
        return turn

    def begun(self, turn: Turn, run: Run) -> None:
        """Write down that the first turn of a queue has begun."""
        conversation = turn.conversation
        assert turn is conversation.queue.pop(0)
        self.overrun(conversation)
        self._said(turn)
        turn.state, turn.attempt = "RUNNING", 1
        self._runs(turn, run)

    def never_begins(self, turn: Turn, state: str, reason: str = "") -> None:
        """Write down that a turn of a queue was cancelled, or that it did not fit."""
        turn.conversation.queue.remove(turn)
        turn.conversation.never_begun.append(turn)
        turn.state, turn.reason = state, reason
        self._ends(turn, state, reason)

    def _ends(self, turn: Turn, state: str, reason: str = "") -> None:
        turn.conversation.ends.append(End(turn.id, turn.attempt, state, reason))

    def _opened(self, call: Call, run: Run) -> Turn:
        owner, conversation_id = call.owner, str(run.seen.conversation_id)
        conversation = self.conversations.get((owner, conversation_id))
        if conversation is None:
            conversation = Conversation(owner, conversation_id)
            self.conversations[owner, conversation_id] = conversation
        self.overrun(conversation)
        request, turn_id = call.request, str(run.seen.turn_id)
        turn = Turn(
            turn_id,
            conversation,
            request.request_id,
            request.message,
            call.sent,
            user_sequence=0,
        )
        self._said(turn)
        if request.request_id:
            self.requests[owner, request.request_id] = turn
        return turn

    def _said(self, turn: Turn) -> None:
        """Write down that a turn has begun: its message is in the conversation."""
        conversation = turn.conversation
        if not conversation.said and not conversation.title:
            conversation.title = turn.message
        conversation.said.append(("USER", turn.message, turn.id))
        turn.user_sequence = conversation.last_sequence
        conversation.turns.append(turn)

    def failed(self, turn: Turn, reason: str) -> None:
        if turn.is_to_stop:
            self.answered(turn, BEGINNING, "CANCELLED")
            return
        turn.conversation.holder = None
        self._lost(turn)
        turn.state, turn.reason = "FAILED", reason
        self._ends(turn, "FAILED", reason)

    def _lost(self, turn: Turn) -> None:
        """Count an attempt that ends without an answer."""
        used = self.used[turn.conversation.owner]
        used.attempts += 1
        used.failed += 1

    def overrun(self, conversation: Conversation) -> None:
        """Write down that the open turn is abandoned, if there is one."""
        if (turn := conversation.open_turn) is not None:
            self._abandoned(turn)
            self._ends(turn, "FAILED", "TURN_ABANDONED")
        conversation.holder = None

    def _abandoned(self, turn: Turn) -> None:
        self._lost(turn)
        turn.state, turn.reason = "FAILED", "TURN_ABANDONED"

    def appended(self, conversation: Conversation, texts: list[tuple[str, str]]) -> None:
        """Write down what is appended. A turn whose lease has passed is abandoned."""
        self.overrun(conversation)
        if not conversation.said and not conversation.title:
            conversation.title = texts[0][1]
        conversation.said += [(role, text, "") for role, text in texts]
        self.is_active(conversation)

    def deleted(self, conversation: Conversation) -> None:
        """Write down that a conversation is deleted: its open turn is closed, its queue emptied.

        The feed does not tell of these ends.
        """
        if (turn := conversation.open_turn) is not None:
            self._abandoned(turn)
        conversation.holder = None
        for queued in conversation.queue:
            queued.state = "CANCELLED"
        conversation.never_begun += conversation.queue
        conversation.queue.clear()
        conversation.is_deleted = conversation.was_deleted = True

    def erased(self, owner: str) -> None:
        """Forget everything of an owner. Attempts that were overtaken may still stand."""
        for by_owner in (self.conversations, self.requests, self.calls, self.creations):
            for key in [key for key in by_owner if key[0] == owner]:
                del by_owner[key]
        self.used.pop(owner, None)

    def answered(self, turn: Turn, answer: str, state: str = "COMPLETED") -> None:
        conversation = turn.conversation
        conversation.holder = None
        used = self.used[conversation.owner]
        used.turns += 1
        used.attempts += turn.state == "RUNNING"  # else it is counted already
        turn.state, turn.reason, turn.answer = state, "", answer
        self._ends(turn, state)
        conversation.said.append(("ASSISTANT", answer, turn.id))
        turn.response_sequence = conversation.last_sequence
