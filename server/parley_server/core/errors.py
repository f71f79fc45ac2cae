"""Everything that can go wrong, as facts.

    ParleyError
    ├── InvalidRequest ─ InvalidPageToken, AgentUnknown
    ├── Unauthenticated, ScopeMissing
    ├── ConversationNotFound, TurnNotFound
    ├── RequestIdReused, ConversationExists, ResultAlreadyGiven
    ├── TurnInProgress, SequenceMismatch, RevisionMismatch, LeaseLost
    ├── TurnSuperseded ─ TurnNeverBegan
    ├── AttemptsExhausted, SequenceNotReached, NotATurnBoundary, CallNotPending
    ├── WindowIncomplete, NoRehearsal
    ├── AgentError ─ AgentRefused, AgentTimeout, AgentUnavailable
    ├── DeadlineTooShort
    ├── Overloaded, TurnLimitReached, BudgetExhausted, QueueFull
    ├── StoreUnavailable ─ StoreOutcomeUnknown
    ├── KeysUnavailable
    ├── WatchExpired ─ ExportExpired, FeedExpired
    ├── CursorExpired
    ├── WorkerDrained
    ├── CallerLost
    └── InternalError

Which status each becomes is written down once, in `rpc/errors.py`. Messages are Parley's own and
hold no text of users, models or providers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple
from uuid import UUID


class ParleyError(Exception):
    """A fact that is reported to the caller."""

    def metadata(self) -> dict[str, str]:
        """Every variable part of the message, by name."""
        return {}


class Violation(NamedTuple):
    """What is wrong with one field of a request."""

    field: str
    reason: str
    """UPPER_SNAKE, for programs."""
    description: str
    """A sentence, for people: what is wrong and what would be right."""


MAX_VIOLATIONS_BYTES = 1536
"""How much of what is wrong is told. It is sent twice, once in Base64 with reasons beside it.
Callers take 8 KiB of an error by default, and see nothing at all of a longer one."""


class InvalidRequest(ParleyError):
    """Fields of a request are wrong; they are named at once, as many as an error has room for."""

    def __init__(self, violations: Sequence[Violation], more: int = 0) -> None:
        """Take what is wrong.

        Args:
            more: how many further fields are wrong.
        """
        told: list[str] = []
        room = MAX_VIOLATIONS_BYTES
        for violation in violations:
            text = f"{violation.field}: {violation.description}"
            room -= len(text.encode())
            if told and room < 0:
                break
            told.append(text)
        self.violations = tuple(violations[: len(told)])
        """Those that are told: the first one in any case."""
        if rest := len(violations) - len(told) + more:
            told.append(f"and {rest} more")
        super().__init__("; ".join(told))


class InvalidPageToken(InvalidRequest):
    """A page token, or a cursor, was altered, or belongs to another owner or request."""

    def __init__(self, field: str = "page_token") -> None:
        super().__init__(
            [
                Violation(
                    field,
                    "INVALID_PAGE_TOKEN",
                    "was not issued for this request; start again without one",
                )
            ]
        )


class AgentUnknown(InvalidRequest):
    """No agent of the name asked for is configured."""

    def __init__(self) -> None:
        super().__init__(
            [
                Violation(
                    "agent",
                    "AGENT_UNKNOWN",
                    "names no configured agent; leave it empty for the default one",
                )
            ]
        )


class Unauthenticated(ParleyError):
    """No valid token. All causes share one message, to give attackers no hint."""

    def __init__(self) -> None:
        super().__init__(
            'a valid bearer token is required: send metadata "authorization: Bearer <JWT>"'
        )


@dataclass(eq=False)
class ScopeMissing(ParleyError):
    scope: str

    def __str__(self) -> str:
        return f"the token lacks the scope {self.scope}"

    def metadata(self) -> dict[str, str]:
        return {"scope": self.scope}


@dataclass(eq=False)
class ConversationNotFound(ParleyError):
    conversation_id: UUID

    def __str__(self) -> str:
        return f"there is no conversation {self.conversation_id}"

    def metadata(self) -> dict[str, str]:
        return {"conversation_id": str(self.conversation_id)}


@dataclass(eq=False)
class TurnNotFound(ParleyError):
    """No such turn; asked for by its id or by its request id."""

    turn_id: UUID | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        if self.turn_id is not None:
            return f"there is no turn {self.turn_id}"
        return f"there is no turn with the request id {self.request_id}"

    def metadata(self) -> dict[str, str]:
        if self.turn_id is not None:
            return {"turn_id": str(self.turn_id)}
        return {"request_id": self.request_id or ""}


@dataclass(eq=False)
class RequestIdReused(ParleyError):
    request_id: str

    def __str__(self) -> str:
        return (
            f"the request id {self.request_id} belongs to a call with other arguments: "
            "use a new one for a new call"
        )

    def metadata(self) -> dict[str, str]:
        return {"request_id": self.request_id}


@dataclass(eq=False)
class ResultAlreadyGiven(ParleyError):
    """The call was given something else before. Nothing of the request was stored."""

    call_key: str

    def __str__(self) -> str:
        return f"call {self.call_key} was given another result before, which cannot be changed"

    def metadata(self) -> dict[str, str]:
        return {"call_key": self.call_key}


@dataclass(eq=False)
class ConversationExists(ParleyError):
    """The owner has, or has lately deleted, a conversation of this id."""

    conversation_id: UUID

    def __str__(self) -> str:
        return (
            f"the id {self.conversation_id} is taken, by a conversation that exists or was deleted "
            "lately: use another id, or change the one that exists with UpdateConversation"
        )

    def metadata(self) -> dict[str, str]:
        return {"conversation_id": str(self.conversation_id)}


@dataclass(eq=False)
class TurnInProgress(ParleyError):
    conversation_id: UUID
    turn_id: UUID
    start_time: datetime
    lease_end_time: datetime | None
    """None: the turn waits for its caller, and holds no lease."""
    queue_length: int = 0
    """How many started turns the conversation has, the open one included."""
    limit: ParleyError | None = None
    """Which limit the owner has reached as well; None: none that was looked at."""

    def __str__(self) -> str:
        if self.lease_end_time is None:
            return (
                f"turn {self.turn_id} of conversation {self.conversation_id} waits for its caller: "
                "give it what it waits for with ResumeTurn, or set on_busy to ON_BUSY_REPLACE"
            )
        return (
            f"turn {self.turn_id} of conversation {self.conversation_id} is open: "
            "call again later, or set on_busy to ON_BUSY_WAIT"
        )

    def metadata(self) -> dict[str, str]:
        known = {
            "conversation_id": str(self.conversation_id),
            "turn_id": str(self.turn_id),
            "start_time": self.start_time.isoformat(),
        }
        if self.lease_end_time is not None:
            known["lease_end_time"] = self.lease_end_time.isoformat()
        return known


@dataclass(eq=False)
class SequenceMismatch(ParleyError):
    last_sequence: int

    def __str__(self) -> str:
        return f"the conversation's last sequence is {self.last_sequence}, not the expected one"

    def metadata(self) -> dict[str, str]:
        return {"last_sequence": str(self.last_sequence)}


@dataclass(eq=False)
class RevisionMismatch(ParleyError):
    revision: int

    def __str__(self) -> str:
        return f"the conversation's revision is {self.revision}, not the expected one"

    def metadata(self) -> dict[str, str]:
        return {"revision": str(self.revision)}


class LeaseLost(ParleyError):
    """The turn was taken over while this worker ran it. Nothing was written by this worker."""

    def __init__(self) -> None:
        super().__init__("the turn was taken over by another worker: call again to get its answer")


@dataclass(eq=False)
class TurnSuperseded(ParleyError):
    turn_id: UUID

    def __str__(self) -> str:
        return (
            f"turn {self.turn_id} failed and the conversation has a newer turn: "
            "send the message with a new request id if it is still wanted"
        )

    def metadata(self) -> dict[str, str]:
        return {"turn_id": str(self.turn_id)}


class TurnNeverBegan(TurnSuperseded):
    """The turn was cancelled while it was queued. It has no answer, and is not run any more."""

    def __str__(self) -> str:
        return (
            f"turn {self.turn_id} was cancelled before it began: "
            "send the message with a new request id if it is still wanted"
        )


@dataclass(eq=False)
class AttemptsExhausted(ParleyError):
    """The turn has failed as many times in a row as is allowed. It is not run again."""

    turn_id: UUID
    attempts: int

    def __str__(self) -> str:
        return (
            f"turn {self.turn_id} failed {self.attempts} times in a row and is not run again: "
            "send the message with a new request id if it is still wanted"
        )

    def metadata(self) -> dict[str, str]:
        return {"turn_id": str(self.turn_id), "attempts": str(self.attempts)}


@dataclass(eq=False)
class SequenceNotReached(ParleyError):
    min_sequence: int
    last_sequence: int
    field: str = "min_sequence"
    """What the request calls it."""

    def __str__(self) -> str:
        return (
            f"{self.field} {self.min_sequence} is above the conversation's last sequence "
            f"{self.last_sequence}"
        )

    def metadata(self) -> dict[str, str]:
        return {"min_sequence": str(self.min_sequence), "last_sequence": str(self.last_sequence)}


@dataclass(eq=False)
class NotATurnBoundary(ParleyError):
    up_to_sequence: int
    previous_boundary: int
    """0: there is none."""

    def __str__(self) -> str:
        before = f"up to {self.previous_boundary}, or " if self.previous_boundary else ""
        return (
            f"message {self.up_to_sequence} is in the midst of a turn, or its turn is open: "
            f"fork {before}without up_to_sequence"
        )

    def metadata(self) -> dict[str, str]:
        return {
            "up_to_sequence": str(self.up_to_sequence),
            "previous_boundary": str(self.previous_boundary),
        }


@dataclass(eq=False)
class CallNotPending(ParleyError):
    """The turn does not wait for this call. Nothing of the request was stored."""

    call_key: str

    def __str__(self) -> str:
        return (
            f"the turn does not wait for call {self.call_key}: read its pending_calls with GetTurn"
        )

    def metadata(self) -> dict[str, str]:
        return {"call_key": self.call_key}


class Incomplete(Enum):
    """Why a turn's window cannot be put together for a rehearsal. The values are metadata."""

    NOT_BEGUN = "NOT_BEGUN"
    MISSING = "MISSING"
    """Some of what the turn was shown is gone."""
    TOO_SMALL = "TOO_SMALL"
    """The agent's window does not hold what the turn was shown."""


@dataclass(eq=False)
class WindowIncomplete(ParleyError):
    """What a turn was shown cannot be put together for a rehearsal. No agent was asked."""

    turn_id: UUID
    cause: Incomplete

    def __str__(self) -> str:
        return f"turn {self.turn_id} {_INCOMPLETE[self.cause]}"

    def metadata(self) -> dict[str, str]:
        return {"turn_id": str(self.turn_id), "cause": self.cause.value}


_INCOMPLETE = {
    Incomplete.NOT_BEGUN: "has not begun, so nothing was shown: rehearse it once it has",
    Incomplete.MISSING: ("was shown messages that are not there any more: rehearse another turn"),
    Incomplete.TOO_SMALL: (
        "was shown more than this agent's window holds: name an agent with a larger window"
    ),
}


@dataclass(eq=False)
class NoRehearsal(ParleyError):
    """The agent might act in a rehearsal, so it is not asked."""

    agent: str

    def __str__(self) -> str:
        return (
            f"agent '{self.agent}' cannot rehearse, because it may act by itself: name another "
            "agent, or have the server's operator set rehearsal = true for it in the agents file"
        )

    def metadata(self) -> dict[str, str]:
        return {"agent": self.agent}


class AgentError(ParleyError):
    """A run of the agent failed. Raised by agents; ends the attempt as FAILED."""


class AgentRefused(AgentError):
    """The provider refused the request as it is: a retry alone does not help."""

    def __init__(self) -> None:
        super().__init__("the agent's provider refused the request")


class AgentTimeout(AgentError):
    """The agent did not finish in time."""

    def __init__(self) -> None:
        super().__init__("the agent did not finish in time")


class AgentUnavailable(AgentError):
    """The agent or its provider is down, limited, or returned an invalid response.

    Args:
        retry_after_s: how long the provider asks to wait, in seconds; None: it did not say.
    """

    def __init__(self, retry_after_s: float | None = None) -> None:
        super().__init__("the agent is unavailable: call again later")
        self.retry_after_s = retry_after_s


class DeadlineTooShort(ParleyError):
    def __init__(self) -> None:
        super().__init__("less than a second is left until the deadline: call with a longer one")


class CallerLost(ParleyError):
    """The caller disconnected, or its deadline passed. No caller is left to tell."""

    def __init__(self) -> None:
        super().__init__("the deadline passed before the answer was complete")


class Overloaded(ParleyError):
    """The worker has reached one of its limits.

    Args:
        is_owner_only: this owner has used its share; other owners still have room.
    """

    def __init__(self, *, is_owner_only: bool = False) -> None:
        whose = " for one owner" if is_owner_only else ""
        super().__init__(f"this worker has reached its limit{whose}: call again later")


@dataclass(eq=False)
class TurnLimitReached(ParleyError):
    """The owner has reached its limit of new turns per minute. Nothing was stored."""

    max_turns_per_minute: int
    retry_after_s: float

    def __str__(self) -> str:
        return (
            f"at most {self.max_turns_per_minute} turns may start within a minute: "
            f"call again in {self.retry_after_s:.1f} s"
        )

    def metadata(self) -> dict[str, str]:
        return {
            "max_turns_per_minute": str(self.max_turns_per_minute),
            "retry_after_s": f"{self.retry_after_s:.1f}",
        }


@dataclass(eq=False)
class BudgetExhausted(ParleyError):
    """The owner's turns have used as many tokens today as they may. Nothing was stored."""

    max_tokens_per_day: int
    used_tokens: int
    retry_after_s: float
    """Until midnight UTC, by the database's clock."""
    agent: str = ""
    """The name of the agent whose budget it is; empty: the owner's own, for all agents together."""

    def __str__(self) -> str:
        of, instead = "", ""
        if self.agent:
            of, instead = f" of the agent {self.agent}", ", or name another agent"
        return (
            f"{self.used_tokens} of {self.max_tokens_per_day} tokens a day{of} are used: call "
            f"again after midnight UTC, in {self.retry_after_s:.0f} s{instead}"
        )

    def metadata(self) -> dict[str, str]:
        return {
            **({"agent": self.agent} if self.agent else {}),
            "max_tokens_per_day": str(self.max_tokens_per_day),
            "used_tokens": str(self.used_tokens),
            "retry_after_s": f"{self.retry_after_s:.1f}",
        }


@dataclass(eq=False)
class QueueFull(ParleyError):
    """The owner has as many started turns that have not ended as it may. Nothing was stored."""

    max_queued_turns: int

    def __str__(self) -> str:
        return (
            f"at most {self.max_queued_turns} started turns may wait: call again when some have "
            "been run"
        )

    def metadata(self) -> dict[str, str]:
        return {"max_queued_turns": str(self.max_queued_turns)}


class StoreUnavailable(ParleyError):
    """The database cannot be reached or did not answer in time. The statement changed nothing."""

    def __init__(self) -> None:
        super().__init__("the database is unavailable: call again with the same request id")


class StoreOutcomeUnknown(StoreUnavailable):
    """The connection broke during a statement, which may or may not have been carried out."""


class KeysUnavailable(ParleyError):
    def __init__(self) -> None:
        super().__init__("the keys for checking tokens are unavailable: call again later")


class WatchExpired(ParleyError):
    def __init__(
        self,
        text: str = "the watch has reached its time limit: watch again from the last sequence "
        "delivered",
    ) -> None:
        super().__init__(text)


class FeedExpired(WatchExpired):
    def __init__(self) -> None:
        super().__init__(
            "the watch has reached its time limit: watch again from the last cursor received"
        )


class ExportExpired(WatchExpired):
    def __init__(self) -> None:
        super().__init__(
            "the export has reached its time limit: continue with the last cursor received"
        )


@dataclass(eq=False)
class CursorExpired(ParleyError):
    """Turns behind a cursor of the feed may have been removed."""

    oldest_time: datetime

    def __str__(self) -> str:
        return (
            "after_cursor is older than what is kept, so turns may be missing behind it: read what "
            "you need with ListConversations and GetHistory, then watch without after_cursor"
        )

    def metadata(self) -> dict[str, str]:
        return {"oldest_time": self.oldest_time.isoformat()}


class WorkerDrained(ParleyError):
    def __init__(self) -> None:
        super().__init__("the worker is shutting down: call again with the same request id")


class InternalError(ParleyError):
    """A run of a turn met a defect of Parley's.

    Args:
        error, place: type and place of what was raised, for the log; empty: another call's run.
    """

    def __init__(self, error: str = "", place: str = "") -> None:
        super().__init__("internal error: the server's log has the details under the turn's id")
        self.error = error
        self.place = place
