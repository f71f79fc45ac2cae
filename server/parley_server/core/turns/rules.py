"""What comes next for a call whose turn is there already: the design's tables, as functions.

| the turn is | and | then |
|---|---|---|
| of another message | | RequestIdReused |
| COMPLETED, CANCELLED, WAITING | | REPLAY |
| CANCELLED | never began | TurnNeverBegan |
| QUEUED, RUNNING | | WAIT |
| FAILED | never began | SequenceMismatch |
| FAILED | newest, to be stopped | END_CANCELLED |
| FAILED | the call has waited for it, and the failure is the turn's own | that failure |
| FAILED | not newest | TurnSuperseded |
| FAILED | has had all its attempts | AttemptsExhausted |
| FAILED | its last worker went away | RETAKE_ALONE |
| FAILED | otherwise | RETAKE |
"""

from enum import Enum, auto

from parley_server.core.errors import (
    AttemptsExhausted,
    RequestIdReused,
    SequenceMismatch,
    TurnNeverBegan,
    TurnSuperseded,
)
from parley_server.core.failures import error_for
from parley_server.core.model import FailureReason, Turn, TurnState


class Step(Enum):
    """What a call does next."""

    REPLAY = auto()
    """Give the turn's answer again, or what it waits for."""
    WAIT = auto()
    """Wait for the attempt that runs, or for the turn to begin, and look again."""
    END_CANCELLED = auto()
    """Close the turn with what was said: CancelTurn was recorded, and no worker runs it."""
    RETAKE = auto()
    """Take the turn for a new attempt."""
    RETAKE_ALONE = auto()
    """The same, once this worker's place for turns that may end a worker is free."""


def next_step(turn: Turn, fingerprint: bytes, *, has_waited: bool) -> Step:
    """Decide what a call of Chat or StreamChat does next.

    Args:
        turn: the one that has the call's request id.
        fingerprint: of what the call asks for.
        has_waited: whether the call has waited for an attempt to end.
    Raises: RequestIdReused, TurnSuperseded, TurnNeverBegan, SequenceMismatch, AttemptsExhausted,
        and the failure of an attempt that the call has waited for.
    """
    if turn.fingerprint != fingerprint:
        raise RequestIdReused(turn.request_id or "")
    match turn.state:
        case TurnState.CANCELLED if not turn.has_begun:
            raise TurnNeverBegan(turn.id)
        case TurnState.COMPLETED | TurnState.CANCELLED | TurnState.WAITING:
            return Step.REPLAY
        case TurnState.RUNNING | TurnState.QUEUED:
            return Step.WAIT
    if not turn.has_begun:
        raise SequenceMismatch(turn.last_sequence)
    if turn.is_newest and turn.is_cancel_requested:
        return Step.END_CANCELLED
    if has_waited and (error := error_for(turn.error_reason)):
        raise error
    if not turn.is_newest:
        raise TurnSuperseded(turn.id)
    if turn.error_reason is FailureReason.ATTEMPTS_EXHAUSTED:
        raise AttemptsExhausted(turn.id, turn.spent_attempts)
    return Step.RETAKE_ALONE if turn.abandoned_attempts else Step.RETAKE


def is_to_queue(turn: Turn, fingerprint: bytes) -> bool:
    """Decide whether StartTurn queues a turn that is there already for another attempt.

    Args: as `next_step`.
    Returns: False: it is returned as it stands, or is to be closed first.
    Raises: RequestIdReused, TurnSuperseded, SequenceMismatch, AttemptsExhausted.
    """
    if turn.state is TurnState.CANCELLED and turn.fingerprint == fingerprint:
        return False
    step = next_step(turn, fingerprint, has_waited=False)
    return step in (Step.RETAKE, Step.RETAKE_ALONE)


class CancelStep(Enum):
    """What a call of CancelTurn does next."""

    DONE = auto()
    """Return the turn as it stands."""
    WAIT = auto()
    """Wait for the worker that runs it."""
    UNQUEUE = auto()
    """Take the turn, which has not begun, out of its queue."""
    END_CANCELLED = auto()
    """Close the turn with what was said: no worker runs it, or it waits for its caller."""


def next_cancel_step(turn: Turn) -> CancelStep:
    """Decide what CancelTurn does next, once the cancel of a running turn is recorded."""
    if turn.state is TurnState.RUNNING:
        return CancelStep.WAIT
    if turn.state is TurnState.WAITING:
        return CancelStep.END_CANCELLED
    if turn.state is TurnState.QUEUED:
        return CancelStep.END_CANCELLED if turn.has_begun else CancelStep.UNQUEUE
    is_abandoned = turn.error_reason is FailureReason.TURN_ABANDONED
    is_to_stop = turn.state is TurnState.FAILED and turn.is_cancel_requested
    if turn.is_newest and (is_abandoned or is_to_stop):
        return CancelStep.END_CANCELLED
    return CancelStep.DONE
