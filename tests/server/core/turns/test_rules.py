"""The tables of the turn machine, row by row: no database, no channel."""

from typing import Any

import pytest

from parley_server.core.errors import (
    AgentRefused,
    AgentTimeout,
    AgentUnavailable,
    AttemptsExhausted,
    InternalError,
    RequestIdReused,
    TurnSuperseded,
)
from parley_server.core.model import FailureReason, TurnState
from parley_server.core.turns.rules import CancelStep, Step, next_cancel_step, next_step
from support.values import FINGERPRINT, a_turn

FAILED = TurnState.FAILED
ABANDONED = {"state": FAILED, "error_reason": FailureReason.TURN_ABANDONED, "abandoned_attempts": 1}
EXHAUSTED = {"state": FAILED, "error_reason": FailureReason.ATTEMPTS_EXHAUSTED}
TIMED_OUT = {"state": FAILED, "error_reason": FailureReason.AGENT_TIMEOUT}
LOST = {"state": FAILED, "error_reason": FailureReason.CALLER_LOST}


@pytest.mark.parametrize("has_waited", [False, True])
@pytest.mark.parametrize(
    ("step", "turn"),
    [
        (Step.REPLAY, {"state": TurnState.COMPLETED}),
        (Step.REPLAY, {"state": TurnState.COMPLETED, "is_newest": False}),
        (Step.REPLAY, {"state": TurnState.CANCELLED}),
        (Step.REPLAY, {"state": TurnState.CANCELLED, "is_newest": False}),
        (Step.REPLAY, {"state": TurnState.WAITING}),
        (Step.WAIT, {"state": TurnState.RUNNING}),
        (Step.WAIT, {"state": TurnState.RUNNING, "is_cancel_requested": True}),
        (Step.END_CANCELLED, {**LOST, "is_cancel_requested": True}),
        (Step.END_CANCELLED, {**ABANDONED, "is_cancel_requested": True}),
        (Step.END_CANCELLED, {**TIMED_OUT, "is_cancel_requested": True}),
        (Step.END_CANCELLED, {**EXHAUSTED, "is_cancel_requested": True}),
        (Step.RETAKE, LOST),
        (Step.RETAKE, {"state": FAILED, "error_reason": FailureReason.WORKER_DRAINED}),
        (Step.RETAKE, {"state": FAILED, "error_reason": FailureReason.STORE_UNAVAILABLE}),
        (Step.RETAKE_ALONE, ABANDONED),
        (Step.RETAKE_ALONE, {**LOST, "abandoned_attempts": 2}),
    ],
)
def test_next_step_is_the_tables(step: Step, turn: dict[str, Any], has_waited: bool) -> None:
    assert step is next_step(a_turn(**turn), FINGERPRINT, has_waited=has_waited)


@pytest.mark.parametrize("turn", [{}, LOST, EXHAUSTED, {"state": TurnState.COMPLETED}])
def test_next_step_of_another_message_is_refused_whatever_its_turn_is(turn: dict[str, Any]) -> None:
    with pytest.raises(RequestIdReused):
        next_step(a_turn(**turn), b"another", has_waited=False)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (FailureReason.AGENT_REFUSED, AgentRefused),
        (FailureReason.AGENT_TIMEOUT, AgentTimeout),
        (FailureReason.AGENT_UNAVAILABLE, AgentUnavailable),
        (FailureReason.INTERNAL, InternalError),
    ],
)
@pytest.mark.parametrize("is_newest", [False, True])
def test_failure_is_told_to_calls_that_waited_and_tried_again_for_others(
    reason: FailureReason, error: type[Exception], is_newest: bool
) -> None:
    turn = a_turn(state=FAILED, error_reason=reason, is_newest=is_newest)
    with pytest.raises(error):
        next_step(turn, FINGERPRINT, has_waited=True)
    if is_newest:
        assert Step.RETAKE is next_step(turn, FINGERPRINT, has_waited=False)


@pytest.mark.parametrize("turn", [LOST, TIMED_OUT, ABANDONED, EXHAUSTED])
@pytest.mark.parametrize("is_cancel_requested", [False, True])
def test_failed_turn_behind_which_others_began_is_superseded(
    turn: dict[str, Any], is_cancel_requested: bool
) -> None:
    found = a_turn(**turn, is_newest=False, is_cancel_requested=is_cancel_requested)
    with pytest.raises(TurnSuperseded):
        next_step(found, FINGERPRINT, has_waited=False)


@pytest.mark.parametrize("has_waited", [False, True])
def test_exhausted_turn_is_refused(has_waited: bool) -> None:
    with pytest.raises(AttemptsExhausted):
        next_step(a_turn(**EXHAUSTED), FINGERPRINT, has_waited=has_waited)


@pytest.mark.parametrize(
    ("step", "turn"),
    [
        (CancelStep.WAIT, {"is_cancel_requested": True}),
        (CancelStep.DONE, {"state": TurnState.COMPLETED}),
        (CancelStep.DONE, {"state": TurnState.CANCELLED}),
        (CancelStep.DONE, TIMED_OUT),
        (CancelStep.DONE, EXHAUSTED),
        (CancelStep.DONE, {**ABANDONED, "is_newest": False}),
        (CancelStep.END_CANCELLED, {"state": TurnState.WAITING}),
        (CancelStep.END_CANCELLED, ABANDONED),
        (CancelStep.END_CANCELLED, {**TIMED_OUT, "is_cancel_requested": True}),
        (CancelStep.END_CANCELLED, {**LOST, "is_cancel_requested": True}),
    ],
)
def test_next_step_of_a_cancel_is_the_tables(step: CancelStep, turn: dict[str, Any]) -> None:
    assert step is next_cancel_step(a_turn(**turn))
