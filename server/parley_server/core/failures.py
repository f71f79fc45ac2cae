"""What ends an attempt, and how a failure is written down and told."""

import traceback
from enum import Enum, auto

from parley_server.core.errors import (
    AgentRefused,
    AgentTimeout,
    AgentUnavailable,
    CallerLost,
    ConversationNotFound,
    InternalError,
    LeaseLost,
    ParleyError,
    StoreUnavailable,
    WorkerDrained,
)
from parley_server.core.model import FailureReason, Lease

TURN_ABANDONED_TEXT = "the worker that ran the turn went away"


class Stop(Enum):
    """What ended an attempt."""

    AGENT_DONE = auto()
    """The agent ended by itself: with an answer, or by raising."""
    CALLER_LOST = auto()
    TIMEOUT = auto()
    LEASE_LOST = auto()
    CONVERSATION_GONE = auto()
    WORKER_DRAINED = auto()
    CANCELLED = auto()
    """CancelTurn was called: what was said so far is the answer."""


def raised_at(error: BaseException) -> str:
    """Return where an exception was raised: file, line and function, and nothing that was said."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    return f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}"


def error_of(why: Stop, lease: Lease) -> ParleyError:
    """Return what the caller of an attempt that was stopped is told."""
    match why:
        case Stop.CALLER_LOST:
            return CallerLost()
        case Stop.TIMEOUT:
            return AgentTimeout()
        case Stop.WORKER_DRAINED:
            return WorkerDrained()
        case Stop.CONVERSATION_GONE:
            return ConversationNotFound(lease.conversation_id)
        case _:
            return LeaseLost()


_REASONS: dict[type[ParleyError], FailureReason] = {
    AgentRefused: FailureReason.AGENT_REFUSED,
    AgentTimeout: FailureReason.AGENT_TIMEOUT,
    AgentUnavailable: FailureReason.AGENT_UNAVAILABLE,
    CallerLost: FailureReason.CALLER_LOST,
    InternalError: FailureReason.INTERNAL,
    StoreUnavailable: FailureReason.STORE_UNAVAILABLE,
    WorkerDrained: FailureReason.WORKER_DRAINED,
}


def reason_of(error: ParleyError) -> FailureReason | None:
    """Return how a failed attempt is written down; None: it is not ours to write about."""
    return next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), None)


def outcome_of(error: ParleyError) -> str:
    """Return what metrics and traces call the end of an attempt that had no answer."""
    if isinstance(error, LeaseLost):
        return "LEASE_LOST"
    reason = reason_of(error)
    return reason.value if reason else "CONVERSATION_GONE"


def error_for(reason: FailureReason | None) -> ParleyError | None:
    """Return what a call that waited for an attempt is told of its failure.

    None: the attempt failed for want of its caller or its worker, so the turn may be run again.
    """
    match reason:
        case FailureReason.AGENT_REFUSED:
            return AgentRefused()
        case FailureReason.AGENT_TIMEOUT:
            return AgentTimeout()
        case FailureReason.AGENT_UNAVAILABLE:
            return AgentUnavailable()
        case FailureReason.INTERNAL:
            return InternalError()
        case _:
            return None
