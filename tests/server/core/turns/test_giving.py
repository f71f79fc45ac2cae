"""What comes of giving a turn what it waits for, row by row: no database, no channel."""

from typing import Any

import pytest

from parley_server.core.attempts.closing import DENIED, SENTENCES, closed
from parley_server.core.attempts.given import digest
from parley_server.core.errors import (
    AttemptsExhausted,
    CallNotPending,
    InvalidRequest,
    ResultAlreadyGiven,
    TurnSuperseded,
)
from parley_server.core.model import (
    Answer,
    FailureReason,
    FinishReason,
    Given,
    GivenCall,
    GivenKind,
    PendingCall,
    PendingKind,
    ToolCall,
    Turn,
    TurnState,
    Wait,
    WaitEnd,
)
from parley_server.core.turns.giving import GiveStep, new_ones, next_resume_step
from parley_server.core.turns.rules import Step
from support.values import NOW, a_turn

ANSWER = Answer("", (), None, "", FinishReason.ACTION_REQUIRED)
RUN, ALSO = (PendingCall(key, f"id-{key}", "weather", "{}", 1, PendingKind.RESULT) for key in "ab")
APPROVE = PendingCall("c", "id-c", "pay", '{"n": 1}', 1, PendingKind.APPROVAL)


def a_given(key: str = "a", kind: GivenKind = GivenKind.RESULT, text: str = "sunny") -> GivenCall:
    return GivenCall(Given(key, kind, text))


def a_wait(*given: GivenCall) -> Wait:
    """Return the wait for three calls, some of which have been given something."""
    digests = {call.given.call_key: digest(call.given) for call in given}
    return Wait(ANSWER, (RUN, ALSO, APPROVE), NOW, digests)


def waiting(**changes: Any) -> Turn:
    return a_turn(**{"state": TurnState.WAITING, **changes})


def keys(new: tuple[Given, ...]) -> list[str]:
    return [given.call_key for given in new]


@pytest.mark.parametrize(
    ("new", "before", "calls"),
    [
        (["a"], [], [a_given("a")]),
        (["b", "a"], [], [a_given("b"), a_given("a")]),
        ([], [a_given("a")], [a_given("a")]),
        (["b"], [a_given("a")], [a_given("a"), a_given("b", GivenKind.ERROR)]),
        (["c"], [], [a_given("c", GivenKind.APPROVAL, "")]),
        (["c"], [], [GivenCall(Given("c", GivenKind.APPROVAL, ""), '{"n": 1}')]),
        (["c"], [], [a_given("c", GivenKind.DENIAL)]),
    ],
)
def test_what_was_given_before_is_left_out(
    new: list[str], before: list[GivenCall], calls: list[GivenCall]
) -> None:
    assert new == keys(new_ones(waiting(), a_wait(*before), calls, "results"))


@pytest.mark.parametrize(
    ("turn", "wait", "call"),
    [
        (waiting(), a_wait(), a_given("z")),
        (waiting(), None, a_given("a")),
        (a_turn(), a_wait(), a_given("z")),
        (a_turn(is_cancel_requested=True), a_wait(), a_given("a")),
        (a_turn(state=TurnState.CANCELLED), Wait(ANSWER, (), NOW), a_given("a")),
    ],
)
def test_call_that_does_not_wait_is_refused(turn: Turn, wait: Wait | None, call: GivenCall) -> None:
    with pytest.raises(CallNotPending) as caught:
        new_ones(turn, wait, [a_given("a"), call], "results")
    assert caught.value.call_key in ("a", "z")


@pytest.mark.parametrize(
    "other",
    [
        a_given("a", text="rainy"),
        a_given("a", GivenKind.ERROR),
        a_given("a", GivenKind.APPROVAL),
    ],
)
@pytest.mark.parametrize("state", list(TurnState))
def test_other_result_is_refused_whatever_the_turn_is(other: GivenCall, state: TurnState) -> None:
    with pytest.raises(ResultAlreadyGiven):
        new_ones(a_turn(state=state), a_wait(a_given("a")), [a_given("b"), other], "results")


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("results[1].approval", a_given("b", GivenKind.APPROVAL)),
        ("results[1].denial", a_given("b", GivenKind.DENIAL)),
        ("results[1].result", a_given("c")),
        ("results[1].error", a_given("c", GivenKind.ERROR)),
        (
            "results[1].approval.arguments",
            GivenCall(Given("c", GivenKind.APPROVAL, ""), '{"n": 2}'),
        ),
    ],
)
def test_call_that_gets_what_it_does_not_take_is_refused(field: str, call: GivenCall) -> None:
    with pytest.raises(InvalidRequest) as caught:
        new_ones(waiting(), a_wait(), [a_given("z"), call], "results")
    assert [field] == [violation.field for violation in caught.value.violations]


@pytest.mark.parametrize(
    ("step", "turn", "new"),
    [
        (GiveStep.GIVE, waiting(), "a"),
        (GiveStep.GIVE, waiting(), "ab"),
        (GiveStep.RESUME, waiting(), "abc"),
        (Step.REPLAY, waiting(), ""),
        (Step.WAIT, a_turn(), ""),
        (Step.WAIT, a_turn(state=TurnState.QUEUED), ""),
        (Step.REPLAY, a_turn(state=TurnState.COMPLETED), ""),
        (Step.REPLAY, a_turn(state=TurnState.CANCELLED), ""),
        (
            Step.RETAKE,
            a_turn(state=TurnState.FAILED, error_reason=FailureReason.AGENT_TIMEOUT),
            "",
        ),
        (
            Step.RETAKE_ALONE,
            a_turn(
                state=TurnState.FAILED,
                error_reason=FailureReason.TURN_ABANDONED,
                abandoned_attempts=1,
            ),
            "ab",
        ),
        (Step.END_CANCELLED, a_turn(state=TurnState.FAILED, is_cancel_requested=True), ""),
    ],
)
def test_next_step_of_a_resume_is_the_tables(step: Step | GiveStep, turn: Turn, new: str) -> None:
    given = [Given(key, GivenKind.RESULT, "") for key in new]
    assert step is next_resume_step(turn, a_wait(), given, has_waited=False)


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (TurnSuperseded, {"is_newest": False}),
        (AttemptsExhausted, {"error_reason": FailureReason.ATTEMPTS_EXHAUSTED}),
    ],
)
def test_turn_that_is_not_run_again_is_refused(
    error: type[Exception], changes: dict[str, Any]
) -> None:
    with pytest.raises(error):
        next_resume_step(a_turn(state=TurnState.FAILED, **changes), a_wait(), (), has_waited=False)


@pytest.mark.parametrize("why", list(WaitEnd))
def test_each_call_that_is_ended_has_a_result(why: WaitEnd) -> None:
    given = {
        "a": Given("a", GivenKind.RESULT, "sunny"),
        "b": Given("b", GivenKind.ERROR, "no"),
        "c": Given("c", GivenKind.APPROVAL, ""),
    }

    assert [(SENTENCES[why], True)] * 3 == results(closed([RUN, ALSO, APPROVE], why))
    assert [("sunny", False), ("no", True), (SENTENCES[why], True)] == results(
        closed([RUN, ALSO, APPROVE], why, given)
    )
    denied = {"c": Given("c", GivenKind.DENIAL, "")}
    assert [(DENIED, True)] == results(closed([APPROVE], why, denied))
    ran = ToolCall("id-c", "pay", '{"n": 1}', "paid", False, 1)
    assert [ran] == closed([APPROVE], why, given, [ran])


def results(calls: list[ToolCall]) -> list[tuple[str, bool]]:
    return [(call.result, call.is_error) for call in calls]
