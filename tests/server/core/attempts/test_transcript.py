"""What an agent says in one attempt: its limits, its repairs, and what counts as a usage."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parley_server.core.attempts.transcript import (
    MARK,
    MAX_ARGUMENTS_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_MODEL_BYTES,
    MAX_OPAQUE_BYTES,
    MAX_REQUESTS,
    MAX_RESULT_BYTES,
    MAX_TEXT_BYTES,
    MAX_TOKENS,
    MAX_TOOL_CALLS,
    Transcript,
    believable,
    cut,
    storable,
)
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import (
    AgentEvent,
    Answer,
    Awaiting,
    Finish,
    FinishReason,
    OpaqueState,
    PendingCall,
    PendingKind,
    Spent,
    Text,
    ToolCall,
    Usage,
)
from support.agent_runs import a_call
from support.values import bytes_of_call

STOP, LENGTH, CANCELLED = FinishReason.STOP, FinishReason.LENGTH, FinishReason.CANCELLED
USAGE = Usage(10, 20, 5, 1)


def told(*events: AgentEvent) -> Transcript:
    transcript = Transcript("model")
    for event in events:
        transcript.add(event)
    return transcript


def answered(*events: AgentEvent) -> Answer:
    return told(*events).answer()


def test_answer_is_all_that_was_said_in_order() -> None:
    answer = answered(
        Text("a"), a_call("1"), Text("b"), OpaqueState(b"s"), a_call("2"), Finish(STOP, "m", USAGE)
    )

    assert ("ab", (a_call("1"), a_call("2"))) == (answer.text, answer.tool_calls)
    assert (STOP, "m", USAGE) == (answer.finish_reason, answer.model, answer.usage)
    assert b"s" == answer.opaque_state


def test_nothing_counts_behind_a_finish() -> None:
    """Fails when an agent goes on behind its end, which callers have seen already."""
    transcript = told(Text("a"), Finish(STOP, "m"))
    late = (Text("b"), a_call(), OpaqueState(b"s"), Finish(LENGTH, "n"))
    taken = [transcript.add(event) for event in late]

    assert [None] * 4 == taken
    answer = transcript.answer()
    assert ("a", (), STOP, "m") == (
        answer.text,
        answer.tool_calls,
        answer.finish_reason,
        answer.model,
    )
    assert answer.opaque_state is None


def test_agent_that_ends_without_a_finish_has_stopped() -> None:
    answer = answered(Text("a"))

    assert (STOP, "model", None) == (answer.finish_reason, answer.model, answer.usage)


def test_cancelled_answer_keeps_what_was_said_and_claims_no_usage() -> None:
    answer = told(Text("a"), Finish(STOP, "m", USAGE)).answer(is_cancelled=True)

    assert ("a", CANCELLED, None) == (answer.text, answer.finish_reason, answer.usage)


# Limits


@pytest.mark.parametrize(("more", "reason"), [(0, STOP), (1, LENGTH)])
def test_text_ends_at_its_limit(more: int, reason: FinishReason) -> None:
    """Fails when the limit is one piece's, not the answer's."""
    transcript = told(Text("a" * (MAX_TEXT_BYTES - 1)), Text("a" * (1 + more)))

    assert (reason is LENGTH) is transcript.is_closed
    answer = transcript.answer()
    assert (MAX_TEXT_BYTES, reason) == (len(answer.text), answer.finish_reason)


def test_what_is_taken_of_a_piece_is_what_is_stored() -> None:
    """Fails when a stream shows more than the answer holds. A character is never cut through."""
    transcript = told(Text("a" * (MAX_TEXT_BYTES - 3)))
    taken = transcript.add(Text("éé"))

    assert Text("é") == taken
    assert "aé" == transcript.answer().text[-2:]


@pytest.mark.parametrize(
    ("part", "limit"), [("arguments", MAX_ARGUMENTS_BYTES), ("result", MAX_RESULT_BYTES)]
)
def test_tool_calls_long_parts_are_cut_and_say_so(part: str, limit: int) -> None:
    whole, long = a_call(**{part: "é" * (limit // 2)}), a_call(**{part: "é" * limit})
    answer = answered(whole, long)

    assert whole == answer.tool_calls[0]
    kept = getattr(answer.tool_calls[1], part)
    assert kept.endswith("é" + MARK)
    assert limit - 1 <= len(kept.encode()) <= limit
    assert STOP is answer.finish_reason


def test_as_many_tool_calls_as_allowed_end_the_run() -> None:
    transcript = told(*(a_call(str(n)) for n in range(MAX_TOOL_CALLS - 1)))
    assert not transcript.is_closed
    transcript.add(a_call("last"))
    transcript.add(a_call("one more"))

    answer = transcript.answer()
    assert (MAX_TOOL_CALLS, LENGTH) == (len(answer.tool_calls), answer.finish_reason)
    assert "last" == answer.tool_calls[-1].id


def test_tool_call_that_makes_the_message_too_large_is_left_out_whole() -> None:
    """Fails when tool calls do not count: a message could not be sent to its caller."""
    large = a_call(result="a" * MAX_RESULT_BYTES)
    fit = MAX_MESSAGE_BYTES // bytes_of_call(large)
    transcript = told(*[large] * fit)
    assert not transcript.is_closed
    taken = transcript.add(large)

    assert (None, True) == (taken, transcript.is_closed)
    answer = transcript.answer()
    assert (fit, LENGTH) == (len(answer.tool_calls), answer.finish_reason)


def test_text_beside_large_tool_calls_ends_at_the_messages_limit() -> None:
    """Fails when the text has room for itself only."""
    large = a_call(result="a" * MAX_RESULT_BYTES)
    calls = [large] * (MAX_MESSAGE_BYTES // bytes_of_call(large))
    room = MAX_MESSAGE_BYTES - sum(map(bytes_of_call, calls))
    answer = answered(*calls, Text("a" * (room + 1)))

    assert 0 < room < MAX_TEXT_BYTES
    assert (room, LENGTH) == (len(answer.text), answer.finish_reason)


def test_opaque_state_is_the_newest_whole_or_none() -> None:
    """Fails when an old one outlives one that was too large: it belongs to another answer."""
    largest = b"s" * MAX_OPAQUE_BYTES
    assert largest == answered(OpaqueState(b"old"), OpaqueState(largest)).opaque_state
    answer = answered(OpaqueState(b"old"), OpaqueState(largest + b"s"), Text("a"))

    assert (None, "a", STOP) == (answer.opaque_state, answer.text, answer.finish_reason)


def test_models_name_is_cut_without_a_mark() -> None:
    assert "é" * (MAX_MODEL_BYTES // 2) == answered(Finish(STOP, "é" * MAX_MODEL_BYTES)).model


# Repairs


def test_every_text_is_fit_to_be_stored() -> None:
    bad, fine = "a\0b\ud800c", "a\ufffdb\ufffdc"
    call = ToolCall(bad, bad, bad, bad, is_error=False, step=1)
    answer = answered(Text(bad), call, Finish(STOP, bad))

    assert (fine, fine) == (answer.text, answer.model)
    assert (fine,) * 4 == answer.tool_calls[0][:4]


anything = st.text(st.characters(), max_size=40) | st.text("a\0\ud83d\ude00é😀", max_size=40)


@given(anything)
def test_storable_text_differs_only_where_it_has_to(text: str) -> None:
    """Fails when a repair moves or loses what stands beside it."""
    fit = storable(text)

    fit.encode()
    assert "\0" not in fit
    assert len(text) == len(fit)
    for before, after in zip(text, fit, strict=True):
        is_bad = before == "\0" or "\ud800" <= before <= "\udfff"
        assert ("\ufffd" if is_bad else before) == after


@given(st.text("aé漢𝄞", max_size=40), st.integers(len(MARK.encode()), 60))
@example("𝄞" * 10, 39)
def test_cut_text_is_its_beginning_and_fits(text: str, limit: int) -> None:
    """Fails when a cut goes through a character, or when the mark does not count."""
    short = cut(text, limit)

    if len(text.encode()) <= limit:
        assert text == short
        return
    assert limit >= len(short.encode()) > limit - 4
    assert short.endswith(MARK)
    assert text.startswith(short.removesuffix(MARK))


# Usage


@pytest.mark.parametrize(
    ("expected", "events"),
    [
        (None, []),
        (None, [Text("a")]),
        (USAGE, [Spent(Usage(1, 1, 0, 1)), Text("a"), Spent(USAGE)]),
        (USAGE, [Spent(Usage(1, 1, 0, 1)), Finish(STOP, "m", USAGE)]),
        (USAGE, [Spent(USAGE), Finish(STOP, "m")]),
        (USAGE, [Spent(USAGE), Spent(Usage(-1, 0, 0, 1)), Text("a")]),
        (USAGE, [Finish(STOP, "m", USAGE), Spent(Usage(1, 1, 0, 1))]),
    ],
)
def test_usage_is_the_last_that_was_told(expected: Usage | None, events: list[AgentEvent]) -> None:
    assert expected == told(*events).usage


def test_answer_has_the_usage_of_its_finish_alone() -> None:
    """What was told before may be a part of it."""
    assert answered(Spent(USAGE), Finish(STOP, "m")).usage is None


def a_usage(**changes: Any) -> Usage:
    return USAGE._replace(**changes)


@pytest.mark.parametrize(
    "usage",
    [
        USAGE,
        Usage(0, 0, 0, 0),
        Usage(MAX_TOKENS, MAX_TOKENS, MAX_TOKENS, MAX_REQUESTS),
    ],
)
def test_usage_that_can_be_true_is_kept(usage: Usage) -> None:
    transcript = told(Finish(STOP, "m", usage))

    assert usage == believable(usage) == transcript.usage == transcript.answer().usage


@pytest.mark.parametrize("count", [-1, MAX_TOKENS + 1, 1.5, "7", None, True])
@pytest.mark.parametrize("field", Usage._fields)
def test_usage_that_cannot_be_true_is_none(field: str, count: Any) -> None:
    """Fails when a provider's nonsense reaches a column or a counter."""
    transcript = told(Text("a"), Finish(STOP, "m", a_usage(**{field: count})))

    assert (None, None) == (transcript.usage, transcript.answer().usage)
    assert "a" == transcript.answer().text


def test_more_requests_than_a_column_holds_are_no_usage() -> None:
    assert believable(a_usage(model_requests=MAX_REQUESTS + 1)) is None


def test_usage_is_unknown_until_the_agent_tells() -> None:
    assert told(Text("a")).usage is None
    assert told(Finish(STOP, "m")).usage is None


# Everything together

pieces = st.one_of(
    st.builds(Text, st.sampled_from(["", "é", "a" * 100_000, "漢" * 60_000])),
    st.builds(
        lambda size: a_call(arguments="é" * size, result="a" * size),
        st.sampled_from([0, 10, 40_000, 100_000]),
    ),
)


@given(st.lists(pieces, max_size=30))
def test_answer_is_within_its_limits_and_what_was_taken(events: list[AgentEvent]) -> None:
    transcript = Transcript("model")
    taken = [piece for event in events if (piece := transcript.add(event)) is not None]
    answer = transcript.answer()

    assert len(answer.text.encode()) <= MAX_TEXT_BYTES
    whole = len(answer.text.encode()) + sum(map(bytes_of_call, answer.tool_calls))
    assert whole <= MAX_MESSAGE_BYTES
    assert answer.text == "".join(each.text for each in taken if isinstance(each, Text))
    assert answer.tool_calls == tuple(each for each in taken if isinstance(each, ToolCall))
    assert (LENGTH is answer.finish_reason) is transcript.is_closed


def a_pending(place: int = 0, arguments: str = "{}") -> PendingCall:
    return PendingCall(f"key-{place}", f"id-{place}", "weather", arguments, 1, PendingKind.RESULT)


def awaited(*calls: PendingCall, told: int = 0) -> Transcript:
    """Return the transcript of a run that has told some calls and ends with others."""
    transcript = Transcript("model")
    transcript.add(Text("so far"))
    for place in range(told):
        transcript.add(ToolCall(f"told-{place}", "weather", "{}", "sunny", False, 1))
    transcript.add(Awaiting(calls, "model-1", Usage(3, 2, 1, 1), Usage(1, 1, 0, 1)))
    return transcript


def test_run_that_waits_closes_with_what_it_waits_for() -> None:
    transcript = awaited(a_pending(), a_pending(1, "\0"), told=1)

    answer = transcript.answer()

    assert transcript.is_closed
    assert (FinishReason.ACTION_REQUIRED, "so far", "model-1", Usage(3, 2, 1, 1)) == (
        answer.finish_reason,
        answer.text,
        answer.model,
        answer.usage,
    )
    assert ["sunny"] == [call.result for call in answer.tool_calls]
    assert ["{}", "\ufffd"] == [call.arguments for call in transcript.pending]
    assert Usage(1, 1, 0, 1) == transcript.usage


def test_run_that_waits_and_is_stopped_gives_each_call_a_result() -> None:
    answer = awaited(a_pending(), told=1).answer(is_cancelled=True)

    assert FinishReason.CANCELLED is answer.finish_reason
    assert [False, True] == [call.is_error for call in answer.tool_calls]
    assert all(call.result for call in answer.tool_calls)


@pytest.mark.parametrize(
    ("is_kept", "calls", "told"),
    [
        (True, [a_pending(n) for n in range(64)], 0),
        (False, [a_pending(n) for n in range(65)], 0),
        (True, [a_pending(n) for n in range(4)], 60),
        (False, [a_pending(n) for n in range(5)], 60),
        (True, [a_pending(0, "x" * 32 * 1024)], 0),
        (False, [a_pending(0, "x" * (32 * 1024 + 1))], 0),
        (False, [a_pending(n, "x" * 32 * 1024) for n in range(32)], 0),
    ],
)
def test_run_that_waits_for_more_than_an_answer_holds_ends_at_the_limit(
    is_kept: bool, calls: list[PendingCall], told: int
) -> None:
    transcript = awaited(*calls, told=told)

    expected = FinishReason.ACTION_REQUIRED if is_kept else FinishReason.LENGTH
    assert expected is transcript.answer().finish_reason
    assert is_kept == bool(transcript.pending)


def test_run_that_waits_for_nothing_has_failed() -> None:
    with pytest.raises(AgentUnavailable):
        awaited()
