"""What a run has used is told as its responses end, so that one that fails is counted too."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from pydantic_ai import Agent

from parley_server.agents.catalog import create_agent
from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.errors import AgentRefused, AgentUnavailable
from parley_server.core.model import AgentEvent, Finish, Spent, ToolCall, Usage
from support.agent_runs import a_run, a_user_message, an_answer
from support.fake_openai import Call, Fail, FakeOpenAI, Raw, Say
from support.wire_provider import a_stream, chunk, event

ONE, TWO = Usage(11, 7, 3, 1), Usage(22, 14, 6, 2)
ASK = Say("", [Call("look")])


def look() -> str:
    return "found"


def an_agent(fake: FakeOpenAI) -> PydanticAgent:
    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    return PydanticAgent(Agent(model, tools=[look]), model)


async def told_until_it_failed(
    script: list[Say | Fail | Raw], error: type[Exception]
) -> list[AgentEvent]:
    events: list[AgentEvent] = []
    with FakeOpenAI(script) as fake:
        run = an_agent(fake).run(a_run())
        with pytest.raises(error):
            await _gather(run, events)
    return events


async def _gather(run: AsyncIterator[AgentEvent], into: list[AgentEvent]) -> None:
    async for found in run:
        into.append(found)  # noqa: PERF401 - what comes before an error is to be kept


def spent(events: list[AgentEvent]) -> list[Usage]:
    return [event.usage for event in events if isinstance(event, Spent)]


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (Fail(500), AgentUnavailable),
        (Fail(401), AgentRefused),
        (Say("half a", cut_after=1), AgentUnavailable),
    ],
)
async def test_run_that_fails_tells_of_the_responses_before(
    last: Say | Fail, error: type[Exception]
) -> None:
    """Fails when usage is told at the end only: then a failed run has cost nothing."""
    used = spent(await told_until_it_failed([ASK, ASK, last], error))

    assert TWO[:2] == used[-1][:2]
    assert ONE == used[0]


async def test_run_that_fails_at_once_has_used_no_tokens() -> None:
    used = spent(await told_until_it_failed([Fail(401)], AgentRefused))

    assert not any(usage.input_tokens or usage.output_tokens for usage in used)


@pytest.mark.parametrize(
    "broken", [chunk({}, None, error={"code": 500}), chunk({}, "error"), "data: {", ""]
)
@pytest.mark.parametrize("text", ["", "half an answer"])
async def test_usage_so_far_of_a_stream_that_breaks_counts(text: str, broken: str) -> None:
    """Fails when usage is told with the end of a response alone."""
    body = chunk({"content": text}, usage={"prompt_tokens": 11, "completion_tokens": 7})
    used = spent(await told_until_it_failed([a_stream(body + broken)], AgentUnavailable))

    assert (11, 7) == used[-1][:2]


async def test_usage_of_a_message_that_breaks_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = {"type": "message_start", "message": {"usage": {"input_tokens": 11}}}
    events: list[AgentEvent] = []
    with FakeOpenAI([a_stream(event(begun, "message_start"))]) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.base_url)
        with pytest.raises(AgentUnavailable):
            await _gather(create_agent("anthropic:claude-sonnet-5").run(a_run()), events)

    assert 11 == spent(events)[-1].input_tokens


async def test_run_that_is_stopped_at_its_tools_has_told_of_their_response() -> None:
    with FakeOpenAI([ASK, Say("Done.")]) as fake:
        async with aclosing(an_agent(fake).run(a_run())) as events:
            seen = [await anext(events)]
            while not isinstance(seen[-1], ToolCall | Finish):
                seen.append(await anext(events))

    assert [ONE] == spent(seen)


async def test_what_was_spent_does_not_keep_a_window_from_being_halved() -> None:
    """It is nothing that was said. Fails when it counts as such: the run then ends refused."""
    earlier = [a_user_message("one"), an_answer("1"), a_user_message("two", 3)]
    too_long = Fail(400, code="context_length_exceeded")
    run = a_run(earlier=[*earlier, an_answer("2", sequence=4)])
    with FakeOpenAI([too_long, Say("Done.")]) as fake:
        events = [event async for event in an_agent(fake).run(run)]

    assert isinstance(events[-1], Finish)
