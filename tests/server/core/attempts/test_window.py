"""The rules by which a window is put together, without a database."""

import asyncio
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parley_server.core.attempts.window import (
    CUT,
    NO_TEXT,
    Windows,
    WindowSettings,
    budget_bytes,
    omitted_of,
    presentable,
    shortened,
    window_of,
)
from parley_server.core.model import (
    FinishReason,
    OmissionReason,
    Owner,
    Role,
    ToolCall,
    Window,
    WindowMessage,
)
from parley_server.core.ports import Store
from parley_server.core.tasks import Tasks
from support.agent_runs import a_call, a_user_message, an_answer
from support.values import WindowStore, a_lease, bytes_of

OWNER = Owner.of("", "ada")
STOP, CANCELLED, FILTERED = (
    FinishReason.STOP,
    FinishReason.CANCELLED,
    FinishReason.CONTENT_FILTER,
)


def shown(*oldest_first: WindowMessage, message: str = "Now") -> list[str]:
    window = window_of(oldest_first[::-1], len(oldest_first) + 1, message, 10_000)
    return [message.content for message in window.messages]


def ended(content: str, reason: FinishReason, *calls: ToolCall) -> WindowMessage:
    return an_answer(content, *calls)._replace(finish_reason=reason)


def test_blank_answer_of_the_model_gets_words() -> None:
    """Providers refuse blank ones, and what the user said is not to be lost."""
    for blank in ("", " ", "\n\n", "\u3000"):
        assert ["I am Bob", NO_TEXT, "Now"] == shown(a_user_message("I am Bob"), ended(blank, STOP))


def test_turn_that_was_stopped_before_a_word_is_left_out_with_its_message() -> None:
    """Fails when its message is told again: "Delete all" was taken back."""
    for reason in (CANCELLED, FILTERED):
        assert ["Now"] == shown(a_user_message("Delete all"), ended("\n", reason))


def test_turn_that_was_stopped_after_a_word_or_a_call_stays() -> None:
    assert ["Delete all", "I am", "Now"] == shown(
        a_user_message("Delete all"), ended("I am", CANCELLED)
    )
    assert ["Delete all", NO_TEXT, "Now"] == shown(
        a_user_message("Delete all"), ended("", CANCELLED, a_call())
    )


def test_window_counts_what_it_leaves_out() -> None:
    earlier = [
        a_user_message("One"),
        ended("", CANCELLED),
        a_user_message("Two", 3),
        ended("2", STOP)._replace(sequence=4),
    ]

    context = window_of(earlier[::-1], 5, "Now", 10_000).context

    assert (3, 3, 2) == (context.first_sequence, context.message_count, context.omitted_count)


messages = st.lists(
    st.builds(
        WindowMessage,
        st.integers(1, 99),
        st.sampled_from(Role),
        st.text(max_size=3),
        st.lists(st.builds(a_call), max_size=1).map(tuple),
        st.sampled_from([None, STOP, CANCELLED, FILTERED]),
        has_turn=st.booleans(),
    ),
    max_size=8,
)


@given(messages)
def test_any_window_ends_with_a_user_and_holds_no_unanswered_turn(
    oldest_first: list[WindowMessage],
) -> None:
    window = window_of(oldest_first[::-1], 100, "Now", 10_000).messages

    assert Role.ASSISTANT is not window[0].role or not window[0].has_turn
    assert "Now" == window[-1].content
    for message, after in pairwise(window):
        if message.role is Role.USER and message.has_turn:
            assert Role.ASSISTANT is after.role
        if message.role is Role.ASSISTANT:
            assert message.content.strip()


@given(messages)
def test_any_window_shows_what_was_appended_by_a_user_or_the_application(
    oldest_first: list[WindowMessage],
) -> None:
    """Fails when a user's message without a turn is left out because no answer follows."""
    window = window_of(oldest_first[::-1], 100, "Now", 10_000).messages

    asked = [m for m in oldest_first if m.role is Role.USER and not m.has_turn]
    told = [m for m in oldest_first if m.role is Role.SYSTEM]
    assert asked == [m for m in window[:-1] if m.role is Role.USER and not m.has_turn]
    assert told == [m for m in window if m.role is Role.SYSTEM]


def test_answers_that_were_appended_first_are_shown_and_cut_turns_are_not() -> None:
    welcome = ended("Welcome", STOP)
    assert ["Now"] == shown(welcome)
    assert ["Welcome", "Now"] == shown(welcome._replace(has_turn=False))


def test_withdrawn_answer_takes_only_its_own_turn_away() -> None:
    """Fails when what was appended before it is left out with it."""
    appended = a_user_message("Noted")._replace(has_turn=False)
    assert ["Noted", "Now"] == shown(appended, ended("", CANCELLED))


@given(messages)
def test_counts_of_a_window_add_up(oldest_first: list[WindowMessage]) -> None:
    """Fails when what is left out of the answered ones is not counted as omitted."""
    numbered = [m._replace(sequence=n) for n, m in enumerate(oldest_first, start=1)]
    own = len(numbered) + 1
    window = window_of(numbered[::-1], own, "Now", 10_000)

    context = window.context
    assert len(window.messages) == context.message_count
    assert own == context.message_count + context.omitted_count
    assert window.messages[0].sequence == context.first_sequence


@given(messages, st.integers(0, 3))
def test_each_message_is_shown_or_has_its_reason(
    oldest_first: list[WindowMessage], gap: int
) -> None:
    """Fails when what is told as omitted is decided by other rules than what is shown.

    Those that the store leaves out, every `gap`-th one here, are unanswered.
    """
    numbered = [m._replace(sequence=n * (gap + 1)) for n, m in enumerate(oldest_first, start=1)]
    own = len(numbered) * (gap + 1) + 1
    window = window_of(numbered[::-1], own, "Now", 10_000)
    first = window.context.first_sequence

    omitted = omitted_of(numbered[::-1], first, own, looked_from=1)

    assert window.messages[:-1] == presentable(numbered[::-1], first)
    left_out = [s for run in omitted for s in range(run.first_sequence, run.last_sequence + 1)]
    shown = [m.sequence for m in window.messages]
    assert list(range(1, own + 1)) == sorted([*left_out, *shown])
    assert all(a.last_sequence < b.first_sequence for a, b in pairwise(omitted))
    reasons = [run.reason for run in omitted]
    assert OmissionReason.OLDER not in reasons[1:]


@pytest.mark.parametrize(
    ("expected", "tokens", "instructions"),
    [(4000, 1000, ""), (3990, 1000, "é" * 5), (0, 1, "longer than that"), (0, 0, "")],
)
def test_budget_is_what_the_instructions_leave(
    expected: int, tokens: int, instructions: str
) -> None:
    """Fails when instructions count as characters, or when a budget may be negative."""
    assert expected == budget_bytes(tokens, instructions)


# Reading: what is asked of the store


async def read(store: WindowStore, message: str, **limits: Any) -> Window:
    chosen = {"context_messages": 5, "context_tokens": 1000} | limits
    tasks = Tasks()
    windows = Windows(cast(Store, store), tasks)
    lease = a_lease(len(store.messages) + 1)
    found = await windows.read(OWNER, lease, message, WindowSettings(**chosen))
    await tasks.wait()
    return found


async def test_first_turn_asks_the_store_for_nothing() -> None:
    store = WindowStore()
    window = await read(store, "Now")

    assert (["Now"], []) == ([message.content for message in window.messages], store.asked)


async def test_own_message_counts_among_the_messages_and_their_bytes() -> None:
    """Fails when a window holds one message more than agents are to be shown."""
    store = WindowStore(a_user_message("One"), an_answer("1"))
    await read(store, "é", context_messages=3, context_tokens=10, instructions="Be brief")

    assert [(2, 10 * 4 - len("Be brief") - 2)] == store.asked


async def test_message_that_fills_the_window_leaves_no_room_and_no_debt() -> None:
    store = WindowStore(a_user_message("One"), an_answer("1"))
    window = await read(store, "a" * 500, context_tokens=100)

    assert (4, 0) == store.asked[0]
    assert 400 >= len(window.messages[-1].content.encode())
    assert (1, 2) == (window.context.message_count, window.context.omitted_count)


@pytest.mark.parametrize("is_answered", [True, False])
async def test_events_of_a_turn_that_was_never_answered_are_forgotten(is_answered: bool) -> None:
    """Fails when they stay for ever: nothing reads them any more."""
    earlier = [a_user_message("One"), an_answer("1")] if is_answered else []
    store = WindowStore(*earlier)
    tasks = Tasks()
    windows = Windows(cast(Store, store), tasks)
    lease = a_lease(3)
    await windows.read(OWNER, lease, "Now", WindowSettings(5, 1000))
    await tasks.wait()

    assert ([] if is_answered else [lease]) == store.forgotten


@given(messages, st.integers(1, 10), st.integers(0, 60), st.text("aé", max_size=40))
def test_window_that_is_read_keeps_to_its_limits(
    oldest_first: list[WindowMessage], context_messages: int, context_tokens: int, message: str
) -> None:
    store = WindowStore(*(m._replace(sequence=n) for n, m in enumerate(oldest_first, start=1)))
    limits = {"context_messages": context_messages, "context_tokens": context_tokens}
    window = asyncio.run(read(store, message, **limits))

    assert len(window.messages) <= context_messages
    # A blank answer's words are the only ones that the store did not count.
    words = len(NO_TEXT) * sum(m.content == NO_TEXT for m in window.messages)
    held = sum(map(bytes_of, window.messages)) - words
    assert held <= max(4 * context_tokens, LEAST)


# Shortening

LEAST = 2 * 16 + len(CUT.encode())
"""Below that a limit is not kept: something has to be shown."""

texts = st.text(st.sampled_from("a é漢𝄞\n\u0301[…]"), max_size=400)


@given(texts, st.integers(0, 700))
@example("𝄞" * 100, LEAST)
@example("é" * 225_000, 1024)
@example("hello", 0)
@example("a" * (LEAST + 1), 0)
def test_shortened_text_fits_and_has_the_ends_of_the_whole_one(text: str, limit: int) -> None:
    """Fails when a cut is counted in characters, or goes through one, or ends overlap."""
    short = shortened(text, limit)

    if len(text.encode()) <= max(limit, LEAST):
        assert text == short
        return
    assert short.strip()
    assert max(limit, LEAST) >= len(short.encode())
    head, tail = next(
        (short[:at], short[at + len(CUT) :])
        for at in range(len(short))
        if short.startswith(CUT, at)
        and text.startswith(short[:at])
        and text.endswith(short[at + len(CUT) :])
    )
    # A character has at most four bytes: no more than three are lost at each cut, one to halving.
    assert len((head + tail).encode()) >= limit - len(CUT.encode()) - 7
