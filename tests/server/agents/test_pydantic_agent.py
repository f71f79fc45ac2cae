"""Runs of a model and of users' agents, against a provider on the wire."""

import asyncio
import resource
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, RunContext

from parley_server.agents.catalog import close_agent, create_agent
from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.attempts.transcript import MAX_TEXT_BYTES, Transcript
from parley_server.core.model import Finish, FinishReason, Role, Text, Usage, WindowMessage
from support.agent_runs import a_run, a_user_message, an_answer, told_by
from support.fake_openai import Call, FakeOpenAI, Say

BOTH = pytest.mark.parametrize("name", ["openai-chat:any", "openai:any"])


def a_users_agent(fake: FakeOpenAI, **options: Any) -> tuple[PydanticAgent, Agent[None, Any]]:
    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    agent: Agent[None, Any] = Agent(model, **options)
    return PydanticAgent(agent, model), agent


@BOTH
async def test_text_goes_on_in_pieces_and_ends_with_finish(name: str) -> None:
    with FakeOpenAI([Say("Hello, how are you?")]) as fake:
        told = await told_by(create_agent(name, openai_base_url=fake.base_url))

    assert "Hello, how are you?" == told.text
    assert len(told.pieces) > 2
    assert Finish(FinishReason.STOP, "fake-1", Usage(11, 7, 3, 1)) == told.finish


async def test_pieces_come_while_the_provider_still_speaks() -> None:
    with FakeOpenAI([Say("Hello, how are you?", stall_after=3)]) as fake:
        agent = create_agent("openai-chat:any", openai_base_url=fake.base_url)
        async with aclosing(agent.run(a_run())) as events:
            assert Text("Hell") == await asyncio.wait_for(anext(events), 10)

        assert await asyncio.to_thread(fake.requests[0].left.wait, 5), "closing stops the run"


async def test_usage_that_the_provider_does_not_tell_is_unknown() -> None:
    with FakeOpenAI([Say("Hello.", usage=None)]) as fake:
        told = await told_by(create_agent("openai-chat:any", openai_base_url=fake.base_url))

    assert Finish(FinishReason.STOP, "fake-1", None) == told.finish


@BOTH
async def test_an_empty_answer_is_an_answer_for_one_request(name: str) -> None:
    with FakeOpenAI([Say("")]) as fake:
        told = await told_by(create_agent(name, openai_base_url=fake.base_url))

        assert ("", [], 1) == (told.text, told.calls, len(fake.requests))
    assert Finish(FinishReason.STOP, "fake-1", Usage(11, 7, 3, 1)) == told.finish


@pytest.mark.parametrize("text", ["Some text", ""])
@pytest.mark.parametrize(
    ("finish", "expected"),
    [("length", FinishReason.LENGTH), ("content_filter", FinishReason.CONTENT_FILTER)],
)
async def test_an_answer_that_was_cut_keeps_its_text_and_says_why(
    text: str, finish: str, expected: FinishReason
) -> None:
    with FakeOpenAI([Say(text, finish=finish)]) as fake:
        told = await told_by(create_agent("openai-chat:any", openai_base_url=fake.base_url))

        assert 1 == len(fake.requests)
    assert text == told.text
    assert told.finish is not None
    assert (expected, Usage(11, 7, 3, 1)) == (told.finish.reason, told.finish.usage)


async def test_a_call_that_was_cut_by_the_models_limit_ends_the_run() -> None:
    with FakeOpenAI([Say("Well. ", [Call("look", '{"x":')], finish="length")]) as fake:
        agent, inner = a_users_agent(fake)
        inner.tool_plain(look)
        told = await told_by(agent)

        assert 1 == len(fake.requests)
    assert "Well. " == told.text
    assert told.finish is not None
    assert FinishReason.LENGTH is told.finish.reason


def look(x: int = 0) -> str:
    return f"found {x}"


async def test_text_that_is_no_unicode_goes_on_and_can_be_stored() -> None:
    """JSON can hold half a surrogate pair and NUL, and Python takes both; Postgres does not."""
    with FakeOpenAI([Say("a\ud800b\x00c", piece=100)]) as fake:
        told = await told_by(create_agent("openai-chat:any", openai_base_url=fake.base_url))
    transcript = Transcript("any")

    for piece in told.pieces:
        transcript.add(Text(piece))

    assert "a\ufffdb\ufffdc" == transcript.answer().text


async def test_fifty_megabytes_are_left_where_the_limit_is_reached() -> None:
    """Without backpressure up to the socket, all of it would lie in memory."""
    with FakeOpenAI([Say("x" * 50_000_000, piece=16_384)]) as fake:
        agent = create_agent("openai-chat:any", openai_base_url=fake.base_url)
        transcript = Transcript("any")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        async with aclosing(agent.run(a_run())) as events:
            async for event in events:
                transcript.add(event)
                if transcript.is_closed:
                    break

        assert await asyncio.to_thread(fake.requests[0].left.wait, 5)
        assert MAX_TEXT_BYTES == len(transcript.answer().text)
        assert FinishReason.LENGTH is transcript.answer().finish_reason
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 30_000


async def test_arguments_without_end_end_the_run() -> None:
    with FakeOpenAI([Say("", [Call("look", "x" * 20_000_000)], piece=65_536)]) as fake:
        agent, inner = a_users_agent(fake)
        inner.tool_plain(look)
        told = await told_by(agent)

        assert await asyncio.to_thread(fake.requests[0].left.wait, 5)
    assert Finish(FinishReason.LENGTH, "any", None) == told.finish


async def test_parleys_instructions_come_after_the_agents_own() -> None:
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent, _ = a_users_agent(fake, instructions="Own.", system_prompt="Prompt.")
        earlier = [a_user_message("One"), an_answer("Two")]
        await told_by(agent, a_run("Now", earlier=earlier, instructions="Parley's."))

        assert [
            ("system", "Prompt.\n\nOwn.\n\nParley's."),
            ("user", "One"),
            ("assistant", "Two"),
            ("user", "Now"),
        ] == [(m["role"], m["content"]) for m in fake.requests[0].json["messages"]]


async def test_instructions_reach_the_responses_protocol_as_well() -> None:
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent = create_agent("openai:any", openai_base_url=fake.base_url)
        await told_by(agent, a_run("Now", instructions="Be kind."))

        assert "Be kind." in str(fake.requests[0].json)
        assert "/v1/responses" == fake.requests[0].path


class City(BaseModel):
    name: str


async def test_a_structured_output_is_json_text_once() -> None:
    with FakeOpenAI([Say("", [Call("final_result", '{"name": "Rome"}')])]) as fake:
        agent, _ = a_users_agent(fake, output_type=City)
        told = await told_by(agent)

    assert ('{"name":"Rome"}', []) == (told.text, told.calls)
    assert told.finish is not None
    assert FinishReason.STOP is told.finish.reason


async def test_a_structured_output_that_comes_as_text_is_not_repeated() -> None:
    with FakeOpenAI([Say('{"name": "Rome"}')]) as fake:
        agent, _ = a_users_agent(fake, output_type=NativeOutput(City))
        told = await told_by(agent)

    assert '{"name": "Rome"}' == told.text


async def test_tools_are_told_of_the_turn_beside_the_agents_own_metadata() -> None:
    """The turn id stays the same over attempts, so that a tool can be idempotent."""
    seen: list[dict[str, Any] | None] = []
    with FakeOpenAI([Say("", [Call("pay")]), Say("Paid.")]) as fake:
        agent, inner = a_users_agent(fake, metadata={"team": "billing"})

        @inner.tool
        def pay(ctx: RunContext[None]) -> str:
            seen.append(ctx.metadata)
            return "ok"

        run = a_run()
        await told_by(agent, run)

    (metadata,) = seen
    assert metadata is not None
    expected = {
        "turn_id": str(run.turn_id),
        "conversation_id": str(run.conversation_id),
        "attempt": 1,
        "tenant": "acme",
        "user": "ann",
    }
    assert expected == {key: metadata[key] for key in expected}
    assert "billing" == metadata["team"]


async def test_what_a_users_code_raises_is_raised_as_it_is() -> None:
    """The core says AgentUnavailable, and logs the type and the place of what was raised."""
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent, inner = a_users_agent(fake)

        @inner.instructions
        def broken() -> str:
            raise LookupError

        with pytest.raises(LookupError):
            await told_by(agent)


async def test_a_system_message_in_the_window_does_not_break_a_run() -> None:
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent = create_agent("openai-chat:any", openai_base_url=fake.base_url)
        told = await told_by(agent, a_run(earlier=[WindowMessage(1, Role.SYSTEM, "Note.")]))

    assert "Fine." == told.text


async def test_many_runs_at_once_share_a_connection_pool_and_close_gives_it_back() -> None:
    with FakeOpenAI([Say("Hello there.")]) as fake:
        agent = create_agent("openai-chat:any", openai_base_url=fake.base_url)

        answers = await asyncio.gather(*(told_by(agent) for _ in range(50)))

        assert {"Hello there."} == {told.text for told in answers}
        await close_agent(agent)
