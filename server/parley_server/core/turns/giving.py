"""What comes of giving a turn what it waits for: the table of decision 0031, as functions.

| a call of the request | then |
|---|---|
| was given the same before | nothing is stored for it |
| was given something else before | ResultAlreadyGiven |
| is not one that the turn waits for, or is being ended | CallNotPending |
| gets what its kind does not take | InvalidRequest |

| the turn | and | then |
|---|---|---|
| WAITING | all was given before | REPLAY: it waits for the rest |
| WAITING | calls are left without a result | GIVE |
| WAITING | none is left | RESUME |
| otherwise | | as `rules.next_step` says for its own request id |
"""

from collections.abc import Iterable
from enum import Enum, auto

from parley_server.core.attempts.given import digest
from parley_server.core.errors import (
    CallNotPending,
    InvalidRequest,
    ResultAlreadyGiven,
    Violation,
)
from parley_server.core.model import (
    Given,
    GivenCall,
    GivenKind,
    PendingCall,
    PendingKind,
    Turn,
    TurnState,
    Wait,
)
from parley_server.core.turns.rules import Step, next_step

_TAKEN = {
    PendingKind.RESULT: (GivenKind.RESULT, GivenKind.ERROR),
    PendingKind.APPROVAL: (GivenKind.APPROVAL, GivenKind.DENIAL),
}


class GiveStep(Enum):
    """What a call of ResumeTurn does next, beside what any call may do."""

    GIVE = auto()
    """Store what is new: the turn waits for more."""
    RESUME = auto()
    """Store what is new, and run the turn on."""


def new_ones(
    turn: Turn, wait: Wait | None, calls: Iterable[GivenCall], field: str
) -> tuple[Given, ...]:
    """Return what was not given before, in order.

    Args:
        wait: what the turn waits for, or has waited for; None: it never did.
        field: what the request calls `calls`.
    Raises: InvalidRequest, ResultAlreadyGiven, CallNotPending.
    """
    calls = list(calls)
    digests = {} if wait is None else wait.digests
    pending = {} if wait is None else {call.call_key: call for call in wait.calls}
    wrong = [
        violation
        for number, call in enumerate(calls)
        if (waits := pending.get(call.given.call_key)) is not None
        for violation in _wrong(
            call, waits, f"{field}[{number}]", is_new=call.given.call_key not in digests
        )
    ]
    if wrong:
        raise InvalidRequest(wrong)
    new = []
    for given, _ in calls:
        known = digests.get(given.call_key)
        if known is None:
            new.append(given)
        elif known != digest(given):
            raise ResultAlreadyGiven(given.call_key)
    for given in new:
        if given.call_key not in pending or turn.is_cancel_requested:
            raise CallNotPending(given.call_key)
    return tuple(new)


def _wrong(call: GivenCall, waits: PendingCall, path: str, *, is_new: bool) -> list[Violation]:
    """Return what is wrong with what a call is given that the turn waits for."""
    outcome = call.given.kind.value.lower()
    if is_new and call.given.kind not in _TAKEN[waits.kind]:
        takes = "a result or an error"
        if waits.kind is PendingKind.APPROVAL:
            takes = "an approval or a denial"
        return [Violation(f"{path}.{outcome}", "WRONG_OUTCOME", f"the call waits for {takes}")]
    if call.approved_arguments not in (None, waits.arguments):
        text = "are not the arguments that the call waits with: approve what pending_calls says"
        return [Violation(f"{path}.approval.arguments", "OTHER_ARGUMENTS", text)]
    return []


def next_resume_step(
    turn: Turn, wait: Wait | None, new: Iterable[Given], *, has_waited: bool
) -> Step | GiveStep:
    """Decide what a call of ResumeTurn or StreamResumeTurn does next.

    Args:
        new: what `new_ones` returned.
        has_waited: whether the call has waited for an attempt to end.
    Raises: as `next_step`.
    """
    if turn.state is not TurnState.WAITING or wait is None:
        return next_step(turn, turn.fingerprint, has_waited=has_waited)
    keys = {given.call_key for given in new}
    if not keys:
        return Step.REPLAY
    is_left = any(call.call_key not in keys for call in wait.pending)
    return GiveStep.GIVE if is_left else GiveStep.RESUME
