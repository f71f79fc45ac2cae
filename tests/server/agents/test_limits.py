"""Limits of each kind of agent that is here: the suite, and what is each kind's own."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from pydantic_ai import Agent as PlainAgent

from parley_server.agents.a2a.agent import A2AAgent
from parley_server.agents.catalog import create_agent
from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.model_strings import model_of
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.attempts.transcript import MOST_BYTES_A_TOKEN, Transcript
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import AgentLimits, FinishReason
from parley_server.core.ports import Agent
from support.a2a_scripted import (
    Hangs,
    Ids,
    Said,
    ScriptedRemote,
    a_piece,
    a_task,
    completed,
)
from support.agent_limits import LimitsSuite
from support.agent_runs import a_call, a_run, told_by
from support.fake_openai import Call, Fail, FakeOpenAI, Forever, Say, Stall
from support.kept_steps import KeptSteps, attempt
from support.mcp_children import a_table
from support.openai_script import Json, Step
from support.wire_provider import an_agent, chunk

ALL = frozenset({"hang", "text", "forever", "calls", "arguments", "result"})


def obey(request: Json) -> Step:
    """Do what the words of support.agent_limits ask for."""
    messages = request["messages"]
    last = max(n for n, message in enumerate(messages) if message["role"] == "user")
    results = len(messages) - last - 1
    match str(messages[last]["content"]).split():
        case ["hang", "tool"] if results == 0:
            return Say("", calls=[Call("work", '{"text":"hang"}', "0")])
        case ["hang"]:
            return Stall()
        case ["text", size]:
            return Say("x" * int(size), piece=512)
        case ["forever"]:
            return Forever(
                chunk({"role": "assistant"}).encode(), chunk({"content": "x" * 1024}).encode()
            )
        case ["calls", count] if request.get("tools"):
            calls = [Call("work", '{"text":"x"}', f"{results}-{n}") for n in range(int(count))]
            return Say("", calls=calls)
        case ["arguments" | "result" as what, size] if results == 0:
            text = "x" * int(size) if what == "arguments" else f"result {size}"
            return Say("", calls=[Call("work", json.dumps({"text": text}), "0")], piece=4096)
    return Say("done")


def work(text: str) -> str:
    word, _, size = text.partition(" ")
    return "y" * int(size) if word == "result" else "worked"


class TestLimitsOfAModel(LimitsSuite):
    words = ALL

    @pytest.fixture
    def agent(self) -> Iterator[Agent]:
        with FakeOpenAI([obey]) as fake:
            yield an_agent(fake.base_url, work)


class TestLimitsOfAUsersAgent(LimitsSuite):
    words = ALL

    @pytest.fixture
    def agent(self) -> Agent:
        return create_agent("python:support.limited_module:agent")


class TestLimitsOfEcho(LimitsSuite):
    words = frozenset({"text"})

    @pytest.fixture
    def agent(self) -> Agent:
        return create_agent("echo")

    def message(self, words: str) -> str:
        return "x" * int(words.removeprefix("text "))


class TestLimitsOfASlowEcho(LimitsSuite):
    words = frozenset({"hang"})

    @pytest.fixture
    def agent(self) -> Agent:
        return create_agent("echo:60")


class TestLimitsOfAModelWithToolsOfAnMcpServer(LimitsSuite):
    """Its hanging is in a tool."""

    words = ALL

    @pytest.fixture
    async def agent(self, tmp_path: Path) -> AsyncIterator[Agent]:
        servers = McpServers({"work": a_table(tmp_path, tools=["work"], timeout_s=60)})
        more = MoreTools(servers.for_agent(["work"]))
        with FakeOpenAI([obey]) as fake:
            model = model_of("openai-chat:any", openai_base_url=fake.base_url)
            yield PydanticAgent.of_model(model, more_tools=more)
            await servers.close()

    def message(self, words: str) -> str:
        return "hang tool" if words == "hang" else words


class TestLimitsOfARemoteAgent(LimitsSuite):
    """Its tools are its own affair."""

    words = frozenset({"hang", "text", "forever"})

    @pytest.fixture
    async def agent(self) -> AsyncIterator[Agent]:
        remote = ScriptedRemote(lambda ids: obey_remotely(remote, ids))
        async with remote.running():
            yield A2AAgent(remote.name)


def obey_remotely(remote: ScriptedRemote, ids: Ids) -> Iterator[Said]:
    """Do what the words of support.agent_limits ask for, as a remote agent."""
    yield a_task(ids)
    match remote.heard[-1].request.message.parts[0].text.split():
        case ["hang"]:
            yield Hangs()
        case ["text", size]:
            yield a_piece(ids, "x" * int(size))
        case ["forever"]:
            for number in count():
                yield a_piece(ids, "x" * 1024, append=number > 0)
    yield completed(ids)


async def tokens_asked_for(limits: AgentLimits, **usage: tuple[int, int, int]) -> list[int | None]:
    """Return what each request of an answer tells the model of how many tokens are left."""
    script = [Say("", calls=[Call("work", '{"text":"x"}')], **usage)] * 3 + [Say("done")]
    with FakeOpenAI(script) as fake:
        agent = an_agent(fake.base_url, work)
        told = await told_by(agent, replace(a_run(), limits=limits))
        await agent.close()
    assert told.finish is not None
    expected = FinishReason.STOP if len(fake.requests) == 4 else FinishReason.LENGTH
    assert expected is told.finish.reason
    return [
        request.json.get("max_completion_tokens", request.json.get("max_tokens"))
        for request in fake.requests
    ]


async def test_each_request_tells_the_model_how_many_tokens_are_left() -> None:
    """Fails without OutputLimit: the requests say nothing."""
    spent = (11, 30, 0)

    assert [None] * 4 == await tokens_asked_for(AgentLimits(), usage=spent)
    assert [200, 170, 140, 110] == await tokens_asked_for(
        AgentLimits(output_tokens=200), usage=spent
    )
    assert [70, 40] == await tokens_asked_for(AgentLimits(output_tokens=70), usage=spent)


async def test_tokens_are_estimated_where_the_provider_does_not_tell() -> None:
    left = await tokens_asked_for(AgentLimits(output_tokens=100), usage=None)

    assert [100, 97, 94, 91] == left


async def test_a_model_that_heeds_no_limit_is_cut_over_all_attempts_together() -> None:
    """Fails where each attempt counts the bytes that it has said anew."""
    script: list[Step] = [
        Say("x" * 600, calls=[Call("work", '{"text":"x"}')]),
        Fail(500),
        Say("y" * 600),
    ]
    limits = AgentLimits(output_tokens=40)
    run, steps = replace(a_run(), limits=limits), KeptSteps()
    with FakeOpenAI(script) as fake:
        agent = an_agent(fake.base_url, work)
        with pytest.raises(AgentUnavailable):
            await attempt(agent, run, steps)
        told = await attempt(agent, run, steps)

    assert told is not None
    assert FinishReason.LENGTH is told.finish.reason
    assert 600 < len(told.text) < 40 * MOST_BYTES_A_TOKEN + 100


async def test_a_limit_that_a_users_agent_has_set_itself_stays_if_it_is_lower() -> None:
    with FakeOpenAI([Say("done")]) as fake:
        model = model_of("openai-chat:x", openai_base_url=fake.base_url)
        agent = PydanticAgent(PlainAgent(model, model_settings={"max_tokens": 20}), model)
        for tokens in (1000, 16):
            await told_by(agent, replace(a_run(), limits=AgentLimits(output_tokens=tokens)))
        await agent.close()

    sent = [request.json for request in fake.requests]
    assert [20, 16] == [r.get("max_completion_tokens", r.get("max_tokens")) for r in sent]


async def test_calls_of_a_model_that_was_given_no_tools_end_the_answer_and_do_not_run() -> None:
    ran: list[str] = []

    def work(text: str) -> str:
        ran.append(text)
        return "worked"

    with FakeOpenAI([Say("Well.", calls=[Call("work", '{"text":"x"}')])]) as fake:
        agent = an_agent(fake.base_url, work)
        told = await told_by(agent, replace(a_run(), limits=AgentLimits(tool_calls=0)))
        await agent.close()

    assert (FinishReason.LENGTH, []) == (told.finish.reason, ran)
    assert "tools" not in fake.requests[0].json


async def test_no_tool_runs_beyond_the_limit() -> None:
    """Fails without the check in RunSteps.call: the transcript is full only once all have run."""
    ran: list[str] = []

    def work(text: str) -> str:
        ran.append(text)
        return "worked"

    calls = [Call("work", json.dumps({"text": str(n)}), f"c{n}") for n in range(5)]
    with FakeOpenAI([Say("", calls=calls)]) as fake:
        agent = an_agent(fake.base_url, work)
        transcript = Transcript.limited("x", limits := AgentLimits(tool_calls=2))
        async with aclosing(agent.run(replace(a_run(), limits=limits))) as events:
            async for event in events:
                transcript.add(event)
                if transcript.is_closed:
                    break
        await agent.close()

    assert ["0", "1"] == sorted(ran)
    assert 2 == len(transcript.answer().tool_calls)


async def test_echo_is_cut_at_its_tokens() -> None:
    limits = AgentLimits(output_tokens=16)
    told = await told_by(create_agent("echo"), replace(a_run("x" * 100), limits=limits))

    assert ("x" * 64, FinishReason.LENGTH) == (told.text, told.finish.reason)


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (1, 1), (None, 3)])
def test_transcript_of_an_agent_that_heeds_no_limit_is_full_at_its_calls(
    limit: int | None, kept: int
) -> None:
    """Fails where 0 counts as no limit."""
    transcript = Transcript.limited("x", AgentLimits(tool_calls=limit))

    for number in range(3):
        transcript.add(a_call(f"c{number}"))

    assert kept == len(transcript.answer().tool_calls)
    assert transcript.is_closed is (limit is not None)
