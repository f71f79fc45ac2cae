"""What Parley talks about: owners, messages, turns, windows.

Plain values without behaviour of their own. Rows become these at the storage edge, and these become
protos at the gRPC edge. The types that are made by the dozen for every turn are named tuples, which
are several times cheaper to make than frozen dataclasses.
"""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import NamedTuple, TypeAlias
from uuid import UUID

OWNER_NAMESPACE = UUID("6b1f0d3c-2f0e-5c43-9a53-0f4d5a1c7e11")
"""Fixed for ever: every stored row depends on it."""


class Owner(NamedTuple):
    """Whose data it is: a verified token's user, or the one that such a token may act for."""

    tenant: str
    """Empty in a deployment without tenants."""
    user: str
    id: UUID

    @classmethod
    def of(cls, tenant: str, user: str) -> "Owner":
        """Return the owner of this tenant and user.

        Guarantees: a pure function; the length in front keeps ("ab", "c") and ("a", "bc") apart.
        """
        name = f"{len(tenant.encode())}:{tenant}{user}"
        return cls(tenant, user, uuid.uuid5(OWNER_NAMESPACE, name))


class Role(StrEnum):
    USER = "USER"
    ASSISTANT = "ASSISTANT"
    SYSTEM = "SYSTEM"


class TurnState(StrEnum):
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class FinishReason(StrEnum):
    STOP = "STOP"
    LENGTH = "LENGTH"
    CANCELLED = "CANCELLED"
    CONTENT_FILTER = "CONTENT_FILTER"


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
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    """No attempt is left. Never stored, because the release before does not know it."""


UNCOUNTED = (FailureReason.CALLER_LOST, FailureReason.WORKER_DRAINED)
"""How an attempt may end without counting: neither the message nor the agent had a part in it."""
DEFAULT_MAX_ATTEMPTS = 5


class Failing(Enum):
    """What came of writing down that an attempt failed."""

    FAILED = "FAILED"
    LEASE_LOST = "LEASE_LOST"
    """The turn is another attempt's. Nothing was written."""
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    """The turn is to be ended as cancelled instead. Nothing was written."""


class ToolCall(NamedTuple):
    """One use of a tool, with what came of it."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""
    result: str
    is_error: bool
    step: int
    """Calls of one model response share it; counted from 1."""


class Usage(NamedTuple):
    """What a turn cost, in tokens."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    model_requests: int


class Message(NamedTuple):
    """One immutable record of a conversation."""

    sequence: int
    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...]
    turn_id: UUID
    create_time: datetime
    usage: Usage | None
    model: str
    finish_reason: FinishReason | None


class WindowMessage(NamedTuple):
    """A message as the agent is shown it."""

    sequence: int
    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    """How an answer ended; None: it is no answer."""
    opaque_state: bytes | None = None
    """Of an answer: what the agent that gave it wants back; see OpaqueState."""


class Context(NamedTuple):
    """Which part of a conversation a window shows."""

    first_sequence: int
    message_count: int
    """The turn's own message included."""
    omitted_count: int


class Window(NamedTuple):
    """What the agent is shown: answered turns, oldest first, then the open turn's message."""

    messages: Sequence[WindowMessage]
    context: Context


class Conversation(NamedTuple):
    id: UUID
    title: str
    create_time: datetime
    update_time: datetime
    last_sequence: int
    preview: str
    open_turn_id: UUID | None


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


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as stored. An overrun lease is already reported as FAILED, TURN_ABANDONED, and a turn
    that has no attempt left as FAILED, ATTEMPTS_EXHAUSTED."""

    id: UUID
    conversation_id: UUID
    request_id: str | None
    fingerprint: bytes
    agent: str
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
    """Set exactly when the state is COMPLETED or CANCELLED."""
    is_newest: bool
    """No turn of the conversation began after it."""
    fence: int
    """The conversation's, when this was read."""
    is_cancel_requested: bool
    spent_attempts: int = 0
    """How many attempts in a row have ended in a way that counts (`UNCOUNTED` does not)."""
    abandoned_attempts: int = 0
    """How many attempts in a row, up to the last one, have ended with their worker."""


class OnBusy(Enum):
    """What to do while another turn of the conversation is open."""

    REJECT = "REJECT"
    WAIT = "WAIT"


class OnDisconnect(Enum):
    """What becomes of a turn whose caller is gone."""

    CANCEL = "CANCEL"
    CONTINUE = "CONTINUE"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller asks for with one turn, checked field by field."""

    conversation_id: UUID | None
    message: str
    request_id: str | None = None
    allow_missing: bool = False
    expected_sequence: int | None = None
    on_busy: OnBusy = OnBusy.REJECT
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    agent: str = ""

    def fingerprint(self) -> bytes:
        """Return what tells whether two calls ask for the same turn.

        How to wait, and what to do without the caller, do not count. A field that is added later
        counts only when it is set, so that what is stored stays valid.
        """
        conversation_id = "" if self.conversation_id is None else str(self.conversation_id)
        digest = hashlib.sha256()
        for part in (conversation_id, self.message, self.agent):
            data = part.encode()
            digest.update(b"%d:%b" % (len(data), data))
        return digest.digest()


class TurnName(NamedTuple):
    """Names a turn: by its conversation and id, or by its request id alone."""

    conversation_id: UUID | None
    turn_id: UUID | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A turn that has its answer."""

    conversation_id: UUID
    turn_id: UUID
    user_sequence: int
    response_sequence: int
    answer: Answer
    context: Context
    is_replayed: bool


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn that a caller asks for, as it would be stored."""

    id: UUID
    conversation_id: UUID
    is_new_conversation: bool
    """True: the conversation id was made for this call, and nobody else can know it."""
    request_id: str | None
    fingerprint: bytes
    agent: str
    message: str
    expected_sequence: int | None = None
    allow_missing: bool = False


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


@dataclass(frozen=True, slots=True)
class Standing:
    """How a conversation stands at one moment."""

    last_sequence: int
    open_turn_id: UUID | None
    """The turn that holds a valid lease, if one does."""
    start_time: datetime
    """When its newest attempt began."""
    lease_end_time: datetime | None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of messages, and how long the conversation was when it was read."""

    messages: list[Message]
    has_more: bool
    last_sequence: int


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """A page of conversations, the most recently active first."""

    conversations: list[Conversation]
    has_more: bool


@dataclass(frozen=True, slots=True)
class AgentRun:
    """What an agent is given to answer one turn."""

    owner: Owner
    conversation_id: UUID
    turn_id: UUID
    """Stays the same over all attempts: tools use it to be idempotent."""
    attempt: int
    window: Window
    instructions: str
    time_left_s: float
    """How long it may take; it is stopped then."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of an answer's text, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class OpaqueState:
    """What an agent's provider wants back in later turns: reasoning, signatures, item ids.

    The core keeps it with the answer and hands it back in later windows. It is never shown and
    never logged. A newer one of the same run replaces it.
    """

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event of a run."""

    reason: FinishReason
    model: str
    usage: Usage | None = None


AgentEvent: TypeAlias = Text | ToolCall | OpaqueState | Finish


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A piece of an answer under way, as everybody who follows the turn sees it."""

    index: int
    """Its place within its attempt, from 0."""
    event: Text | ToolCall


@dataclass(frozen=True, slots=True)
class Position:
    """How far a caller has followed a turn."""

    attempt: int
    """0: it has seen nothing."""
    index: int
    """The last event seen; -1: none of this attempt."""


@dataclass(frozen=True, slots=True)
class Started:
    """First of a stream whose turn runs."""

    conversation_id: UUID
    turn_id: UUID
    user_sequence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Piece:
    """An event of a turn's attempt, as it is streamed."""

    attempt: int
    index: int
    event: Text | ToolCall


@dataclass(frozen=True, slots=True)
class Completed:
    """Last of a stream: the answer, which replaces what was gathered from the pieces."""

    answered: Answered
    attempt: int
    """0: the turn had ended before."""


StreamEvent: TypeAlias = Started | Piece | Completed


class Progress(NamedTuple):
    """Says that a watch has delivered everything there was."""

    last_sequence: int


WatchUpdate: TypeAlias = Message | Turn | Piece | Progress
