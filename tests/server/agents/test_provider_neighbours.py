"""More neighbours of the reported streams: other spellings, other places, other shapes."""

import gzip
import json
from typing import Any

import pytest

from parley_server.core.errors import AgentRefused, AgentUnavailable
from parley_server.core.model import FinishReason
from support.fake_openai import Raw
from support.wire_provider import (
    DONE,
    STOP,
    answer_to,
    called,
    chunk,
    event,
    of_choices,
    said,
    weather,
)

AB = said("a", "b") + STOP
CALL = {"id": "c1", "function": {"name": "weather", "arguments": '{"city": "A"}'}}
ASKED = chunk({}, "tool_calls") + DONE


async def told_by(body: str | Raw) -> tuple[str, str | None, list[str]]:
    told = await answer_to(body, [weather])
    reason = told.finish.reason.value if told.finish else None
    return told.text, reason, [call.result for call in told.calls]


# Events


@pytest.mark.parametrize(
    "body",
    [
        said("a") + "\ufeff" + said("b") + STOP,
        "\ufeff\ufeff" + AB,
        "\n\ufeff" + AB,
        AB.replace("data:", " data:"),
        AB.replace("data:", "Data:"),
        AB.replace("data:", "data :"),
        AB.replace("data: ", "data:\t"),
        "{}\n\n" + AB,
        said("a", "b") + chunk({}, "stop") + "data: [done]\n\n",
        said("a", "b") + "data: DONE\n\n",
        said("a", "b") + "data: [DONE ]\n\n",
    ],
)
async def test_lines_are_read_however_they_are_written(body: str) -> None:
    assert ("ab", "STOP", []) == await told_by(body)


@pytest.mark.parametrize(
    "keep_alive",
    [
        "data: [PING]",
        "data: keep alive",
        "data: : ping",
        "data: :",
        "data: .",
        "data: OPENROUTER PROCESSING",
        "event: heart-beat\ndata: 1",
        "event: noop\ndata: x",
    ],
)
async def test_a_keep_alive_has_any_spelling(keep_alive: str) -> None:
    body = said("a") + keep_alive + "\n\n" + said("b") + STOP
    assert ("ab", "STOP", []) == await told_by(body)


@pytest.mark.parametrize("between", ["\u2028", "\u0085"])
async def test_chunks_a_line_are_cut_at_line_ends_only(between: str) -> None:
    lines = [
        {"choices": [{"index": 0, "delta": {"content": f"a{between}b"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    body = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    assert (f"a{between}b", "STOP", []) == await told_by(body)


async def test_one_chunk_as_the_whole_body_is_cut() -> None:
    """Fails when every body of JSON is taken for an answer."""
    half = {"choices": [{"index": 0, "delta": {"content": "Half an"}, "finish_reason": None}]}
    with pytest.raises(AgentUnavailable):
        await told_by(json.dumps(half) + "\n")


@pytest.mark.parametrize(
    ("expected", "pieces"),
    [
        ("Hello you!", ["He", "Hello", "Hello you", "Hello you", "Hello you!"]),
        ("Hello you!", ["He", "", "Hello", "", "Hello you", "!"]),
        ("aab", ["a", "ab"]),
        ("aabb", ["a", "ab", "b"]),
        ("haha!hahaha!", ["ha", "ha", "!", "haha", "ha!"]),
        ("aaaaaa", ["aaa", "aa", "a"]),
        ("110100", ["1", "10", "100"]),
        ("......", [".", "..", "..."]),
        ("ababcabca", ["ab", "abc", "abca"]),
        ("abaab", ["ab", "a", "ab"]),
    ],
)
async def test_text_so_far_in_each_piece_is_told_once(expected: str, pieces: list[str]) -> None:
    """Fails when each piece is new text: DashScope was reported to tell all of it each time."""
    assert (expected, "STOP", []) == await told_by(said(*pieces) + STOP)


async def test_a_message_behind_two_pieces_is_no_third() -> None:
    message = of_choices({"message": {"content": "aab"}, "finish_reason": "stop"})
    assert ("aab", "STOP", []) == await told_by(said("a", "ab") + message + DONE)


@pytest.mark.parametrize("between", ["", " ", "data: "])
async def test_chunks_may_stand_in_one_line(between: str) -> None:
    a, b = (
        json.dumps({"choices": [{"index": 0, "delta": {"content": each}, "finish_reason": reason}]})
        for each, reason in (("a", None), ("b", "stop"))
    )
    assert ("ab", "STOP", []) == await told_by(f"data: {a}{between}{b}\n\n" + DONE)
    assert ("ab", "STOP", []) == await told_by(f"data: {a}\n\ndata: {b}data: [DONE]\n\n")


async def test_a_chunk_may_be_json_in_json() -> None:
    """Some frameworks write a text that is JSON already as JSON."""
    chunks = [{"choices": [{"delta": {"content": each}}]} for each in "ab"]
    body = "".join(event(json.dumps(each)) for each in chunks)
    assert ("ab", "STOP", []) == await told_by(body + DONE)


async def test_control_characters_in_a_string_are_text() -> None:
    body = 'data: {"choices":[{"delta":{"content":"a\tb\x0b"}}]}\n\n' + STOP
    assert ("a\tb\x0b", "STOP", []) == await told_by(body)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("text", [AB, ": ping\n\n" + AB])
async def test_a_body_that_a_proxy_has_decoded_is_read_as_it_is(coding: str, text: str) -> None:
    body = Raw(text.encode(), content_type=f"text/event-stream\r\ncontent-encoding: {coding}")
    assert ("ab", "STOP", []) == await told_by(body)


@pytest.mark.parametrize("coding", ["none", "utf-8", "chunked", "identity"])
async def test_a_word_that_is_no_content_coding_is_none(coding: str) -> None:
    body = Raw(AB.encode(), content_type=f"text/event-stream\r\ncontent-encoding: {coding}")
    assert ("ab", "STOP", []) == await told_by(body)


@pytest.mark.parametrize("coding", ["gzip", "gzip, identity"])
async def test_a_body_may_be_compressed_in_several_members(coding: str) -> None:
    data = gzip.compress(said("a").encode()) + gzip.compress((said("b") + STOP).encode())
    body = Raw(data, content_type=f"text/event-stream\r\ncontent-encoding: {coding}")
    assert ("ab", "STOP", []) == await told_by(body)


# Text, wherever it stands


@pytest.mark.parametrize(
    "choices",
    [
        [{"text": "a"}, {"text": "b"}],
        [{"message": {"content": "a"}}, {"message": {"content": "b"}}],
        [{"message": {"content": "a"}}, {"message": {"content": "ab"}}],
        [{"delta": {"content": ""}, "message": {"content": "ab"}}],
        [{"delta": {"role": "assistant"}, "message": {"content": "ab"}}],
        [{"delta": {"content": "a"}}, {"index": None, "delta": {"content": "b"}}],
        [{"index": 0, "delta": {"content": "a"}}, {"index": "0", "delta": {"content": "b"}}],
        [{"delta": "a"}, {"delta": "b"}],
        [{"delta": {"text": "ab"}}],
        [{"content": "ab"}],
        [{"delta": {"content": [{"type": "text_delta", "text": "ab"}]}}],
        [{"delta": {"content": [{"type": "text", "content": "ab"}]}}],
        [{"delta": {"content": "ab"}}, {"delta": {}, "message": {"content": "ab"}}],
    ],
)
async def test_text_is_told_once_and_whole(choices: list[dict[str, Any]]) -> None:
    body = "".join(map(of_choices, choices)) + of_choices({"delta": {}, "finish_reason": "stop"})
    assert ("ab", "STOP", []) == await told_by(body + DONE)


async def test_a_number_is_text() -> None:
    body = chunk({"content": "a"}) + chunk({"content": 5}) + STOP
    assert ("a5", "STOP", []) == await told_by(body)


@pytest.mark.parametrize(
    "delta",
    [
        {"content": [{"type": "refusal", "refusal": "I cannot"}]},
        {"refusal": ["I cannot"]},
        {"refusal": {"text": "I cannot"}},
    ],
)
async def test_a_refusal_is_one_in_any_form(delta: object) -> None:
    assert ("I cannot", "CONTENT_FILTER", []) == await told_by(chunk(delta) + STOP)


async def test_a_refusal_leaves_thoughts_hidden() -> None:
    told = await answer_to(said("<think>hm") + chunk({"refusal": "no"}) + STOP, [weather])
    assert told.finish is not None
    assert FinishReason.CONTENT_FILTER is told.finish.reason


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking_text", "text": "hm"},
        {"type": "summary_text", "text": "hm"},
        {"type": "reasoning_text", "text": "hm"},
        {"text": "hm", "thought": True},
        {"type": "reference", "reference_ids": [1]},
    ],
)
async def test_parts_of_a_content_that_are_no_text_of_the_answer_are_left_out(
    part: object,
) -> None:
    body = chunk({"content": [part, {"type": "output_text", "text": "ab"}]}) + STOP
    assert ("ab", "STOP", []) == await told_by(body)


async def test_pieces_of_one_choice_may_come_in_one_event() -> None:
    body = of_choices(*({"index": 0, "delta": {"content": each}} for each in "ab")) + STOP
    assert ("ab", "STOP", []) == await told_by(body)


# Errors that are not called so


@pytest.mark.parametrize(
    "error",
    [
        {"code": 500, "msg": "boom"},
        {"code": "InvalidParameter", "message": "x"},
        {"message": "Internal server error"},
        {"errors": [{"message": "x"}]},
        {"error_code": 336, "error_msg": "x"},
        {"base_resp": {"status_code": 1004, "status_msg": "x"}},
        {"statusCode": 500, "message": "x"},
        {"success": False},
        {"status": "error"},
        {"type": "overloaded_error", "message": "x"},
        {"type": "exception"},
        {"Error": {"message": "x"}},
        {"err": "x"},
        {"error": {}},
        {"detail": "x", "type": "about:blank"},
        {"error": {"code": "²"}},
        {"choices": None, "message": "x", "code": 500},
        {"choices": [{"index": 0, "delta": {"error": {"message": "x"}}}]},
    ],
)
async def test_an_error_in_mid_stream_fails_the_turn(error: object) -> None:
    """Fails when only the key `error` is looked for: half an answer then counts as whole."""
    with pytest.raises(Exception, match="agent") as caught:
        await told_by(said("half") + event(error) + STOP)
    assert type(caught.value).__module__ == "parley_server.core.errors"


async def test_an_error_in_a_list_is_one() -> None:
    """Gemini's endpoint wraps its errors so."""
    error = {"error": {"code": 400, "message": "x", "status": "INVALID_ARGUMENT"}}
    with pytest.raises(AgentRefused):
        await told_by(said("half") + event([error]))


@pytest.mark.parametrize("line", ["event: stream_error\ndata: x", 'error: {"message": "x"}'])
async def test_an_error_by_its_name_fails_the_turn(line: str) -> None:
    with pytest.raises(AgentUnavailable):
        await told_by(said("half") + line + "\n\n" + STOP)


@pytest.mark.parametrize(
    "beside",
    [
        {"base_resp": {"status_code": 0}},
        {"base_resp": {"status_code": "0"}},
        {"error": None},
    ],
)
async def test_what_is_no_error_is_none(beside: dict[str, Any]) -> None:
    body = chunk({"content": "ab"}, **beside) + STOP
    assert ("ab", "STOP", []) == await told_by(body)


@pytest.mark.parametrize(
    "told",
    [
        {"code": 0, "message": "Success", "sid": "s", "choices": []},
        {"code": "200", "msg": "操作成功", "choices": None},
    ],
)
async def test_a_report_that_all_is_well_is_no_error(told: object) -> None:
    assert ("ab", "STOP", []) == await told_by(said("a") + event(told) + said("b") + STOP)


# Finish reasons


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("maxTokens", "LENGTH"),
        ("contextWindowExceeded", "LENGTH"),
        ("FinishReason.MAX_TOKENS", "LENGTH"),
        ("outOfTokens", "LENGTH"),
        ("limit", "LENGTH"),
        ("ProhibitedContent", "CONTENT_FILTER"),
        ("content_policy_violation", "CONTENT_FILTER"),
        ("toolUse", "STOP"),
        ("end-turn", "STOP"),
        ({"type": "length"}, "LENGTH"),
        (["length"], "LENGTH"),
    ],
)
async def test_a_finish_reason_is_known_by_its_letters(reason: object, expected: str) -> None:
    body = of_choices({"index": 0, "delta": {"content": "ab"}, "finish_reason": reason}) + DONE
    assert ("ab", expected, []) == await told_by(body)


@pytest.mark.parametrize(
    "reason", ["rateLimit", "timedOut", "max_retries_exceeded", "content_filter_error", "shutdown"]
)
async def test_a_failure_is_known_by_its_letters(reason: str) -> None:
    with pytest.raises(AgentUnavailable):
        await told_by(chunk({"content": "ab"}, reason) + DONE)


# Tool calls


@pytest.mark.parametrize(
    "body",
    [
        chunk({"tool_calls": CALL}) + ASKED,
        chunk({"tool_calls": [[CALL]]}) + ASKED,
        chunk({"tool_call": CALL}) + ASKED,
        of_choices({"index": 0, "delta": {}, "tool_calls": [CALL]}) + ASKED,
        of_choices({"index": 0, "delta": {}, "message": {"tool_calls": [CALL]}}) + ASKED,
        called({"id": "c1", "function": {"name": "weather", "parameters": {"city": "A"}}}) + ASKED,
        called({"id": "c1", "function": {"name": "weather", "input": {"city": "A"}}}) + ASKED,
        called({"index": 0, **CALL})
        + called(
            {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"city":"A"}'}}
        )
        + ASKED,
        "".join(
            called({"index": 0, "id": "c1", "function": {"name": "weather", "arguments": piece}})
            for piece in ("{}", '{"ci', 'ty":"A"}')
        )
        + ASKED,
        called({"index": 0, **CALL}) + called({"index": 0, "function": {"arguments": "}"}}) + ASKED,
        called({"index": 0, **CALL, "id": "c\ud800"}) + ASKED,
    ],
)
async def test_a_call_runs_once_with_its_arguments(body: str) -> None:
    """Its text is that of the second answer, which is asked for with the result."""
    assert ("fine", "STOP", ["sunny in A"]) == await told_by(body)


@pytest.mark.parametrize("has_index", [True, False])
async def test_text_and_calls_may_stand_in_two_choices(has_index: bool) -> None:
    """Fails when one choice alone is read: Copilot's gateway tells Claude's answers so."""
    deltas: list[dict[str, Any]] = [{"content": "ab"}, {"tool_calls": [CALL]}]
    choices: list[dict[str, Any]] = [
        {"delta": delta, "finish_reason": "tool_calls", **({"index": number} if has_index else {})}
        for number, delta in enumerate(deltas)
    ]
    assert ("abfine", "STOP", ["sunny in A"]) == await told_by(of_choices(*choices) + DONE)


async def test_calls_of_another_choice_are_left_out_where_none_are_announced() -> None:
    calls = {"index": 1, "delta": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}
    body = of_choices({"index": 0, "delta": {"content": "ab"}, "finish_reason": "stop"}, calls)
    assert ("ab", "STOP", []) == await told_by(body + DONE)


async def test_an_empty_list_stands_for_no_arguments() -> None:
    call = {"id": "c1", "function": {"name": "weather", "arguments": "[]"}}
    assert ("fine", "STOP", ["sunny in nowhere"]) == await told_by(called(call) + ASKED)


async def test_calls_that_are_announced_and_missing_fail_the_turn() -> None:
    with pytest.raises(AgentUnavailable):
        await told_by(chunk({}, "tool_calls") + DONE)


async def test_half_a_character_in_text_does_not_end_the_turn_behind_a_call() -> None:
    """Fails when it goes on as it came: the second request cannot be written then."""
    text, reason, results = await told_by(said("x\ud800y") + called(CALL) + ASKED)
    assert ("x\ufffdyfine", "STOP", ["sunny in A"]) == (text, reason, results)


@pytest.mark.parametrize("depth", [20, 400])
async def test_content_in_many_lists_is_no_defect(depth: int) -> None:
    content: object = "deep"
    for _ in range(depth):
        content = [content]
    assert ("", "STOP", []) == await told_by(chunk({"content": content}) + STOP)
