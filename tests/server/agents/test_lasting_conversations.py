"""Nothing that is stored makes a later request refused, by the strictest of providers."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import Agent

from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from support.fake_openai import Call, Fail, FakeOpenAI, Raw, Say, Stall
from support.services import Service, StartService, refused
from support.streams import next_of, rest_of
from support.strict_providers import (
    STRICTEST,
    Rule,
    anthropic_answer,
    anthropic_refuses,
    refuses_all_thoughts,
    strictly,
    wants_short_ids,
)


def now() -> str:
    return "noon"


def an_agent(kind: str = "openai-chat:any", base_url: str | None = None) -> PydanticAgent:
    model = model_of(kind, openai_base_url=base_url)
    return PydanticAgent(Agent(model, tools=[now], output_type=[str, type(None)]), model)


@pytest.fixture
def fake(request: pytest.FixtureRequest) -> Iterator[FakeOpenAI]:
    """A provider that says what the test's parameter says, then four times OK, and is strict."""
    steps = [*request.param, *[strictly(Say("OK"), *STRICTEST)] * 4]
    with FakeOpenAI(steps) as provider:
        yield provider


async def three_more(service: Service, conversation_id: str) -> list[str]:
    answers = [await service.chat(f"More {n}", conversation_id=conversation_id) for n in range(3)]
    return [answer.response for answer in answers]


BLANKS = {
    "line feeds": [Say("\n\n")],
    "a space": [Say(" ")],
    "nothing": [Say("")],
    "thoughts only": [Say("", thoughts="hm")],
    "thoughts in tags only": [Say("<think>hm</think>")],
    "cut in its thoughts": [Say("", thoughts="hm", finish="length")],
    "filtered": [Say("", finish="content_filter")],
    "a call, then nothing": [Say("", [Call("now")]), Say("")],
    "a call, then a space": [Say(" ", [Call("now")]), Say("\n")],
    "a call without arguments": [Say("", [Call("now", "")]), Say("Noon.")],
    "a call with null": [Say("", [Call("now", "null")]), Say("Noon.")],
    "two calls alike": [Say("", [Call("now", id="c"), Call("now", id="c")]), Say("Noon.")],
    "a call with words": [Say("", [Call("now", "noon")]), Say("Noon.")],
}


@pytest.mark.slow
@pytest.mark.parametrize("fake", BLANKS.values(), ids=BLANKS.keys(), indirect=True)
async def test_conversation_goes_on_after_an_answer_without_words(
    start_service: StartService, fake: FakeOpenAI
) -> None:
    """Promise 10. Fails when a blank answer is told as it is."""
    service = await start_service(an_agent(base_url=fake.base_url))
    first = await service.chat("I am Bob")

    assert ["OK"] * 3 == await three_more(service, first.conversation_id)


@pytest.mark.parametrize("fake", [BLANKS["thoughts only"], BLANKS["a space"]], indirect=True)
async def test_an_answer_without_words_stands_between_two_messages(
    start_service: StartService, fake: FakeOpenAI
) -> None:
    """Fails when an answer of thoughts alone is left out: the message before is asked again."""
    service = await start_service(an_agent(base_url=fake.base_url))
    first = await service.chat("I am Bob")
    await service.chat("More", conversation_id=first.conversation_id)

    told = [(m["role"], m["content"]) for m in fake.requests[1].json["messages"]]
    assert [("user", "I am Bob"), ("assistant", "(no text)"), ("user", "More")] == told


@pytest.mark.parametrize("fake", [[Stall()]], indirect=True)
async def test_message_of_a_turn_cancelled_before_a_word_is_not_told_again(
    start_service: StartService, fake: FakeOpenAI
) -> None:
    """Fails when it is joined with the next one: the model would do what was taken back."""
    service = await start_service(an_agent(base_url=fake.base_url))
    stream = service.stream("Delete all my files", request_id="r")
    started = (await next_of(stream, "started")).started
    while not fake.requests:
        await asyncio.sleep(0.01)
    await service.cancel(request_id="r")
    await rest_of(stream)

    assert ["OK"] * 3 == await three_more(service, started.conversation_id)
    for request in fake.requests[1:]:
        assert "Delete" not in str(request.json["messages"])


@pytest.mark.parametrize("fake", [[Fail(500)]], indirect=True)
async def test_message_of_a_failed_turn_is_not_told_again(
    start_service: StartService, fake: FakeOpenAI
) -> None:
    service = await start_service(an_agent(base_url=fake.base_url))
    with pytest.raises(Exception, match="unavailable"):
        await service.chat("Delete all my files", request_id="r")
    failed = await service.turn(request_id="r")

    assert ["OK"] * 3 == await three_more(service, failed.conversation_id)
    assert "Delete" not in str(fake.requests[1].json["messages"])


@pytest.mark.slow
async def test_conversation_with_anthropic_goes_on_after_blanks_and_calls(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anthropic's rules: roles in turn, no blank text, objects as input, results behind calls."""
    said = [
        anthropic_answer(
            {"type": "tool_use", "id": "t1", "name": "now", "input": {}}, stop="tool_use"
        ),
        anthropic_answer({"type": "text", "text": "\n\n"}),
        anthropic_answer({"type": "text", "text": " "}),
        anthropic_answer(),
    ]

    def ok(request: dict[str, Any]) -> Any:
        if anthropic_refuses(request):
            return Fail(400)
        return anthropic_answer({"type": "text", "text": "OK"})

    with FakeOpenAI([*said, ok]) as fake:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.base_url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        service = await start_service(an_agent("anthropic:claude-sonnet-5"))
        first = await service.chat("What time is it?")
        for n in range(2):
            await service.chat(f"Again {n}", conversation_id=first.conversation_id)

        assert ["OK"] * 3 == await three_more(service, first.conversation_id)


async def test_answers_of_one_provider_are_taken_by_another(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that is exchanged for another finds conversations that it can go on with."""
    script = [Say("", [Call("now", "", "x" * 60)], thoughts="hm"), Say("Noon.")]
    with FakeOpenAI(script) as one:
        service = await start_service(an_agent(base_url=one.base_url))
        first = await service.chat("What time is it?")

    def ok(request: dict[str, Any]) -> Any:
        if anthropic_refuses(request):
            return Fail(400)
        return anthropic_answer({"type": "text", "text": "OK"})

    with FakeOpenAI([ok]) as other:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", other.base_url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        service = await start_service(an_agent("anthropic:claude-sonnet-5"))

        assert ["OK"] * 3 == await three_more(service, first.conversation_id)


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        (refuses_all_thoughts, Say("", [Call("now", id="abcdefghi")], thoughts="hm")),
        (refuses_all_thoughts, Say("Wait.", [Call("now", id="abcdefghi")], thoughts="hm")),
        (wants_short_ids, Say("", [Call("now", id="call_0123456789abcdef01234567")])),
        (wants_short_ids, Say("", [Call("now", id="functions.now:0")])),
        (wants_short_ids, Say("", [Call("now", id="null")])),
        (wants_short_ids, Say("", [Call("now", id="")])),
    ],
)
async def test_a_provider_that_refuses_what_it_has_sent_itself_answers_with_tools(
    start_service: StartService, rule: Rule, first: Say
) -> None:
    """Promise 10. Fails when only the window is told more plainly, and not the turn's own calls.

    No tool runs twice.
    """
    calls = 0

    def now() -> str:
        nonlocal calls
        calls += 1
        return "noon"

    def answer(request: dict[str, Any]) -> Any:
        if rule(request["messages"]):
            return Fail(400, type="invalid_request_error")
        return Say("OK") if request["messages"][-1]["role"] == "tool" else first

    with FakeOpenAI([answer]) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        service = await start_service(PydanticAgent(Agent(model, tools=[now]), model))
        answered = await service.chat("Noon?")
        more = await three_more(service, answered.conversation_id)

    assert all(each.endswith("OK") for each in [answered.response, *more])
    assert 4 == calls


async def test_a_message_that_is_refused_from_some_day_on_ends_no_conversation(
    start_service: StartService,
) -> None:
    """Promise 10. Fails when only plainer forms are tried: a filter takes the words in none."""
    filtered = Fail(400, type="invalid_request_error", code="content_filter")

    def no_swords(request: dict[str, Any]) -> Any:
        return filtered if "sword" in str(request["messages"]) else Say("OK")

    script = [Say("A sword."), Say("OK"), Say("OK"), no_swords]
    with FakeOpenAI(script) as fake:
        service = await start_service(an_agent(base_url=fake.base_url))
        first = await service.chat("What is in the box?")

        assert ["OK"] * 3 == await three_more(service, first.conversation_id)
        assert "More 1" in str(fake.requests[-1].json["messages"]), "what may stay stays"


async def test_a_template_that_refuses_with_a_failure_ends_no_conversation(
    start_service: StartService,
) -> None:
    """llama.cpp answers 500 to what its model's template does not take."""
    body = {"error": {"code": 500, "message": "Jinja Exception: tools?", "type": "server_error"}}

    def no_calls(request: dict[str, Any]) -> Any:
        has_calls = any(m["role"] == "tool" for m in request["messages"])
        return Raw(json.dumps(body).encode(), 500) if has_calls else Say("OK")

    script = [Say("", [Call("now")]), Say("Noon."), no_calls]
    with FakeOpenAI(script) as fake:
        service = await start_service(an_agent(base_url=fake.base_url))
        first = await service.chat("Noon?")

        assert ["OK"] * 3 == await three_more(service, first.conversation_id)


async def test_a_model_that_is_not_there_is_not_asked_for_with_less_and_less(
    start_service: StartService,
) -> None:
    with FakeOpenAI([Say("OK"), Fail(404, code="model_not_found")]) as fake:
        service = await start_service(an_agent(base_url=fake.base_url))
        first = await service.chat("Hi")
        again = service.chat("Hi", conversation_id=first.conversation_id)

        assert ("FAILED_PRECONDITION", "AGENT_REFUSED") == await refused(again)
        assert 2 == len(fake.requests)


async def test_a_prompt_that_is_refused_as_such_is_refused_once(
    start_service: StartService,
) -> None:
    """There is no plainer form of words alone."""
    with FakeOpenAI([Fail(400)]) as fake:
        service = await start_service(an_agent(base_url=fake.base_url))

        assert ("FAILED_PRECONDITION", "AGENT_REFUSED") == await refused(service.chat("Hi"))
        assert 1 == len(fake.requests)
