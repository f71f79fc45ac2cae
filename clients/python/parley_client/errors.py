"""Every error that a call can end with, as a class.

    ParleyError
    ├── InvalidRequest ─ InvalidPageToken, AgentUnknown
    ├── Unauthenticated, ScopeMissing
    ├── ConversationNotFound, TurnNotFound
    ├── RequestIdReused, ConversationExists, ResultAlreadyGiven
    ├── TurnInProgress, SequenceMismatch, RevisionMismatch, LeaseLost, AttemptLost
    ├── TurnSuperseded, AttemptsExhausted, SequenceNotReached, NotATurnBoundary, CursorExpired
    ├── AgentRefused, CallNotPending, ActionRequired, WindowIncomplete, NoRehearsal
    ├── Overloaded ─ TurnLimitReached, QueueFull
    ├── BudgetExhausted
    ├── Unavailable ─ AgentUnavailable, StoreUnavailable, KeysUnavailable, WorkerDrained,
    │                 TurnAbandoned, WatchExpired
    ├── DeadlineExceeded ─ AgentTimeout, DeadlineTooShort, CallerLost
    └── InternalError

`BY_REASON` is the table: one class for each reason of the contract's ErrorReason. `BY_CODE` has the
class of a status without a reason, which comes from gRPC itself or from a proxy, and of one whose
reason is newer than this client.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple

import grpc

Code = grpc.StatusCode


class Violation(NamedTuple):
    """What is wrong with one field of a request."""

    field: str
    reason: str
    """UPPER_SNAKE, for programs."""
    description: str
    """For people: what is wrong and what is allowed."""


class ParleyError(Exception):
    """A call failed. Catch this class for all errors, or one of its subclasses."""

    is_retryable: ClassVar[bool] = False
    """The same call, with the same request id, may succeed later. If False, something has to change
    first: the request, the token, or what the caller knows of the conversation."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = Code.UNKNOWN,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        is_pushed_back: bool = False,
        violations: Sequence[Violation] = (),
        call_id: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        """A sentence for people. Programs read the class and `metadata`."""
        self.code = code
        self.reason = reason
        """The name of an ErrorReason without ERROR_REASON_. Empty: the status is not Parley's."""
        self.metadata = dict(metadata or {})
        """Every variable part of the message, by name."""
        self.retry_after_s = retry_after_s
        """How long the server asks to wait before the next try, in seconds. None: not stated."""
        self.is_pushed_back = is_pushed_back
        """The server asks not to retry within this call: the wait would be too long."""
        self.violations = tuple(violations)
        """Every wrong field, for an InvalidRequest."""
        self.call_id = call_id
        """Names the call in the server's log. Empty: the server did not send it."""
        self.request_id = request_id
        """The call's request id: making the same call with it again is safe."""

    def __str__(self) -> str:
        ids = {"request_id": self.request_id, "call_id": self.call_id}
        named = ", ".join(f"{name}={value}" for name, value in ids.items() if value)
        return f"{self.message} [{named}]" if named else self.message

    def _number(self, name: str) -> int:
        """Return a number of the metadata. 0: there is none."""
        try:
            return int(self.metadata.get(name, 0))
        except ValueError:
            return 0


class InvalidRequest(ParleyError):
    """Fields of the request are wrong: see `violations`. Nothing was stored."""


class InvalidPageToken(InvalidRequest):
    """The page token was altered, or belongs to another request or owner. Start at page one."""


class AgentUnknown(InvalidRequest):
    """The server has no agent of this name: `list_agents` names those that there are."""


class Unauthenticated(ParleyError):
    """The call carried no valid token."""


class ScopeMissing(ParleyError):
    """The token is valid and lacks a scope."""

    @property
    def scope(self) -> str:
        return self.metadata.get("scope", "")


class ConversationNotFound(ParleyError):
    """The caller has no such conversation. Another owner's looks the same."""

    @property
    def conversation_id(self) -> str:
        return self.metadata.get("conversation_id", "")


class TurnNotFound(ParleyError):
    """The caller has no such turn."""


class RequestIdReused(ParleyError):
    """The request id belongs to a call with other arguments, such as another message."""


class ConversationExists(ParleyError):
    """The caller has a conversation of this id, or deleted it lately: this call created none."""

    @property
    def conversation_id(self) -> str:
        return self.metadata.get("conversation_id", "")


class ResultAlreadyGiven(ParleyError):
    """Another result was given for a pending call before. It stays; nothing was stored."""

    @property
    def call_key(self) -> str:
        return self.metadata.get("call_key", "")


class TurnInProgress(ParleyError):
    """Another turn of the conversation is open. `on_busy="wait"` waits for its end instead."""

    is_retryable = True

    @property
    def turn_id(self) -> str:
        return self.metadata.get("turn_id", "")


class SequenceMismatch(ParleyError):
    """The conversation does not end at `expected_sequence`: read what is new, then decide again."""

    @property
    def last_sequence(self) -> int:
        return self._number("last_sequence")


class RevisionMismatch(ParleyError):
    """The conversation is not at `expected_revision`: read it, then decide again."""

    @property
    def revision(self) -> int:
        return self._number("revision")


class LeaseLost(ParleyError):
    """Another worker took the turn over. The client retries by itself while there is time."""

    is_retryable = True


class AttemptLost(ParleyError):
    """The agent started over while `stream_text` was yielding text, which is void now.

    The turn may still run: `chat` with the same request id returns its whole answer.
    """

    is_retryable = True


class ActionRequired(ParleyError):
    """The turn waits for its caller, which `stream_text` cannot show.

    `turn` with the same request id tells what it waits for, and `resume_turn` goes on with it.
    """


class TurnSuperseded(ParleyError):
    """The turn failed and a later turn followed: send the message with a new request id."""


class AttemptsExhausted(ParleyError):
    """The turn reached its number of failed attempts: send it with a new request id, if at all."""

    @property
    def attempts(self) -> int:
        return self._number("attempts")


class SequenceNotReached(ParleyError):
    """`min_sequence` is above the conversation's last sequence."""

    @property
    def last_sequence(self) -> int:
        return self._number("last_sequence")


class NotATurnBoundary(ParleyError):
    """`up_to_sequence` is within a turn, or its turn is open: nothing was copied."""

    @property
    def previous_boundary(self) -> int:
        """The nearest sequence before it that a copy may end at. 0: there is none."""
        return self._number("previous_boundary")


class CursorExpired(ParleyError):
    """Turns behind the cursor may be gone: read what you need, then watch without a cursor."""

    @property
    def oldest_time(self) -> datetime | None:
        """When the oldest turn ended that the feed still has. None: the server did not say."""
        try:
            return datetime.fromisoformat(self.metadata.get("oldest_time", ""))
        except ValueError:
            return None


class AgentRefused(ParleyError):
    """The model's provider refused the request as it is."""


class CallNotPending(ParleyError):
    """The turn does not wait for this call, or not any more: `turn` says what it waits for."""

    @property
    def call_key(self) -> str:
        return self.metadata.get("call_key", "")


class WindowIncomplete(ParleyError):
    """What the turn's agent was shown cannot be put together: rehearse another turn or agent."""

    @property
    def turn_id(self) -> str:
        return self.metadata.get("turn_id", "")


class NoRehearsal(ParleyError):
    """The agent might act in a rehearsal: `list_agents` says which ones can rehearse."""

    @property
    def agent(self) -> str:
        return self.metadata.get("agent", "")


class Overloaded(ParleyError):
    """The server has too many open calls, or too many answers that callers have not read yet."""

    is_retryable = True


class TurnLimitReached(Overloaded):
    """The caller started too many turns within a minute: wait `retry_after_s`."""


class QueueFull(Overloaded):
    """Too many of the caller's started turns have not ended: wait until some have been run."""

    @property
    def max_queued_turns(self) -> int:
        return self._number("max_queued_turns")


class BudgetExhausted(ParleyError):
    """The caller's turns used today's tokens: wait `retry_after_s`, until midnight UTC."""

    is_retryable = True

    @property
    def max_tokens_per_day(self) -> int:
        return self._number("max_tokens_per_day")

    @property
    def used_tokens(self) -> int:
        return self._number("used_tokens")


class Unavailable(ParleyError):
    """The server, or something it needs, is unavailable. The client's retries did not help."""

    is_retryable = True


class AgentUnavailable(Unavailable):
    """The agent or its provider is down, limits calls, or sent an invalid answer."""


class StoreUnavailable(Unavailable):
    """The server's database cannot be reached or did not answer in time."""


class KeysUnavailable(Unavailable):
    """The server cannot fetch the keys that it verifies tokens with."""


class WorkerDrained(Unavailable):
    """The worker is shutting down; call again to reach another one."""


class TurnAbandoned(Unavailable):
    """The worker that ran the turn stopped."""


class WatchExpired(Unavailable):
    """A watch reached its longest time: watch again from where it was."""


class DeadlineExceeded(ParleyError):
    """No answer within `timeout_s`. The same request id returns it, or runs the turn again."""

    is_retryable = True


class AgentTimeout(DeadlineExceeded):
    """The agent did not finish in time."""


class DeadlineTooShort(DeadlineExceeded):
    """Less than a second was left, too short to run an agent. Nothing was stored."""


class CallerLost(DeadlineExceeded):
    """The deadline passed, or the caller disconnected, before the answer was there."""


class InternalError(ParleyError):
    """A defect of the server. Its log has the details under `call_id`."""


BY_REASON: dict[str, type[ParleyError]] = {
    "INVALID_REQUEST": InvalidRequest,
    "INVALID_PAGE_TOKEN": InvalidPageToken,
    "AGENT_UNKNOWN": AgentUnknown,
    "UNAUTHENTICATED": Unauthenticated,
    "SCOPE_MISSING": ScopeMissing,
    "CONVERSATION_NOT_FOUND": ConversationNotFound,
    "TURN_NOT_FOUND": TurnNotFound,
    "REQUEST_ID_REUSED": RequestIdReused,
    "TURN_IN_PROGRESS": TurnInProgress,
    "SEQUENCE_MISMATCH": SequenceMismatch,
    "LEASE_LOST": LeaseLost,
    "TURN_SUPERSEDED": TurnSuperseded,
    "ATTEMPTS_EXHAUSTED": AttemptsExhausted,
    "SEQUENCE_NOT_REACHED": SequenceNotReached,
    "AGENT_REFUSED": AgentRefused,
    "AGENT_TIMEOUT": AgentTimeout,
    "AGENT_UNAVAILABLE": AgentUnavailable,
    "DEADLINE_TOO_SHORT": DeadlineTooShort,
    "OVERLOADED": Overloaded,
    "STORE_UNAVAILABLE": StoreUnavailable,
    "KEYS_UNAVAILABLE": KeysUnavailable,
    "WORKER_DRAINED": WorkerDrained,
    "CALLER_LOST": CallerLost,
    "TURN_ABANDONED": TurnAbandoned,
    "INTERNAL": InternalError,
    "WATCH_EXPIRED": WatchExpired,
    "TURN_LIMIT_REACHED": TurnLimitReached,
    "CONVERSATION_EXISTS": ConversationExists,
    "REVISION_MISMATCH": RevisionMismatch,
    "BUDGET_EXHAUSTED": BudgetExhausted,
    "NOT_A_TURN_BOUNDARY": NotATurnBoundary,
    "QUEUE_FULL": QueueFull,
    "CURSOR_EXPIRED": CursorExpired,
    "RESULT_ALREADY_GIVEN": ResultAlreadyGiven,
    "CALL_NOT_PENDING": CallNotPending,
    "WINDOW_INCOMPLETE": WindowIncomplete,
    "NO_REHEARSAL": NoRehearsal,
}

BY_CODE: dict[grpc.StatusCode, type[ParleyError]] = {
    Code.INVALID_ARGUMENT: InvalidRequest,
    Code.UNAUTHENTICATED: Unauthenticated,
    Code.UNAVAILABLE: Unavailable,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
}
