"""What callers did, and what they were told: the log that the checker reads."""

import time
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What was called."""

    CHAT = "Chat"
    STREAM = "StreamChat"
    START = "StartTurn"
    READ = "GetHistory"


class Outcome(StrEnum):
    """What the caller knows."""

    OK = "ok"
    REFUSED = "refused"
    """Nothing was stored by this call."""
    UNKNOWN = "unknown"
    """It may have been stored, or not, or be stored later."""


NOTHING_STORED = frozenset(
    {
        "BUDGET_EXHAUSTED",
        "CONVERSATION_NOT_FOUND",
        "DEADLINE_TOO_SHORT",
        "INVALID_REQUEST",
        "QUEUE_FULL",
        "SEQUENCE_MISMATCH",
        "TURN_IN_PROGRESS",
        "TURN_LIMIT_REACHED",
        "UNAUTHENTICATED",
    }
)
"""Reasons that promise that nothing was stored. With all others the outcome is unknown."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message that a caller read."""

    sequence: int
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. A call that is repeated is several, with the same request id."""

    kind: Kind
    conversation_id: str
    request_id: str
    message: str
    start: float
    end: float
    """By the callers' one monotonic clock, in seconds."""
    outcome: Outcome
    reason: str = ""
    """Why it was not OK: the error's reason, else gRPC's code."""
    turn_id: str = ""
    user_sequence: int = 0
    response_sequence: int = 0
    response: str = ""
    expected_sequence: int | None = None
    seen: tuple[Said, ...] = ()
    """What a read has seen: the whole conversation."""


WORKER_KILLED = "worker killed"
"""What is noted where a worker was killed."""
AT_ONCE_S = 0.3
"""Within this time of a kill, calls end that the worker had."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """A time for which a conversation stood still, because a turn was in doubt."""

    since: float
    took_s: float
    conversation_id: str


@dataclass
class Log:
    """All operations of all callers, and what was done to the service meanwhile."""

    began: float = field(default_factory=time.monotonic)
    operations: list[Operation] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    """When something was done, and what."""

    def note(self, what: str) -> None:
        """Take note of something that is done to the service."""
        self.events.append((time.monotonic(), what))

    def answered(self) -> int:
        """Return how many calls have ended with OK."""
        return sum(each.outcome == Outcome.OK for each in self.operations)

    def takeovers(self) -> list[Takeover]:
        """Return how long conversations stood still for requests that were in doubt.

        Returns: one for each request id that was answered in the end after a call for it had ended
            without an answer. It counts from the first such call, or from the last one whose worker
            was killed, since each worker has a lease of its own; or from when another request of
            the conversation was answered: then this one stood in line, and no turn was stuck.
        """
        kills = [at for at, what in self.events if what == WORKER_KILLED]
        doubtful: dict[str, float] = {}
        answered: set[str] = set()
        moved: dict[str, float] = {}
        found = []
        for each in sorted(self.operations, key=lambda operation: operation.end):
            if each.kind == Kind.READ:
                continue
            if each.outcome == Outcome.UNKNOWN:
                doubtful.setdefault(each.request_id, each.end)
                if any(abs(each.end - at) < AT_ONCE_S for at in kills):
                    doubtful[each.request_id] = each.end
            elif each.outcome == Outcome.OK:
                if each.request_id in doubtful:
                    since = doubtful.pop(each.request_id)
                    since = max(since, moved.get(each.conversation_id, since))
                    found.append(Takeover(since, each.end - since, each.conversation_id))
                if each.kind != Kind.START and each.request_id not in answered:
                    moved[each.conversation_id] = each.end  # not so by an acceptance, or a replay
                    answered.add(each.request_id)
        return found

    def story(self, of: Takeover) -> list[str]:
        """Return what was done to a takeover's conversation meanwhile, and what came of it."""
        until = of.since + of.took_s
        lines = [(at, what) for at, what in self.events if of.since - 5 < at <= until]
        for each in self.operations:
            if each.conversation_id == of.conversation_id and each.start <= until:
                came = f"{each.outcome} {each.reason}".rstrip()
                asked = f"{each.kind} {each.request_id[:8]} of {each.start - self.began:.2f}"
                lines.append((each.end, f"{asked}: {came}"))
        return [f"{at - self.began:.2f} {what}" for at, what in sorted(lines) if of.since - 5 < at]
