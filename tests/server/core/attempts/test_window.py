"""The rules by which a window is put together, without a database."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from parley_server.core.attempts.window import CUT, NO_TEXT, shortened, window_of
from parley_server.core.model import FinishReason, Role, ToolCall, WindowMessage
from support.agent_runs import a_call, a_user_message, an_answer

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
    ),
    max_size=8,
)


@given(messages)
def test_any_window_begins_and_ends_with_a_user_and_holds_no_unanswered_one(
    oldest_first: list[WindowMessage],
) -> None:
    window = window_of(oldest_first[::-1], 100, "Now", 10_000).messages

    assert Role.USER is window[0].role
    assert "Now" == window[-1].content
    for message, after in pairwise(window):
        if message.role is Role.USER:
            assert Role.ASSISTANT is after.role
        if message.role is Role.ASSISTANT:
            assert message.content.strip()


LEAST = 2 * 16 + len(CUT.encode())
"""Below that a limit is not kept: something has to be shown."""

texts = st.text(st.sampled_from("a é漢𝄞\n\u0301[…]"), max_size=400)


@given(texts, st.integers(0, 700))
@example("𝄞" * 100, LEAST)
@example("é" * 225_000, 1024)
def test_shortened_text_fits_and_has_the_ends_of_the_whole_one(text: str, limit: int) -> None:
    """Fails when a cut is counted in characters, or goes through one."""
    short = shortened(text, limit)

    if len(text.encode()) <= limit:
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
