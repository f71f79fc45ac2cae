"""OpenAI's Responses and Anthropic's Messages: what their libraries leave open."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from parley_server.agents.catalog import create_agent
from parley_server.core.errors import AgentError, AgentRefused, AgentUnavailable
from parley_server.core.model import FinishReason, Usage
from support.agent_runs import Told, a_run, told_by
from support.fake_openai import FakeOpenAI, Raw
from support.wire_provider import a_stream, event


async def told_of(name: str, body: str | Raw) -> Told:
    with FakeOpenAI([body if isinstance(body, Raw) else a_stream(body)]) as fake:
        agent = create_agent(name, openai_base_url=fake.base_url)
        try:
            return await told_by(agent, a_run())
        finally:
            await agent.close()  # type: ignore[attr-defined]


# OpenAI's Responses


def delta(text: object, kind: str = "output_text", **fields: Any) -> str:
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    kind = f"response.{kind}.delta"
    return event({"type": kind, "delta": text, **place, "logprobs": [], **fields}, kind)


def ended(kind: str = "completed", **response: Any) -> str:
    kind = f"response.{kind}"
    whole: dict[str, Any] = {
        "id": "r",
        "model": "x",
        "status": "completed",
        "output": [],
        "usage": None,
    }
    return event({"type": kind, "response": {**whole, **response}}, kind)


USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
MESSAGE = {
    "type": "message",
    "id": "m",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "ab", "annotations": []}],
}
BEGUN = event({"type": "response.created", "response": {"id": "r"}}, "response.created")

RESPONSES = {
    "plain": delta("a") + delta("b") + ended(),
    "output null": delta("ab") + ended(output=None),
    "output missing": delta("ab")
    + event({"type": "response.completed", "response": {}}, "response.completed"),
    "response null": delta("ab")
    + event({"type": "response.completed", "response": None}, "response.completed"),
    "usage so far": event(
        {"type": "response.in_progress", "response": {"usage": USAGE}}, "response.in_progress"
    )
    + delta("ab")
    + ended(usage=USAGE),
    "no names of events": (delta("ab") + ended()).replace("event: ", "id: "),
    "keep-alives": ": ping\n\ndata:\n\n"
    + delta("a")
    + event({"type": "keepalive", "sequence_number": 3}, "keepalive")
    + "event: ping\ndata: {}\n\n"
    + delta("b")
    + ended(),
    "a delta of null": delta("ab") + delta(None) + ended(),
    "behind the end": delta("ab") + ended() + delta("c") + "data: {broken\n\n",
    "an end mark": delta("ab") + ended() + "data: [DONE]\n\n",
    "output only at the end": BEGUN + ended(output=[MESSAGE]),
    "no stream": json.dumps({"object": "response", "status": "completed", "output": [MESSAGE]}),
    "done": delta("ab") + ended("done"),
}


@pytest.mark.parametrize("how", RESPONSES)
async def test_responses_end_right(how: str) -> None:
    """Fails without the boundary: with output null, with usage so far, with keep-alives."""
    told = await told_of("openai:x", RESPONSES[how])

    assert ("ab", FinishReason.STOP) == (told.text, told.finish and told.finish.reason)
    assert told.finish is not None
    assert (Usage(3, 4, 0, 1) if how == "usage so far" else None) == told.finish.usage


BROKEN_RESPONSES: dict[str, tuple[str, type[AgentError]]] = {
    "cut": ("", AgentUnavailable),
    "cut with an end mark": ("data: [DONE]\n\n", AgentUnavailable),
    "an error": (
        event({"type": "error", "code": "server_error", "message": "m"}),
        AgentUnavailable,
    ),
    "a named error": (event({"error": {"message": "m", "code": 400}}, "error"), AgentRefused),
    "failed": (ended("failed", error={"code": "server_error", "message": "m"}), AgentUnavailable),
    "failed without a word": (ended("failed", error=None), AgentUnavailable),
    "cancelled": (ended("cancelled"), AgentUnavailable),
    "broken": ("data: {broken\n\n" + ended(), AgentUnavailable),
}


@pytest.mark.parametrize("how", BROKEN_RESPONSES)
async def test_broken_responses_are_never_half_an_answer(how: str) -> None:
    body, expected = BROKEN_RESPONSES[how]
    with pytest.raises(AgentError) as caught:
        await told_of("openai:x", delta("half") + body)

    assert expected is type(caught.value)


@pytest.mark.parametrize("wrong", [1.5, -1, 10**20, "4", None])
@pytest.mark.parametrize("key", ["input_tokens", "output_tokens"])
async def test_wrong_usage_of_responses_is_absent(key: str, wrong: object) -> None:
    told = await told_of("openai:x", delta("ab") + ended(usage={**USAGE, key: wrong}))

    assert told.finish is not None
    assert ("ab", None) == (told.text, told.finish.usage)


async def test_a_refusal_of_responses_is_an_answer_with_its_text() -> None:
    body = delta("I can", "refusal") + delta("not", "refusal") + ended()
    told = await told_of("openai:x", body)

    assert ("I cannot", FinishReason.CONTENT_FILTER) == (
        told.text,
        told.finish and told.finish.reason,
    )


async def test_an_incomplete_response_is_cut_at_its_limit() -> None:
    body = ended(
        "incomplete", status="incomplete", incomplete_details={"reason": "max_output_tokens"}
    )
    told = await told_of("openai:x", delta("ab") + body)

    assert ("ab", FinishReason.LENGTH) == (told.text, told.finish and told.finish.reason)


# Anthropic's Messages

CLAUDE = "anthropic:claude-sonnet-5"


def of(kind: str, **fields: Any) -> str:
    return event({"type": kind, **fields}, kind)


def begun(**message: Any) -> str:
    usage = {"input_tokens": 3, "output_tokens": 1}
    whole = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "x"}
    return of("message_start", message={**whole, "usage": usage, **message})


def block(*texts: str, index: int = 0) -> str:
    pieces = [
        of("content_block_delta", index=index, delta={"type": "text_delta", "text": text})
        for text in texts
    ]
    start = of("content_block_start", index=index, content_block={"type": "text", "text": ""})
    return start + "".join(pieces) + of("content_block_stop", index=index)


def stopped(reason: object = "end_turn", usage: object = None) -> str:
    usage = {"output_tokens": 4} if usage is None else usage
    return of("message_delta", delta={"stop_reason": reason}, usage=usage)


LAST = of("message_stop")
MESSAGES = {
    "plain": begun() + block("a", "b") + stopped() + LAST,
    "pings": of("ping")
    + begun()
    + ": p\n\ndata:\n\n"
    + block("a", "b")
    + of("ping")
    + stopped()
    + LAST,
    "a ping of text": begun() + "event: ping\ndata: now\n\n" + block("ab") + stopped() + LAST,
    "no names of events": (begun() + block("ab") + stopped() + LAST).replace("event: ", "id: "),
    "behind the end": begun() + block("ab") + stopped() + LAST + "data: {broken\n\n",
    "an unknown event": begun() + block("ab") + of("mystery") + stopped() + LAST,
    "an unknown reason": begun() + block("ab") + stopped("mystery") + LAST,
    "no reason": begun() + block("ab") + stopped(None) + LAST,
    "no blank line at the end": (begun() + block("ab") + stopped() + LAST).rstrip(),
}


@pytest.fixture
def claude(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    async def told(body: str) -> Told:
        with FakeOpenAI([a_stream(body)]) as fake:
            monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
            monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.base_url)
            agent = create_agent(CLAUDE)
            try:
                return await told_by(agent, a_run())
            finally:
                await agent.close()  # type: ignore[attr-defined]

    return told


@pytest.mark.slow
@pytest.mark.parametrize("how", MESSAGES)
async def test_messages_end_right(how: str, claude: Callable[..., Any]) -> None:
    told = await claude(MESSAGES[how])

    assert ("ab", FinishReason.STOP) == (told.text, told.finish.reason)
    assert Usage(3, 4, 0, 1) == told.finish.usage


BROKEN_MESSAGES: dict[str, tuple[str, type[AgentError]]] = {
    "cut": ("", AgentUnavailable),
    "cut behind its reason": (stopped(), AgentUnavailable),
    "overloaded": (of("error", error={"type": "overloaded_error"}), AgentUnavailable),
    "api error": (of("error", error={"type": "api_error", "message": "m"}), AgentUnavailable),
    "limited": (of("error", error={"type": "rate_limit_error", "message": "m"}), AgentUnavailable),
    "invalid": (of("error", error={"type": "invalid_request_error", "message": "m"}), AgentRefused),
    "a nameless error": (event({"error": {"message": "m"}}), AgentUnavailable),
    "text": ("event: error\ndata: boom\n\n", AgentUnavailable),
    "an error as reason": (stopped("error") + LAST, AgentUnavailable),
    "broken": ("event: x\ndata: {broken\n\n" + stopped() + LAST, AgentUnavailable),
    "an endless line": ("data: " + "a" * 9_000_000, AgentUnavailable),
}


@pytest.mark.parametrize("how", BROKEN_MESSAGES)
async def test_broken_messages_are_never_half_an_answer(
    how: str, claude: Callable[..., Any]
) -> None:
    """Fails without the boundary: a cut one is an answer to the library."""
    body, expected = BROKEN_MESSAGES[how]
    with pytest.raises(AgentError) as caught:
        await claude(begun() + block("half") + body)

    assert expected is type(caught.value)


@pytest.mark.parametrize("wrong", [1.5, -1, 10**20, "4", None])
@pytest.mark.parametrize("where", ["start", "end", "no usage"])
async def test_wrong_usage_of_messages_is_absent(
    where: str, wrong: object, claude: Callable[..., Any]
) -> None:
    start = (
        begun(usage={"input_tokens": wrong})
        if where == "start"
        else begun(**({"usage": None} if where == "no usage" else {}))
    )
    end = stopped(usage={"output_tokens": wrong} if where == "end" else None)
    told = await claude(start + block("ab") + end + LAST)

    assert ("ab", None) == (told.text, told.finish.usage)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("max_tokens", FinishReason.LENGTH),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("stop_sequence", FinishReason.STOP),
    ],
)
async def test_a_stop_reason_is_a_finish_reason(
    reason: str, expected: FinishReason, claude: Callable[..., Any]
) -> None:
    told = await claude(begun() + block("ab") + stopped(reason) + LAST)

    assert ("ab", expected) == (told.text, told.finish.reason)
