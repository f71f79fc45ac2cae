"""Turns: what is asked for, how it stands, and what came of it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import NamedTuple
from uuid import UUID

from parley_server.core.model.agents import CallerTool, Given, PendingCall
from parley_server.core.model.conversations import Context, FinishReason, ToolCall, Usage
from parley_server.core.model.owners import Owner


class TurnState(StrEnum):
    QUEUED = "QUEUED"
    """Accepted by StartTurn, and to be run by any worker."""
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    """For its caller, who runs tools or approves calls. It has no lease, and is open."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class FailureReason(StrEnum):
    """Why a turn's last attempt failed. The names are ErrorReason's."""

    CALLER_LOST = "CALLER_LOST"
    AGENT_REFUSED = "AGENT_REFUSED"
    AGENT_TIMEOUT = "AGENT_TIMEOUT"
    AGENT_UNAVAILABLE = "AGENT_UNAVAILABLE"
    WORKER_DRAINED = "WORKER_DRAINED"
    TURN_ABANDONED = "TURN_ABANDONED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    INTERNAL = "INTERNAL"
    SEQUENCE_MISMATCH = "SEQUENCE_MISMATCH"
    """Of a turn that was started: its expected_sequence did not hold when it was to begin."""
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    """No attempt is left. Never stored, because the release before does not know it."""


UNCOUNTED = (FailureReason.CALLER_LOST, FailureReason.WORKER_DRAINED)
"""How an attempt may end without counting: neither the message nor the agent had a part in it."""

RUN_AGAIN = (
    FailureReason.CALLER_LOST,
    FailureReason.WORKER_DRAINED,
    FailureReason.STORE_UNAVAILABLE,
)
"""How an attempt at a started turn may end so that the turn is queued again: not by its agent."""

DEFAULT_MAX_ATTEMPTS = 5
DEFAULT_MAX_QUEUED_TURNS = 10_000
DEFAULT_WAITING = timedelta(days=1)


class Failing(Enum):
    """What came of writing down that an attempt failed."""

    FAILED = "FAILED"
    LEASE_LOST = "LEASE_LOST"
    """The turn is another attempt's. Nothing was written."""
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    """The turn is to be ended as cancelled instead. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that an agent answered to one turn."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage | None
    model: str
    finish_reason: FinishReason
    opaque_state: bytes | None = field(default=None, compare=False, repr=False)
    """Written with the answer, and read with a window only; see OpaqueState."""

    @property
    def outcome(self) -> str:
        """What metrics and traces call the end of its attempt."""
        return "CANCELLED" if self.finish_reason is FinishReason.CANCELLED else "COMPLETED"


class WaitEnd(StrEnum):
    """What ended the wait of a turn, other than its caller."""

    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REPLACED = "REPLACED"


@dataclass(frozen=True, slots=True)
class Wait:
    """What a turn waits for, and what it has said so far."""

    answer: Answer
    """So far; its finish_reason is ACTION_REQUIRED."""
    calls: tuple[PendingCall, ...]
    """All that the run has ended with, in order."""
    end_time: datetime
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of what was given, by call_key: for these calls, and for those of earlier waits."""
    ended_by: WaitEnd | None = None
    """What has ended it; None: it lasts, or its caller or the conversation's deletion has."""

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The calls for which nothing was given yet."""
        return tuple(call for call in self.calls if call.call_key not in self.digests)


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as stored.

    An overrun lease is already reported as FAILED, TURN_ABANDONED, or as QUEUED if the turn was
    started; and a turn that has no attempt left as FAILED, ATTEMPTS_EXHAUSTED.
    """

    id: UUID
    conversation_id: UUID
    request_id: str | None
    fingerprint: bytes
    agent: str
    """Whom it was given to, as in its Lease; until it has begun, whom its caller named."""
    state: TurnState
    attempt: int
    user_sequence: int
    response_sequence: int | None
    error_reason: FailureReason | None
    error_text: str
    create_time: datetime
    end_time: datetime | None
    context: Context | None
    answer: Answer | None
    """Set exactly when the state is COMPLETED or CANCELLED, unless it never began."""
    is_newest: bool
    """No turn of the conversation began after it."""
    fence: int
    """The conversation's, when this was read."""
    is_cancel_requested: bool
    spent_attempts: int = 0
    """How many attempts in a row have ended in a way that counts (`UNCOUNTED` does not)."""
    abandoned_attempts: int = 0
    """How many attempts in a row, up to the last one, have ended with their worker."""
    instructions: str = field(default="", repr=False)
    """Of its conversation, while it is the open turn."""
    last_sequence: int = 0
    """Of its conversation."""
    wait: Wait | None = None
    """Set exactly when the state is WAITING."""
    is_started: bool = False
    """It is in its conversation's queue: it goes on without a caller."""

    @property
    def has_begun(self) -> bool:
        """Whether its message is in the conversation."""
        return self.user_sequence > 0


class OnBusy(Enum):
    """What to do while another turn of the conversation is open."""

    REJECT = "REJECT"
    WAIT = "WAIT"
    REPLACE = "REPLACE"
    """Cancel one that waits for its caller; else as REJECT."""


class OnDisconnect(Enum):
    """What becomes of a turn whose caller is gone."""

    CANCEL = "CANCEL"
    CONTINUE = "CONTINUE"


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a caller asks for with one turn, checked field by field."""

    conversation_id: UUID | None
    message: str
    request_id: str | None = None
    allow_missing: bool = False
    expected_sequence: int | None = None
    on_busy: OnBusy = OnBusy.REJECT
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    agent: str = ""
    """Empty: the conversation's, else the default one."""
    tools: tuple[CallerTool, ...] = ()
    """Those that the caller runs."""

    def fingerprint(self) -> bytes:
        """Return what tells whether two calls ask for the same turn.

        How to wait, and what to do without the caller, do not count. A field that is added later
        counts only when it is set, so that what is stored stays valid.
        """
        conversation_id = "" if self.conversation_id is None else str(self.conversation_id)
        digest = hashlib.sha256()
        parts = [conversation_id, self.message, self.agent]
        if self.tools:
            parts.append(json.dumps(self.tools))
        for part in parts:
            data = part.encode()
            digest.update(b"%d:%b" % (len(data), data))
        return digest.digest()


class TurnRef(NamedTuple):
    """Names a turn: by its conversation and id, or by its request id alone."""

    conversation_id: UUID | None
    turn_id: UUID | None
    request_id: str | None


class GivenCall(NamedTuple):
    """What a caller gives for one call of a waiting turn."""

    given: Given
    approved_arguments: str | None = None
    """Of an approval: the arguments that were approved; None: those with which the call waits."""


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """What a waiting turn is given, checked field by field."""

    turn: TurnRef
    calls: tuple[GivenCall, ...]
    """At least one, each call_key once."""
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    field: str = "results"
    """What the request calls `calls`, for what is wrong with one of them."""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """A turn that has its answer, or waits for its caller."""

    conversation_id: UUID
    turn_id: UUID
    user_sequence: int
    response_sequence: int
    """0: it waits."""
    answer: Answer
    context: Context | None
    """None: it waits."""
    is_replayed: bool
    pending: tuple[PendingCall, ...] = ()
    """What it waits for, in order."""


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn that a caller asks for, as it would be stored."""

    id: UUID
    conversation_id: UUID
    is_new_conversation: bool
    """True: the conversation id was made for this call, and no other call can know it."""
    request_id: str | None
    fingerprint: bytes
    agent: str
    message: str
    expected_sequence: int | None = None
    allow_missing: bool = False
    tools: tuple[CallerTool, ...] = ()

    @classmethod
    def of(cls, ask: TurnRequest, fingerprint: bytes, ids: Callable[[], UUID]) -> "NewTurn":
        """Return the turn that is asked for.

        Args:
            fingerprint: of what is asked for.
            ids: makes ids that rise with time.
        """
        return cls(
            id=ids(),
            conversation_id=ask.conversation_id or ids(),
            is_new_conversation=ask.conversation_id is None,
            request_id=ask.request_id,
            fingerprint=fingerprint,
            agent=ask.agent,
            message=ask.message,
            expected_sequence=ask.expected_sequence,
            allow_missing=ask.allow_missing,
            tools=ask.tools,
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a conversation's one open turn, and to write its answer."""

    conversation_id: UUID
    turn_id: UUID
    attempt: int
    fence: int
    user_sequence: int
    is_taken_over: bool = False
    """It was taken from a worker that had let it pass."""
    instructions: str = ""
    """What the agent is told in this conversation."""
    is_started: bool = False
    """Its turn was started: once it has ended, it leaves its conversation's queue."""
    agent: str = ""
    """Whom the turn was given to: its caller's choice, else the conversation's. Empty: the default
    one."""


class QueueKey(NamedTuple):
    """A conversation with started turns, in which one may begin."""

    owner_id: UUID
    conversation_id: UUID


class WaitKey(NamedTuple):
    """A turn whose wait is over, or that was being ended when its worker went away."""

    owner_id: UUID
    conversation_id: UUID
    turn_id: UUID


@dataclass(frozen=True, slots=True)
class Begun:
    """A started turn of which an attempt was just opened."""

    owner: Owner
    lease: Lease
    ask: TurnRequest


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The first turn of a queue, if an attempt at it has ended or was abandoned."""

    owner: Owner
    conversation_id: UUID
    turn_id: UUID
    message: str
    tools: tuple[CallerTool, ...] = ()


class RefusedTurn(NamedTuple):
    """The first turn of a queue, if its expected_sequence did not hold: it has failed.

    The next one is due.
    """

    owner: Owner


class NotBegun(Enum):
    """Why no turn of a queue was begun."""

    BUSY = "BUSY"
    """A turn is open; or there is none to begin."""
    CONTENDED = "CONTENDED"
    """Another statement is at the conversation, or has just been. Nothing was done."""


class Backlog(NamedTuple):
    """What is left to do in the database, of all owners."""

    started: int
    """How many started turns have not ended, without those behind one that waits for its caller."""
    oldest_age_s: float
    """For how long the first of those has been there."""
    waiting: int
    """How many turns wait for their caller."""


@dataclass(frozen=True, slots=True)
class ConversationState:
    """How a conversation stands at one moment."""

    last_sequence: int
    open_turn_id: UUID | None
    """The turn that holds a valid lease, or waits for its caller."""
    start_time: datetime
    """When its newest attempt began."""
    lease_end_time: datetime | None
