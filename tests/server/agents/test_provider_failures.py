"""What providers get wrong beyond repair, what they say they cost, and what is too much of it."""

import gzip
import zlib
from collections.abc import Callable

import pytest

from parley_server.agents.boundary import hook
from parley_server.core.errors import AgentError, AgentRefused, AgentUnavailable
from parley_server.core.model import Usage
from support.agent_runs import told_by
from support.fake_openai import FakeOpenAI, Raw, Say
from support.services import StartService
from support.wire_provider import (
    DONE,
    STOP,
    a_stream,
    an_agent,
    answer_to,
    called,
    chunk,
    event,
    of_choices,
    said,
)

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
    "invalid, with a code": (
        event({"error": {"type": "invalid_request_error", "code": "unsupported_parameter"}}),
        AgentRefused,
    ),
    "a code of words": (event({"error": {"code": "invalid_prompt"}}), AgentRefused),
    "no key": (event({"error": {"type": "authentication_error"}}), AgentRefused),
    "no permission": (event({"error": {"type": "permission_error"}}), AgentRefused),
    "no model": (event({"error": {"type": "not_found_error"}}), AgentRefused),
    "a server's code of words": (event({"error": {"code": "upstream_error"}}), AgentUnavailable),
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


@pytest.mark.parametrize(
    "body", [DONE, "", "data:\n\n", "event: x\n\n" + DONE, "<html></html>", "{}"]
)
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
        *(
            (None, used(prompt_tokens=wrong))
            for wrong in (1.5, -1, 10**20, "4", None, dict[str, int]())
        ),
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


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
        ("identity", bytes),
    ],
)
async def test_a_coding_that_was_not_asked_for_is_read(
    coding: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack((said("a", "b") + STOP).encode())
    raw = Raw(packed, content_type=f"text/event-stream\r\ncontent-encoding: {coding}")

    assert "ab" == (await answer_to(raw)).text


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [1.5, -1, 10**20, "4", None])
@pytest.mark.parametrize("key", ["prompt_tokens", "completion_tokens"])
async def test_an_answer_with_wrong_usage_can_be_read_for_good(
    start_service: StartService, key: str, wrong: object
) -> None:
    """Fails without the limits of a transcript and the boundary: every read is INTERNAL."""
    body = said("ab") + used(**{key: wrong}) + chunk({}, "stop", model="x" * 5_000_000) + DONE
    with FakeOpenAI([a_stream(body)]) as fake:
        service = await start_service(an_agent(fake.base_url))
        answered = await service.chat(request_id="r")
        replayed = await service.chat(request_id="r")
        ids = {"conversation_id": answered.conversation_id, "turn_id": answered.turn_id}
        turn = await service.turn(**ids)
        history = await service.history(answered.conversation_id)

    assert ["ab"] * 3 == [answered.response, replayed.response, history.messages[1].content]
    assert not answered.HasField("usage")
    assert not history.messages[1].HasField("usage")
    assert "x" * 256 == answered.model == history.messages[1].model
    assert turn.turn_id == answered.turn_id


@pytest.mark.parametrize("how", [{"stall_after": 3}, {"cut_after": 3}, {"end_after": 3}])
async def test_what_breaks_behind_the_finish_reason_breaks_no_answer(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, int]
) -> None:
    """Fails when the boundary waits for the end mark as long as for an answer."""
    monkeypatch.setattr(hook, "END_S", 0.1)
    with FakeOpenAI([Say("ab", **how)]) as fake:  # type: ignore[arg-type]
        told = await told_by(an_agent(fake.base_url))

    assert "ab" == told.text
    assert told.finish is not None
    assert told.finish.usage is None
