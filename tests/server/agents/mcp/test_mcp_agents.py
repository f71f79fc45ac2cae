"""Agents with tools of MCP servers: on the worker's loop, and users' own in a thread."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent

from parley_server.agents.errors import BadAgent, ToolNameTaken
from parley_server.agents.file.definitions import McpServer
from parley_server.agents.mcp import connection
from parley_server.agents.mcp.connection import NOT_REACHED
from parley_server.agents.mcp.listing import MAX_TOOLS
from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.mcp.toolset import MAX_ARGUMENTS_BYTES, NO_JSON, TOO_LONG
from parley_server.agents.model_strings import model_of
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.agents.steps import call_key
from parley_server.agents.threaded import ThreadedAgent
from parley_server.core.errors import AgentUnavailable
from parley_server.core.tracing import Trace, current_trace
from support.agent_runs import a_run, told_by
from support.fake_openai import Call, FakeOpenAI, Say
from support.kept_steps import KeptSteps, Worker, attempt
from support.mcp_children import a_garbage_table, a_table, a_text, a_tool, is_alive, notes_in, until
from support.waiting_turns import a_caller_tool

Serve = Callable[..., McpServers]


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Make servers of tables; all are closed at the end."""
    monkeypatch.setattr(connection, "RETRY_S", (0.0, 0.0))
    made: list[McpServers] = []

    def serving(**tables: McpServer) -> McpServers:
        made.append(McpServers(tables))
        return made[-1]

    yield serving
    for servers in made:
        await servers.close()


def an_agent(fake: FakeOpenAI, servers: McpServers, *names: str, **fields: Any) -> PydanticAgent:
    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    more = MoreTools(servers.for_agent(names))
    return PydanticAgent(Agent(model, **fields), model, more_tools=more)


def asking(*calls: Call) -> FakeOpenAI:
    return FakeOpenAI([Say("", calls), Say("Done.")])


def told_names(fake: FakeOpenAI) -> list[str]:
    """Return the tools that the model was told of last."""
    return [tool["function"]["name"] for tool in fake.requests[-1].json.get("tools", [])]


def a_shop(*tools: str, **more: Any) -> McpServer:
    results = {tool: a_text(f"{tool} done") for tool in tools}
    return a_garbage_table({"tools": [a_tool(tool) for tool in tools], "results": results, **more})


async def test_model_gets_the_tools_and_the_server_gets_key_turn_and_trace(
    serve: Serve, tmp_path: Path
) -> None:
    """Fails if the key is not taken from the call's own context."""
    servers = serve(shop=a_table(tmp_path))
    trace = Trace.read(f"00-{'1' * 32}-{'2' * 16}-01", "")
    run = a_run()
    with asking(Call("note", '{"text":"a"}'), Call("note", '{"text":"b"}')) as fake:
        token = current_trace.set(trace)
        told = await told_by(an_agent(fake, servers, "shop"), run)
        current_trace.reset(token)

    assert ["noted a", "noted b"] == [call.result for call in told.calls]
    assert "Done." == told.text
    meta = {note["text"]: note["meta"] for note in notes_in(tmp_path)}
    for position, text in enumerate("ab"):
        assert call_key(run.turn_id, 1, position) == meta[text]["parley/call_key"]
        assert str(run.turn_id) == meta[text]["parley/turn_id"]
        assert "1" * 32 in meta[text]["traceparent"]


async def test_users_agent_in_its_thread_has_its_own_tools_and_the_servers(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "agent_with_servers.py").write_text(
        "import threading\nfrom pydantic_ai import Agent\n"
        'agent = Agent("openai-chat:any", defer_model_check=True)\n'
        "@agent.tool_plain\nasync def where() -> str:\n"
        "    return threading.current_thread().name\n"
    )
    servers = serve(shop=a_shop("look"))
    with asking(Call("where"), Call("look")) as fake:
        agent = ThreadedAgent(
            "agent_with_servers",
            "agent",
            openai_base_url=fake.base_url,
            more_tools=MoreTools(servers.for_agent(["shop"])),
        )
        told = await told_by(agent)
        await agent.close()

    assert [("where", "agent agent_with_servers:agent"), ("look", "look done")] == [
        (call.name, call.result) for call in told.calls
    ]


async def test_turn_fails_if_a_server_was_never_reached_and_goes_on_once_it_is(
    serve: Serve, tmp_path: Path
) -> None:
    flag = tmp_path / "may-start"
    table = a_shop("look")
    start = f'test -e {flag} && echo $$ > {tmp_path}/pid && exec "$@"'
    command = ["sh", "-c", start, "-", *(table.command or [])]
    servers = serve(shop=table.model_copy(update={"command": command}))
    with asking(Call("look")) as fake:
        agent = an_agent(fake, servers, "shop")
        with pytest.raises(AgentUnavailable):
            await told_by(agent)
        assert [] == fake.requests
        flag.touch()
        told = await told_by(agent)

        assert ["look done"] == [call.result for call in told.calls]

        flag.unlink()
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not is_alive(pid))
        with asking(Call("look")) as again:
            told = await told_by(an_agent(again, servers, "shop"))

    assert [(NOT_REACHED, True)] == [(call.result, call.is_error) for call in told.calls]
    assert "Done." == told.text


async def test_names_are_the_agents_own_first_then_the_first_servers(serve: Serve) -> None:
    def look() -> str:
        return "my own"

    servers = serve(a=a_shop("look", "see"), b=a_shop("see"))
    with asking(Call("look"), Call("a_look"), Call("see"), Call("b_see")) as fake:
        told = await told_by(an_agent(fake, servers, "a", "b", tools=[look]))

        assert {"look", "a_look", "see", "b_see"} == set(told_names(fake))
    assert ["my own", "look done", "see done", "see done"] == [c.result for c in told.calls]


async def test_500_tools_are_cut_to_what_models_bear(serve: Serve) -> None:
    tools = [f"tool_{n}" for n in range(500)]
    servers = serve(shop=a_garbage_table({"tools": [a_tool(t) for t in tools], "results": {}}))
    with FakeOpenAI([Say("Done.")]) as fake:
        assert "Done." == (await told_by(an_agent(fake, servers, "shop"))).text

        assert tools[:MAX_TOOLS] == told_names(fake)


async def test_schemas_that_models_libraries_stumble_over_do_not_end_the_turn(
    serve: Serve,
) -> None:
    schemas = [
        {"properties": {"x": {"$ref": "#"}}},
        {"properties": {"x": {"$ref": "#/properties/y"}, "y": {"$ref": "#/properties/x"}}},
        {"properties": {"x": {"allOf": [{"$ref": "#/properties/x"}]}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"x": {"$ref": "#/$defs/a"}}}}},
        {"properties": {"x": False}, "patternProperties": {"(": {}}},
        {"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"x": {}}},
        {"anyOf": [{"type": "object"}, {"type": "null"}]},
        {"properties": {"x": {"const": 10**400}}},
    ]
    tools = [a_tool(f"odd_{n}", schema) for n, schema in enumerate(schemas)]
    servers = serve(shop=a_garbage_table({"tools": [*tools, a_tool()], "results": {}}))
    for model in ("openai-chat:any", "openai-responses:any", "openai-chat:gpt-5"):
        with FakeOpenAI([Say("Done.")]) as fake:
            of_model = model_of(model, openai_base_url=fake.base_url)
            more = MoreTools(servers.for_agent(["shop"]))
            told = await told_by(PydanticAgent.of_model(of_model, more_tools=more))

            assert "Done." == told.text
            assert '"look"' in json.dumps(fake.requests[-1].json["tools"])


async def test_list_that_changes_counts_from_the_next_turn_on(serve: Serve, tmp_path: Path) -> None:
    servers = serve(shop=a_table(tmp_path))
    with asking(Call("learn", '{"name":"dance"}')) as fake:
        await told_by(an_agent(fake, servers, "shop"))
        assert "dance" not in told_names(fake)
    with asking(Call("dance")) as fake:
        told = await told_by(an_agent(fake, servers, "shop"))

    assert ["I am dance."] == [call.result for call in told.calls]


async def test_arguments_that_cannot_be_sent_do_not_go_to_the_server(
    serve: Serve, tmp_path: Path
) -> None:
    """Fails if they go on: the library sends null for what JSON does not have."""
    servers = serve(shop=a_shop("look", calls=str(tmp_path / "calls")))
    wrong = [json.dumps({"x": "y" * MAX_ARGUMENTS_BYTES}), '{"x":1e999}', '{"x":NaN}']
    calls = [Call("look", arguments) for arguments in wrong]
    with FakeOpenAI([Say("", calls, piece=65536), Say("Done.")]) as fake:
        told = await told_by(an_agent(fake, servers, "shop"))

    assert [TOO_LONG, NO_JSON, NO_JSON] == [call.result for call in told.calls]
    assert not (tmp_path / "calls").exists()


async def test_callers_tool_with_the_name_of_a_servers_is_refused(serve: Serve) -> None:
    servers = serve(shop=a_shop("look"))
    run = replace(a_run(), tools=(a_caller_tool("look"),))
    with asking() as fake, pytest.raises(ToolNameTaken):
        await told_by(an_agent(fake, servers, "shop"), run)


POINTS = 9


@pytest.mark.parametrize("dies_at", range(1, POINTS + 1))
async def test_call_with_a_result_does_not_run_again_after_a_crash(
    serve: Serve, tmp_path: Path, dies_at: int
) -> None:
    """Fails if results are not stored before the run goes on."""
    calls = tmp_path / "calls"
    servers = serve(shop=a_shop("look", "see", calls=str(calls)))
    worker = Worker()
    steps, run = KeptSteps(worker), a_run()
    script = [Say("", [Call("look", id="c1")]), Say("", [Call("see", id="c2")]), Say("Done.")]

    def speak(request: dict[str, Any]) -> Say:
        results = sum(message["role"] == "tool" for message in request["messages"])
        return script[results]

    with FakeOpenAI([speak]) as fake:
        agent = an_agent(fake, servers, "shop")
        worker.lives_anew(dies_at)
        told = await attempt(agent, run, steps)
        before = [json.loads(s.body)["place"] for s in steps.stored if s.kind.name == "RESULT"]
        ran_before = len(calls.read_text().splitlines()) if calls.exists() else 0
        if told is None:
            worker.lives_anew()
            told = await attempt(agent, run, steps)

    assert told is not None
    assert ["look done", "see done"] == [call.result for call in told.calls]
    ran = [json.loads(line) for line in calls.read_text().splitlines()]
    with_result = {call_key(run.turn_id, *place) for place in before}
    again = {each["_meta"]["parley/call_key"] for each in ran[ran_before:]}
    assert set() == with_result & again
    assert 2 == len({(each["name"], each["_meta"]["parley/call_key"]) for each in ran})


@pytest.mark.slow
async def test_many_turns_at_once_share_a_server(serve: Serve, tmp_path: Path) -> None:
    servers = serve(shop=a_table(tmp_path))

    def speak(request: dict[str, Any]) -> Say:
        has_result = any(message["role"] == "tool" for message in request["messages"])
        return Say("Done.") if has_result else Say("", [Call("where")] * 3)

    with FakeOpenAI([speak]) as fake:
        agent = an_agent(fake, servers, "shop")
        told = await asyncio.gather(*(told_by(agent) for _ in range(10)))

    assert 30 == sum(len(each.calls) for each in told)
    assert 1 == len({call.result for each in told for call in each.calls})


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({}, "set either command"),
        ({"command": ["x"], "url": "http://x/"}, "set either command"),
        ({"command": []}, "command needs a program"),
        ({"command": [" "]}, "command needs a program"),
        ({"command": ["x", "\0"]}, "NUL"),
        ({"command": ["x"], "headers": {"A": "b"}}, "headers are for a server with url"),
        ({"url": "http://x/", "env": {"A": "b"}}, "env and cwd are for a server with command"),
        ({"url": "http://x/", "cwd": "/"}, "env and cwd are for a server with command"),
        ({"url": "ftp://x/"}, "url must begin with"),
        ({"url": "/mcp"}, "url must begin with"),
        ({"url": "http://"}, "url must begin with"),
        ({"url": "http://a:b@x/"}, "put it into headers"),
    ],
)
def test_table_that_cannot_be_right_is_refused_with_its_name(
    table: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BadAgent) as refused:
        McpServers({"shop": McpServer.model_validate(table)})

    assert str(refused.value).startswith("[mcp.shop]: ")
    assert complaint in str(refused.value)


def test_agent_that_names_a_table_that_is_not_there_is_refused() -> None:
    servers = McpServers({"shop": McpServer(url="http://127.0.0.1:9/")})

    with pytest.raises(BadAgent, match=r"no table \[mcp.sohp\]; there is: shop"):
        servers.for_agent(["sohp"])
