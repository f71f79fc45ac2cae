"""The checker of the experiments: right histories pass, and each kind of wrong one is found."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.torture.checker import Stored, StoredMessage, StoredTurn, check
from support.torture.operations import (
    WORKER_KILLED,
    Kind,
    Log,
    Operation,
    Outcome,
    Said,
    Takeover,
)

CONVERSATIONS = ("c1", "c2")
WRITES = (Kind.CHAT, Kind.STREAM, Kind.START)

History = tuple[list[Operation], Stored]
Outcomes = list[tuple[str, Kind, str]]


def a_history(steps: Outcomes) -> History:
    """Return what callers were told and what is stored, after these calls one after the other.

    Args:
        steps: of each call where it went, what it was, and what became of it: "ok", "refused",
            "unknown" and stored, "lost" and not stored, "failed" and stored without an answer,
            "repeated" after an unknown outcome.
    """
    operations: list[Operation] = []
    messages: list[StoredMessage] = []
    turns: list[StoredTurn] = []
    for number, (where, kind, what) in enumerate(steps):
        start = float(3 * number)
        said = [each for each in messages if each.conversation_id == where]
        told = Operation(kind, where, f"r{number}", f"m{number}", start, start + 1, Outcome.OK)
        if kind == Kind.READ:
            seen = tuple(Said(each.sequence, each.role, each.content) for each in said)
            operations.append(replace(told, seen=seen))
            continue
        if what == "refused":
            refused = replace(told, outcome=Outcome.REFUSED, reason="TURN_IN_PROGRESS")
            operations.append(refused)
            continue
        at, turn_id = len(said) + 1, f"t{number}"
        in_doubt = replace(told, outcome=Outcome.UNKNOWN, reason="UNAVAILABLE")
        answer = replace(
            told,
            turn_id=turn_id,
            user_sequence=at,
            response_sequence=at + 1,
            response=told.message,
            expected_sequence=at - 1 if number % 3 == 0 else None,
        )
        if what == "repeated":
            operations += [in_doubt, replace(answer, start=start + 1.5, end=start + 2)]
        else:
            operations.append(answer if what == "ok" else in_doubt)
        if what == "lost":
            continue
        is_failed = what == "failed"
        messages.append(StoredMessage(where, at, "USER", told.message, turn_id))
        if not is_failed:
            messages.append(StoredMessage(where, at + 1, "ASSISTANT", told.message, turn_id))
        state, response = ("FAILED", None) if is_failed else ("COMPLETED", at + 1)
        turns.append(StoredTurn(turn_id, where, told.request_id, state, at, response))
    return operations, Stored(messages, turns)


outcomes = st.sampled_from(["ok", "ok", "ok", "refused", "unknown", "lost", "failed", "repeated"])
steps = st.lists(
    st.tuples(st.sampled_from(CONVERSATIONS), st.sampled_from(list(Kind)), outcomes), max_size=15
)
BOTH_AND_A_READ: Outcomes = [
    ("c1", Kind.CHAT, "ok"),
    ("c1", Kind.CHAT, "ok"),
    ("c1", Kind.READ, "ok"),
]


@given(steps)
def test_checker_finds_nothing_wrong_with_a_right_history(made: Outcomes) -> None:
    assert [] == check(*a_history(made))


def without_messages(history: History, *gone: int) -> History:
    operations, stored = history
    messages = [each for at, each in enumerate(stored.messages) if at not in gone]
    return operations, Stored(messages, stored.turns)


def with_stored(history: History, at: int, **changes: Any) -> History:
    operations, stored = history
    messages = list(stored.messages)
    messages[at] = replace(messages[at], **changes)
    return operations, Stored(messages, stored.turns)


def with_turn(history: History, at: int, **changes: Any) -> History:
    operations, stored = history
    turns = list(stored.turns)
    turns[at] = replace(turns[at], **changes)
    return operations, Stored(stored.messages, turns)


def with_told(history: History, at: int, **changes: Any) -> History:
    operations = list(history[0])
    operations[at] = replace(operations[at], **changes)
    return operations, history[1]


def said_twice(history: History, at: int) -> History:
    """Add a second turn with the same message behind all."""
    operations, stored = history
    first = stored.turns[at]
    last = max(each.sequence for each in stored.messages)
    message = next(
        each for each in stored.messages if each.turn_id == first.turn_id and each.role == "USER"
    )
    where = first.conversation_id
    more = [
        StoredMessage(where, last + 1, "USER", message.content, "again"),
        StoredMessage(where, last + 2, "ASSISTANT", message.content, "again"),
    ]
    turn = StoredTurn("again", where, "another", "COMPLETED", last + 1, last + 2)
    return operations, Stored([*stored.messages, *more], [*stored.turns, turn])


def swapped(history: History) -> History:
    """Let the first two turns be stored, and told of, the other way round."""
    operations, stored = history
    at = {1: 3, 2: 4, 3: 1, 4: 2}
    messages = [replace(each, sequence=at[each.sequence]) for each in stored.messages]
    turns = [
        replace(
            each,
            user_sequence=at[each.user_sequence],
            response_sequence=at[each.response_sequence or 0],
        )
        for each in stored.turns
    ]
    told = [
        replace(
            each,
            user_sequence=at[each.user_sequence],
            response_sequence=at[each.response_sequence],
            expected_sequence=None,
        )
        for each in operations
        if each.kind != Kind.READ
    ]
    return told, Stored(messages, turns)


WRONG: dict[str, tuple[str, Callable[[History], History]]] = {
    "answer gone": ("lost", lambda h: without_messages(h, 3)),
    "message gone": ("gap", lambda h: without_messages(h, 0)),
    "turn not stored": ("lost", lambda h: (h[0], Stored(h[1].messages, h[1].turns[1:]))),
    "turn not completed": ("lost", lambda h: with_turn(h, 1, state="RUNNING")),
    "other text stored": ("wrong", lambda h: with_stored(h, 1, content="other")),
    "other turn's message": ("wrong", lambda h: with_stored(h, 2, turn_id="t9")),
    "other answer told": ("wrong", lambda h: with_told(h, 0, response="other")),
    "other sequences told": ("wrong", lambda h: with_told(h, 1, user_sequence=1)),
    "another's turn told": ("wrong", lambda h: with_told(h, 0, turn_id="t1")),
    "sequence not as expected": ("wrong", lambda h: with_told(h, 1, expected_sequence=0)),
    "said twice": ("doubled", lambda h: said_twice(h, 0)),
    "answered twice": ("doubled", lambda h: with_stored(h, 3, turn_id="t0")),
    "two turns of a request": ("doubled", lambda h: with_turn(h, 1, request_id="r0")),
    "refused and stored": (
        "refused",
        lambda h: with_told(h, 1, outcome=Outcome.REFUSED, reason="SEQUENCE_MISMATCH"),
    ),
    "not one at a time": ("overlap", lambda h: with_turn(h, 0, response_sequence=4)),
    "order": ("order", swapped),
    "read too little": ("read", lambda h: with_told(h, 2, seen=h[0][2].seen[:2])),
    "read a gap": ("read", lambda h: with_told(h, 2, seen=h[0][2].seen[1:])),
    "read what is not stored": (
        "read",
        lambda h: with_told(h, 2, seen=(*h[0][2].seen, Said(5, "USER", "never said"))),
    ),
}


@pytest.mark.parametrize("how", WRONG)
@given(behind=steps)
@settings(max_examples=10)  # of each kind
def test_checker_finds_each_kind_of_wrong_history(how: str, behind: Outcomes) -> None:
    """Whatever else has happened, in a conversation of its own."""
    expected, spoil = WRONG[how]
    more = [("c2", kind, what) for _, kind, what in behind]
    operations, stored = spoil(a_history(BOTH_AND_A_READ))
    others, stored_too = a_history([*BOTH_AND_A_READ, *more])
    others = [each for each in others if each.conversation_id == "c2"]
    whole = Stored(
        [*stored.messages, *(m for m in stored_too.messages if m.conversation_id == "c2")],
        [*stored.turns, *(t for t in stored_too.turns if t.conversation_id == "c2")],
    )

    problems = check([*operations, *others], whole)

    assert any(each.startswith(expected) for each in problems), problems


def test_checker_lets_turns_at_the_same_time_stand_in_either_order() -> None:
    operations, stored = swapped(a_history(BOTH_AND_A_READ))
    at_once = [replace(each, start=0.0, end=9.0) for each in operations]

    assert [] == check(at_once, stored)


def an_operation(request_id: str, start: float, end: float, outcome: Outcome) -> Operation:
    return Operation(Kind.CHAT, "c1", request_id, request_id, start, end, outcome)


def test_takeover_counts_from_the_last_kill_that_met_the_request() -> None:
    log = Log(
        events=[(1.0, WORKER_KILLED), (3.0, WORKER_KILLED)],
        operations=[
            an_operation("r1", 0, 1.1, Outcome.UNKNOWN),
            an_operation("r1", 1.2, 3.1, Outcome.UNKNOWN),
            an_operation("r1", 3.2, 5.1, Outcome.OK),
        ],
    )
    assert [Takeover(3.1, pytest.approx(2.0), "c1")] == log.takeovers()


def test_request_that_stands_in_line_waits_for_no_takeover() -> None:
    """Another is answered meanwhile; a replay of what was answered before moves nothing."""
    log = Log(
        events=[(1.0, WORKER_KILLED)],
        operations=[
            an_operation("r0", 0, 0.5, Outcome.OK),
            an_operation("r1", 0, 1.1, Outcome.UNKNOWN),
            an_operation("r2", 0, 4.0, Outcome.OK),
            an_operation("r0", 4, 4.5, Outcome.OK),
            an_operation("r1", 1.2, 5.0, Outcome.OK),
        ],
    )
    assert [Takeover(4.0, pytest.approx(1.0), "c1")] == log.takeovers()
