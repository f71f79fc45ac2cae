"""What is recorded of agents and tools on other servers, and what those are told of it."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import grpc
import pytest

from parley_server.agents.a2a.agent import A2AAgent
from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.model_strings import model_of
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from support.a2a_scripted import (
    OTHERS_WORDS,
    Fails,
    Ids,
    Said,
    ScriptedRemote,
    a_piece,
    a_task,
    completed,
)
from support.fake_openai import Call, FakeOpenAI, Say
from support.mcp_children import a_table, notes_in
from support.otlp_receiver import Receiver, child_of, handed, named
from support.services import refused
from support.traced_workers import PARENT, TRACE, UNSAMPLED, Traced, chat, until_calls

pytestmark = pytest.mark.usefixtures("receiver")

ASKING = "invoke_agent"


def answer(ids: Ids) -> Iterator[Said]:
    yield a_task(ids)
    yield a_piece(ids, "Here I am")
    yield completed(ids, model="m-1", usage={"input_tokens": 5, "output_tokens": 3})


def without_end(ids: Ids) -> Iterator[Said]:
    yield a_task(ids)
    for number in count():
        yield a_piece(ids, "x" * 65_536, append=number > 0)


async def test_a_remote_agent_is_asked_under_a_span_of_its_own(
    start_traced: Traced, receiver: Receiver
) -> None:
    remote = ScriptedRemote(answer)
    async with remote.running():
        service = await start_traced(A2AAgent(remote.name))
        answered = await chat(service, "Hi", PARENT)
        spans = await until_calls(receiver)

    attempt = named(spans, "attempt")
    asking = child_of(spans, attempt, ASKING)
    assert "CLIENT" == asking.kind
    assert {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "a2a",
        "gen_ai.conversation.id": answered.conversation_id,
        "gen_ai.response.model": "m-1",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "server.address": "127.0.0.1",
        "server.port": remote.port,
    } == asking.attributes
    [heard] = remote.heard
    assert (TRACE, asking.id) == handed(heard.headers)
    assert heard.headers["traceparent"] == heard.request.metadata["traceparent"]
    assert [] == [span.name for span in spans if span.parent_id == asking.id]


async def test_a_failure_of_a_remote_agent_is_named_without_its_words(
    start_traced: Traced, receiver: Receiver
) -> None:
    remote = ScriptedRemote(lambda _: [Fails(grpc.StatusCode.UNAVAILABLE)])
    async with remote.running():
        service = await start_traced(A2AAgent(remote.name))
        await refused(chat(service))
        spans = await until_calls(receiver)

    asking = named(spans, ASKING)
    assert asking.is_error
    assert "AgentUnavailable" == asking.attributes["error.type"]
    assert not any(OTHERS_WORDS.encode() in data for data in receiver.requests)


async def test_the_span_of_an_agent_that_is_stopped_ends(
    start_traced: Traced, receiver: Receiver
) -> None:
    """Fails without the end in A2AAgent.run: the span never arrives."""
    remote = ScriptedRemote(without_end)
    async with remote.running():
        service = await start_traced(A2AAgent(remote.name))
        await chat(service)
        spans = await until_calls(receiver)

    assert not named(spans, ASKING).is_error


async def test_a_remote_agent_is_told_that_a_trace_is_not_recorded(
    start_traced: Traced, receiver: Receiver
) -> None:
    remote = ScriptedRemote(answer)
    async with remote.running():
        service = await start_traced(A2AAgent(remote.name))
        await chat(service, "Hi", UNSAMPLED)
        await chat(service)
        spans = await until_calls(receiver)

    assert TRACE not in {span.trace_id for span in spans}
    assert f"00-{TRACE}-" == remote.heard[0].headers["traceparent"][:36]
    assert "-00" == remote.heard[0].headers["traceparent"][-3:]


async def test_an_mcp_server_is_told_the_span_of_the_call(
    start_traced: Traced, receiver: Receiver, tmp_path: Path
) -> None:
    servers = McpServers({"tools": a_table(tmp_path, tools=["note"])})
    more = MoreTools(servers.for_agent(["tools"]))
    with FakeOpenAI([Say("", [Call("note", '{"text":"x"}')]), Say("Done.")]) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        service = await start_traced(PydanticAgent.of_model(model, more_tools=more))
        await chat(service, "Hi", PARENT)
        spans = await until_calls(receiver)
        await servers.close()

    calling = child_of(spans, named(spans, "invoke_agent any"), "execute_tool note")
    [note] = notes_in(tmp_path)
    assert (TRACE, calling.id) == handed(note["meta"])
