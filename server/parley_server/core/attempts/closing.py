"""What calls get as their result whose turn ends while it waits for them.

No call is without a result in a history: providers refuse to be shown one.
"""

from collections.abc import Iterable, Mapping, Sequence

from parley_server.core.attempts.given import read_given
from parley_server.core.model import (
    Given,
    GivenKind,
    PendingCall,
    Step,
    StepKind,
    ToolCall,
    WaitEnd,
)

SENTENCES = {
    WaitEnd.CANCELLED: "The turn was cancelled before this call had a result.",
    WaitEnd.EXPIRED: "The turn waited too long for a result of this call and was cancelled.",
    WaitEnd.REPLACED: (
        "The turn was cancelled before this call had a result, because another message took its "
        "place."
    ),
}
DENIED = "The tool call was denied."
"""The result of a call whose denial has no reason."""
LONGEST_SENTENCE_BYTES = max(len(text) for text in (*SENTENCES.values(), DENIED))


def closed(
    calls: Iterable[PendingCall],
    why: WaitEnd,
    given: Mapping[str, Given] | None = None,
    told: Iterable[ToolCall] = (),
) -> list[ToolCall]:
    """Return calls that waited, each with a result.

    Args:
        why: what ended the wait.
        given: what callers gave, by call_key. Of an approval alone nothing has come.
        told: calls whose result is known: those of the server's own tools that were approved.
    """
    results = {(call.id, call.step): call for call in told}
    return [
        results.get((call.id, call.step)) or _closed(call, why, (given or {}).get(call.call_key))
        for call in calls
    ]


def _closed(call: PendingCall, why: WaitEnd, given: Given | None) -> ToolCall:
    result, is_error = SENTENCES[why], True
    if given is not None and given.kind is not GivenKind.APPROVAL:
        is_error = given.kind is not GivenKind.RESULT
        result = given.text
        if given.kind is GivenKind.DENIAL:
            result = given.text or DENIED
    return ToolCall(call.id, call.name, call.arguments, result, is_error, call.step)


def given_in(steps: Sequence[Step]) -> dict[str, Given]:
    """Return what callers gave, by call_key."""
    found = [read_given(step.body) for step in steps if step.kind is StepKind.GIVEN]
    return {given.call_key: given for given in found}
