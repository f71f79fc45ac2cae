"""Neighbours of the reported streams: each rule of docs/providers.md with more than one example."""

import gzip
import json
import zlib

import pytest

from parley_server.core.errors import AgentError, AgentRefused, AgentUnavailable
from parley_server.core.model import FinishReason, Usage
from support.fake_openai import Raw
from support.wire_provider import (
    DONE,
    STOP,
    answer_to,
    called,
    chunk,
    event,
    said,
)

WHOLE = chunk({"content": "ab"}, "stop")
EMPTY = "data:\n\n"

KEEP_ALIVES = [
    ":\n\n",
    ": ping\n",
    "data:\n\n",
    "data: \n\n",
    "data: ping\n\n",
    'data: "ping"\n\n',
    "data: {}\n\n",
    "data: null\n\n",
    "id: 7\n\n",
    "id:\ndata:\n\n",
    "retry: 1000\n\n",
    "event: ping\n\n",
    "event: ping\ndata: {}\n\n",
    'event: ping\ndata: {"type": "ping"}\n\n',
    "event: keepalive\ndata: 12:00\n\n",
    'data: {"type": "ping"}\n\n',
    "event: message\n\n",
    "\n\n\n",
    "\r\n\r\n",
    "nonsense\n\n",
]


@pytest.mark.parametrize("keep_alive", KEEP_ALIVES)
async def test_a_keep_alive_is_left_out_wherever_it_stands(keep_alive: str) -> None:
    parts = ["", said("a"), said("b"), chunk({}, "stop"), DONE]
    told = await answer_to(keep_alive.join(parts) + keep_alive)

    assert ("ab", FinishReason.STOP) == (told.text, told.finish and told.finish.reason)


@pytest.mark.parametrize(
    "body",
    [
        (said("a", "b") + STOP).replace("\n", "\r\n"),
        (said("a", "b") + STOP).replace("\n", "\r"),
        "\ufeff" + said("a", "b") + STOP,
        "\n \n" + said("a", "b") + STOP,
        (said("a", "b") + STOP).replace("data: ", "data:"),
        (said("a", "b") + STOP).replace("\n\n", "\n"),
        (said("a", "b") + STOP).removesuffix("\n\n"),
        (said("a", "b") + STOP).replace("data: {", "id: 1\nevent: message\ndata: {"),
        said("a", "b") + STOP + said("more") + "data: {broken\n\n",
        said("a", "b") + chunk({}, "stop"),
        said("a", "b") + chunk({}, "stop").removesuffix("\n\n"),
        said("a", "b") + 'data: "[DONE]"\n\n',
        said("a", "b") + "event: done\ndata: [DONE]\n\n",
        said("a", "b") + chunk({}, "stop") + "event: end\n\n",
        (said("a", "b") + STOP).replace("data: ", ""),
    ],
)
async def test_a_stream_may_be_ended_and_written_in_any_way(body: str) -> None:
    told = await answer_to(body)

    assert ("ab", FinishReason.STOP) == (told.text, told.finish and told.finish.reason)


def of_choices(*choices: object, **fields: object) -> str:
    return event({"choices": list(choices), **fields})


SHAPES = {
    "choices null": event({"choices": None}) + WHOLE,
    "choices missing": event({"id": "x"}) + WHOLE,
    "choices an object": event({"choices": {}}) + WHOLE,
    "choices with null": of_choices(None) + WHOLE,
    "delta null": of_choices({"index": 0, "delta": None}) + WHOLE,
    "delta missing": of_choices({"index": 0}) + WHOLE,
    "an index above 0": of_choices(
        {"index": 3, "delta": {"content": "ab"}, "finish_reason": "eos"}
    ),
    "no index": of_choices({"delta": {"content": "ab"}, "finish_reason": "stop"}),
    "several choices": of_choices(
        {"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "x"}}
    )
    + of_choices({"index": 1, "delta": {"content": "y"}, "finish_reason": "length"})
    + of_choices({"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}),
    "a list of parts": chunk(
        {"content": ["a", {"type": "text", "text": "b"}, {"type": "image"}]}, "stop"
    ),
    "a part": chunk({"content": {"type": "text", "text": "ab"}}, "stop"),
    "a message": of_choices(
        {"message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}
    ),
    "a message behind deltas": said("a")
    + of_choices({"message": {"content": "ab"}, "finish_reason": "stop"}),
    "a text": of_choices({"text": "ab", "finish_reason": "stop"}),
    "strange fields": chunk(
        {"content": "ab"}, "stop", created="soon", id=7, model=None, service_tier=1
    ),
    "an error of null": chunk({"content": "ab"}, "stop", error=None),
    "half characters": chunk({"content": "ab"}) + chunk({"content": ""}, "stop"),
    "a finish reason on each chunk": chunk({"content": "a"}, "") + chunk({"content": "b"}, "stop"),
    "two events in one": "data: " + json.dumps({"choices": []}) + "\n" + WHOLE,
    "an event of two lines": 'data: {"choices":\ndata: [{"delta": {"content": "ab"}}]}\n\n',
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_chunk_may_have_any_shape(shape: str) -> None:
    told = await answer_to(SHAPES[shape] + DONE)

    assert ("ab", FinishReason.STOP) == (told.text, told.finish and told.finish.reason)


async def test_half_a_character_waits_for_its_other_half() -> None:
    told = await answer_to(said("a\ud83d", "\ude00b\ud83d") + STOP)

    assert "a😀b\ud83d" == told.text


JSON = {"choices": [{"message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(JSON),
        json.dumps(JSON, indent=2),
        "\n\n  " + json.dumps(JSON),
        json.dumps({"choices": [{"message": {"content": "ab"}}]}),
        json.dumps({**JSON, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_a_whole_answer_in_reply_to_a_stream_is_an_answer(body: str, kind: str) -> None:
    told = await answer_to(Raw(body.encode(), content_type=kind))

    assert ("ab", FinishReason.STOP) == (told.text, told.finish and told.finish.reason)


async def test_a_whole_answer_may_ask_for_tools() -> None:
    call = {"id": "i", "function": {"name": "weather", "arguments": {"city": "A"}}}
    body = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
    told = await answer_to(Raw(json.dumps(body).encode()))

    assert (["sunny in A"], "fine") == ([c.result for c in told.calls], told.text)


def finished(*reasons: object) -> list[str]:
    return [said("ab") + chunk({}, reason) + DONE for reason in reasons]


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        *(
            (FinishReason.STOP, body)
            for body in finished(
                "stop",
                "STOP",
                "eos",
                "eos_token",
                "end_turn",
                "stop_sequence",
                "complete",
                "done",
                "mystery",
                "unknown",
                None,
                "",
                "null",
                "tool_calls",
                "function_call",
                1,
            )
        ),
        *(
            (FinishReason.LENGTH, body)
            for body in finished(
                "length",
                "max_tokens",
                "MAX_TOKENS",
                "model_length",
                "max_output_tokens",
                "max-length",
                "model_context_window_exceeded",
                "FINISH_REASON_MAX_TOKENS",
            )
        ),
        *(
            (FinishReason.CONTENT_FILTER, body)
            for body in finished(
                "content_filter",
                "SAFETY",
                "refusal",
                "content-filtered",
                "sensitive",
                "RECITATION",
                "guardrail_intervened",
                "prohibited_content",
            )
        ),
    ],
)
async def test_a_finish_reason_is_one_of_four(expected: FinishReason, body: str) -> None:
    told = await answer_to(body)

    assert ("ab", expected) == (told.text, told.finish and told.finish.reason)


ERRORS: dict[str, tuple[str, type[AgentError]]] = {
    **{
        f"finish {reason}": (chunk({}, reason) + DONE, AgentUnavailable)
        for reason in (
            "error",
            "abort",
            "aborted",
            "cancelled",
            "canceled",
            "failed",
            "timeout",
            "network_error",
            "insufficient_system_resource",
            "engine_overloaded",
            "MALFORMED_FUNCTION_CALL",
            "rate_limit",
        )
    },
    "an object": (event({"error": {"message": "boom"}}), AgentUnavailable),
    "a text": (event({"error": "boom"}) + DONE, AgentUnavailable),
    "beside choices": (
        chunk({}, None, error={"message": "boom", "code": 502}) + DONE,
        AgentUnavailable,
    ),
    "in the choice": (
        of_choices({"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 400}}),
        AgentRefused,
    ),
    "an event's name": ("event: error\ndata: boom\n\n" + DONE, AgentUnavailable),
    "an event's name alone": ("event: error\n\n" + STOP, AgentUnavailable),
    "an event with JSON": (
        event({"message": "boom", "code": 503}, "error") + DONE,
        AgentUnavailable,
    ),
    "a kind": (
        event({"type": "error", "error": {"type": "overloaded_error"}}) + DONE,
        AgentUnavailable,
    ),
    "an object's kind": (event({"object": "error", "message": "boom", "code": 400}), AgentRefused),
    "a detail": (event({"detail": "boom"}) + STOP, AgentUnavailable),
    "no event at all": ('{"error": {"message": "boom"}}\n\n' + DONE, AgentUnavailable),
    "400": (event({"error": {"message": "boom", "code": 400}}), AgentRefused),
    "status 400": (
        event({"error": {"message": "boom", "code": None}, "status": 400}),
        AgentRefused,
    ),
    "code '422'": (event({"error": {"code": "422"}}), AgentRefused),
    "invalid": (event({"error": {"type": "invalid_request_error"}}), AgentRefused),
    "limited": (event({"error": {"code": "rate_limit_exceeded"}}), AgentUnavailable),
    "cut": ("", AgentUnavailable),
    "cut in an event": (said("c")[:-20], AgentUnavailable),
    "broken": ("data: {broken\n\n" + STOP, AgentUnavailable),
    "a list": ("data: [1]\n\n" + STOP, AgentUnavailable),
    "a number": ("data: 1\n\n" + STOP, AgentUnavailable),
    "deep": ("data: " + "[" * 100_000 + "\n\n" + STOP, AgentUnavailable),
    "no UTF-8": ("data: \udcff\n\n" + STOP, AgentUnavailable),
    "a call without a name": (
        called({"index": 0, "id": "i"}) + chunk({}, "tool_calls") + DONE,
        AgentUnavailable,
    ),
}


@pytest.mark.parametrize("how", ERRORS)
async def test_an_error_in_a_stream_is_never_half_an_answer(how: str) -> None:
    body, expected = ERRORS[how]
    with pytest.raises(AgentError) as caught:
        await answer_to((said("half") + body).encode(errors="surrogateescape"))

    assert expected is type(caught.value)


@pytest.mark.parametrize("body", [DONE, "", EMPTY, "event: x\n\n" + DONE, "<html></html>", "{}"])
async def test_a_stream_without_a_choice_is_no_answer(body: str) -> None:
    with pytest.raises(AgentUnavailable):
        await answer_to(body)


def used(**counts: object) -> str:
    return chunk({}, None, usage={"prompt_tokens": 3, "completion_tokens": 4, **counts})


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        ((3, 4, 0), used()),
        ((3, 4, 0), used(total_tokens=None)),
        ((3, 4, 2), used(prompt_tokens_details={"cached_tokens": 2})),
        ((3, 4, 0), used(prompt_tokens_details={"cached_tokens": -2})),
        ((3, 4, 0), used(prompt_tokens_details="many")),
        ((3, 4, 0), used(completion_tokens_details=None, cost=0.5, service="fast")),
        ((3, 9, 0), used() + used(completion_tokens=9)),
        ((3, 4, 0), used() + used(prompt_tokens=0, completion_tokens=0)),
        ((3, 4, 0), used() + chunk({}, None, usage=None) + chunk({}, None, usage={})),
        (
            (3, 4, 0),
            of_choices({"delta": {}, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
        ),
        *(
            (None, used(completion_tokens=wrong))
            for wrong in (1.5, -1, 10**20, "4", None, True, [4])
        ),
        *((None, used(prompt_tokens=wrong)) for wrong in (1.5, -1, 10**20, "4", None, {})),
        (None, used().replace("4}", "4" * 5000 + "}")),
        (None, ""),
        (None, chunk({}, None, usage="much")),
        (None, chunk({}, None, usage=[1, 2])),
    ],
)
async def test_usage_is_told_once_or_not_at_all(
    expected: tuple[int, int, int] | None, body: str
) -> None:
    told = await answer_to(said("ab") + body + STOP)

    assert "ab" == told.text
    assert told.finish is not None
    assert (Usage(*expected, 1) if expected else None) == told.finish.usage


async def test_a_refusal_is_an_answer_with_its_text() -> None:
    body = (
        chunk({"refusal": "I can"}) + chunk({"refusal": "not"}) + chunk({"refusal": None}, "stop")
    )
    told = await answer_to(body + DONE)

    assert ("I cannot", FinishReason.CONTENT_FILTER) == (
        told.text,
        told.finish and told.finish.reason,
    )


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
        ("identity", bytes),
    ],
)
async def test_a_coding_that_was_not_asked_for_is_read(coding: str, pack) -> None:  # type: ignore[no-untyped-def]
    packed = pack((said("a", "b") + STOP).encode())
    raw = Raw(packed, content_type=f"text/event-stream\r\ncontent-encoding: {coding}")

    assert "ab" == (await answer_to(raw)).text


@pytest.mark.parametrize(
    "raw",
    [
        Raw(b"?", content_type="text/event-stream\r\ncontent-encoding: br"),
        Raw(b"?", content_type="text/event-stream\r\ncontent-encoding: gzip"),
        Raw(b" " * 300_000_000, content_type="text/event-stream"),
        Raw(b"data: " + b"x" * 9_000_000),
        Raw(b"{" + b"x" * 9_000_000),
        Raw(b"data: x\n" * 1_000_000),
    ],
    ids=lambda raw: f"{raw.content_type[-12:]}-{len(raw.body)}",
)
async def test_what_exceeds_a_bound_is_unavailable(raw: Raw) -> None:
    with pytest.raises(AgentUnavailable):
        await answer_to(raw)


async def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"a" * 50_000_000)
    assert len(bomb) < 60_000
    raw = Raw(bomb, content_type="text/event-stream\r\ncontent-encoding: gzip")
    with pytest.raises(AgentUnavailable):
        await answer_to(raw)


@pytest.mark.parametrize(("status", "kind"), [(400, AgentRefused), (503, AgentUnavailable)])
async def test_of_an_errors_body_only_the_beginning_is_read(
    status: int, kind: type[AgentError]
) -> None:
    body = b'{"error": {"message": "' + b"x" * 30_000_000 + b'"}}'
    with pytest.raises(AgentError) as caught:
        await answer_to(Raw(body, status))

    assert kind is type(caught.value)


async def test_a_long_model_name_is_cut() -> None:
    told = await answer_to(chunk({"content": "ab"}, "stop", model="é" * 800_000) + DONE)

    assert told.finish is not None
    assert "é" * 128 == told.finish.model
