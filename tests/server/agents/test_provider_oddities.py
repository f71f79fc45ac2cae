"""Neighbours of the reported streams: each rule of docs/providers.md with more than one example."""

import json

import pytest

from parley_server.core.model import FinishReason
from support.fake_openai import Raw
from support.wire_provider import (
    DONE,
    STOP,
    answer_to,
    chunk,
    event,
    of_choices,
    said,
)

WHOLE = chunk({"content": "ab"}, "stop")
NO_ERROR = {"message": "", "type": "", "param": "", "code": None}

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
    "an error's empty form": chunk({"content": "ab"}, "stop", error=NO_ERROR)
    + of_choices(usage={"prompt_tokens": 1, "completion_tokens": 2}, error=NO_ERROR),
    "an error's empty form in the choice": of_choices(
        {"delta": {"content": "ab", "error": {}}, "finish_reason": "stop", "error": NO_ERROR}
    ),
    "half characters": chunk({"content": "ab"}) + chunk({"content": ""}, "stop"),
    "a finish reason on each chunk": chunk({"content": "a"}, "") + chunk({"content": "b"}, "stop"),
    "data within data": (said("a") + chunk({"content": "b"}, "stop")).replace(
        "data: ", "data: data:"
    ),
    "two events in one": "data: " + json.dumps({"choices": []}) + "\n" + WHOLE,
    "an event of two lines": 'data: {"choices":\ndata: [{"delta": {"content": "ab"}}]}\n\n',
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_chunk_may_have_any_shape(shape: str) -> None:
    told = await answer_to(SHAPES[shape] + DONE)

    assert ("ab", FinishReason.STOP) == (told.text, told.finish and told.finish.reason)


async def test_half_a_character_waits_for_its_other_half() -> None:
    told = await answer_to(said("a\ud83d", "\ude00b\ud83d") + STOP)

    assert "a😀b\ufffd" == told.text


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


async def test_a_refusal_is_an_answer_with_its_text() -> None:
    body = (
        chunk({"refusal": "I can"}) + chunk({"refusal": "not"}) + chunk({"refusal": None}, "stop")
    )
    told = await answer_to(body + DONE)

    assert ("I cannot", FinishReason.CONTENT_FILTER) == (
        told.text,
        told.finish and told.finish.reason,
    )
