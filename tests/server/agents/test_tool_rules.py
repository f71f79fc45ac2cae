"""Rules of the agents file for tools, whoever defines them: over waiting and steps as they are."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.toolsets import ExternalToolset, FunctionToolset

from parley_server.agents.errors import BadAgent, ToolNameTaken
from parley_server.agents.file.definitions import ToolRule
from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.model_strings import model_of
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.agents.steps import MAY_HAVE_RUN
from parley_server.agents.threaded import ThreadedAgent
from parley_server.core.model import GivenKind, PendingKind
from support.agent_runs import told_by
from support.fake_openai import Call, FakeOpenAI, Say
from support.mcp_children import a_garbage_table, a_text, a_tool
from support.waiting_turns import WaitingTurn, a_caller_tool

RESULT, ERROR, APPROVAL, DENIAL = GivenKind
Rules = dict[str, dict[str, Any]]


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[McpServers]:
    """A server with two tools; the file `calls` has what they were called with."""
    results = {"look": a_text("looked"), "see": a_text("seen")}
    script = {"tools": [a_tool("look"), a_tool("see")], "results": results}
    served = McpServers({"shop": a_garbage_table({**script, "calls": str(tmp_path / "calls")})})
    yield served
    await served.close()


def rules_of(rules: Rules) -> dict[str, ToolRule]:
    return {name: ToolRule.model_validate(rule) for name, rule in rules.items()}


def an_agent(
    fake: FakeOpenAI, rules: Rules, *tools: Any, servers: McpServers | None = None, **fields: Any
) -> PydanticAgent:
    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    more = MoreTools(servers.for_agent(["shop"]) if servers else (), rules_of(rules))
    return PydanticAgent(Agent(model, tools=tools, **fields), model, more_tools=more)


def asking(*calls: Call) -> FakeOpenAI:
    return FakeOpenAI([Say("", calls), Say("Done.")])


def results(told: Any) -> list[tuple[str, bool]]:
    return [(call.result, call.is_error) for call in told.calls]


def told_tool(fake: FakeOpenAI, name: str) -> dict[str, Any]:
    """Return how the model was told of a tool."""
    tools = fake.requests[0].json["tools"]
    (found,) = [t["function"] for t in tools if t["function"]["name"] == name]
    return dict(found)


def calls_in(folder: Path) -> int:
    path = folder / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


async def test_servers_tool_under_approval_waits_and_runs_once_it_is_approved(
    servers: McpServers, tmp_path: Path
) -> None:
    with asking(Call("look", '{"x":1}'), Call("see")) as fake:
        turn = WaitingTurn(an_agent(fake, {"look": {"approval": True}}, servers=servers), ())
        (pending,) = await turn.waits()
        assert ("look", PendingKind.APPROVAL) == (pending.name, pending.kind)
        assert 1 == calls_in(tmp_path)
        turn.give(pending, APPROVAL)
        told = await turn.attempt()

    assert [("looked", False), ("seen", False)] == results(told)
    assert 2 == calls_in(tmp_path)


async def test_servers_tool_that_is_denied_does_not_run(
    servers: McpServers, tmp_path: Path
) -> None:
    with asking(Call("look")) as fake:
        turn = WaitingTurn(an_agent(fake, {"look": {"approval": True}}, servers=servers), ())
        turn_waits = await turn.waits()
        turn.give(turn_waits[0], DENIAL, "not today")
        told = await turn.attempt()

    assert [("not today", True)] == results(told)
    assert 0 == calls_in(tmp_path)


async def test_own_tool_under_approval_waits_like_one_that_its_author_has_marked() -> None:
    ran: list[bool] = []

    async def pay(ctx: RunContext[Any]) -> str:
        ran.append(ctx.tool_call_approved)
        return "paid"

    with asking(Call("pay")) as fake:
        turn = WaitingTurn(an_agent(fake, {"pay": {"approval": True}}, pay), ())
        (pending,) = await turn.waits()
        assert [] == ran
        turn.give(pending, APPROVAL)
        told = await turn.attempt()

    assert ([("paid", False)], [True]) == (results(told), ran)


async def test_rule_of_once_holds_for_a_servers_tool(servers: McpServers, tmp_path: Path) -> None:
    """Fails if the rule does not mark the tool: it then runs again."""
    with asking(Call("look")) as fake:
        turn = WaitingTurn(an_agent(fake, {"look": {"once": True}}, servers=servers), ())
        behind_the_call = 3
        assert await turn.attempt_until(behind_the_call) is None
        assert 1 == calls_in(tmp_path)
        told = await turn.attempt()

    assert [(MAY_HAVE_RUN, True)] == results(told)
    assert 1 == calls_in(tmp_path)


async def test_tool_that_takes_longer_than_its_rule_fails_and_the_turn_goes_on() -> None:
    async def slow() -> str:
        await asyncio.Event().wait()
        return "never"

    with asking(Call("slow")) as fake:
        told = await told_by(an_agent(fake, {"slow": {"timeout_s": 0.2}}, slow))

    assert [("The tool did not end within 0.2 s.", True)] == results(told)
    assert "Done." == told.text


async def test_tool_without_await_that_takes_too_long_is_left_behind() -> None:
    """Fails if the limit waits for the thread."""
    may_end = threading.Event()
    ended: list[bool] = []

    def slow() -> str:
        may_end.wait(20)
        ended.append(True)
        return "late"

    with asking(Call("slow")) as fake:
        told = await told_by(an_agent(fake, {"slow": {"timeout_s": 0.2}}, slow))
        ended_before = list(ended)
        may_end.set()

    assert [("The tool did not end within 0.2 s.", True)] == results(told)
    assert [] == ended_before


async def test_rule_takes_the_place_of_the_servers_own_limit() -> None:
    script = {"tools": [a_tool("look")], "results": {}, "ignores": ["tools/call"]}
    served = McpServers({"shop": a_garbage_table(script, timeout_s=60)})
    with asking(Call("look")) as fake:
        told = await told_by(an_agent(fake, {"look": {"timeout_s": 0.2}}, servers=served))
    await served.close()

    assert [("The tool did not end within 0.2 s.", True)] == results(told)


async def test_servers_tool_that_the_caller_runs_goes_to_the_caller(
    servers: McpServers, tmp_path: Path
) -> None:
    with asking(Call("look", '{"x":1}'), Call("see")) as fake:
        rules = {"look": {"run_by": "caller", "description": "The caller looks."}}
        turn = WaitingTurn(an_agent(fake, rules, servers=servers), ())
        (pending,) = await turn.waits()
        assert ("look", PendingKind.RESULT) == (pending.name, pending.kind)
        assert "The caller looks." == told_tool(fake, "look")["description"]
        turn.give(pending, RESULT, "seen by the caller")
        told = await turn.attempt()

    assert [("seen by the caller", False), ("seen", False)] == results(told)
    assert 1 == calls_in(tmp_path)


async def test_own_tool_that_the_caller_runs_keeps_what_the_model_is_told_of_it() -> None:
    def look(x: int) -> str:
        """Look at x."""
        raise AssertionError

    with asking(Call("look", '{"x":"anything"}')) as fake:
        turn = WaitingTurn(an_agent(fake, {"look": {"run_by": "caller"}}, look), ())
        (pending,) = await turn.waits()

    assert '{"x":"anything"}' == pending.arguments
    assert "Look at x." == told_tool(fake, "look")["description"]
    assert {"x"} == set(told_tool(fake, "look")["parameters"]["properties"])


async def test_tool_that_the_file_declares_is_the_callers() -> None:
    parameters = {"properties": {"order": {"type": "integer"}}, "required": ["order"]}
    rule = {"run_by": "caller", "description": "Says where.", "parameters": parameters}
    with asking(Call("order_status", '{"order":7}')) as fake:
        turn = WaitingTurn(an_agent(fake, {"order_status": rule, "other": {"run_by": "caller"}}))
        (pending,) = await turn.waits()
        turn.give(pending, RESULT, "on its way")
        told = await turn.attempt()

    assert [("on its way", False)] == results(told)
    told_of = told_tool(fake, "order_status")
    assert {"type": "object", **parameters} == told_of["parameters"]
    assert "Says where." == told_of["description"]
    assert {"type": "object", "properties": {}} == told_tool(fake, "other")["parameters"]


async def test_callers_own_tool_with_the_name_of_a_declared_one_is_refused() -> None:
    with asking() as fake:
        agent = an_agent(fake, {"mine": {"run_by": "caller"}})
        turn = WaitingTurn(agent, (a_caller_tool("mine"),))
        with pytest.raises(ToolNameTaken):
            await turn.attempt()


async def test_rule_adds_to_what_a_tools_author_asks_for() -> None:
    toolset = FunctionToolset[Any]()

    @toolset.tool_plain(requires_approval=True)
    def pay() -> str:
        return "paid"

    with asking(Call("pay")) as fake:
        turn = WaitingTurn(an_agent(fake, {"pay": {"timeout_s": 5}}, toolsets=[toolset]), ())
        (pending,) = await turn.waits()

    assert PendingKind.APPROVAL is pending.kind


def look() -> str:
    return "looked"


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ({"see": {}}, "'see', which the agent does not have; it has: look"),
        ({"see": {"approval": True}}, "'see', which the agent does not have"),
        ({"look": {"description": "x"}}, "description and parameters are for a tool with run_by"),
        ({"look": {"parameters": {}}}, "description and parameters are for a tool with run_by"),
        ({"a": {"run_by": "caller", "once": True}}, "are for tools that the server runs"),
        ({"a": {"run_by": "caller", "approval": True}}, "are for tools that the server runs"),
        ({"a": {"run_by": "caller", "timeout_s": 1}}, "are for tools that the server runs"),
        ({"a b": {"run_by": "caller"}}, "letters, digits, _ and -, 64 at most"),
        ({"": {"run_by": "caller"}}, "letters, digits, _ and -, 64 at most"),
        ({"x" * 65: {"run_by": "caller"}}, "letters, digits, _ and -, 64 at most"),
        ({"a": {"run_by": "caller", "parameters": {"type": "array"}}}, "not of type object"),
        ({"a": {"run_by": "caller", "parameters": {"required": 7}}}, "no valid JSON schema"),
    ],
)
def test_rule_that_cannot_be_followed_is_refused_at_start(rules: Rules, complaint: str) -> None:
    with asking() as fake, pytest.raises(BadAgent) as refused:
        an_agent(fake, rules, look)

    assert complaint in str(refused.value)


def test_users_agent_in_its_thread_is_checked_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "agent_with_rules.py").write_text(
        "from pydantic_ai import Agent\n"
        'agent = Agent("openai-chat:any", defer_model_check=True)\n'
        "@agent.tool_plain\ndef look() -> str:\n    return ''\n"
    )
    more = MoreTools((), rules_of({"lok": {"once": True}}))

    with pytest.raises(BadAgent, match="'lok', which the agent does not have; it has: look"):
        ThreadedAgent(
            "agent_with_rules",
            "agent",
            openai_base_url="http://127.0.0.1:9",
            openai_api_key="x",
            more_tools=more,
        )


async def test_rule_for_a_tool_that_may_come_later_is_a_warning_once(
    servers: McpServers, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOpenAI([Say("Done.")]) as fake:
        agent = an_agent(fake, {"none": {"once": True}}, servers=servers)
        with caplog.at_level(logging.WARNING, "parley.agents"):
            await told_by(agent)
            await told_by(agent)

    assert ["none"] == [r.__dict__["tool"] for r in caplog.records if "rule" in r.message]


async def test_agent_whose_tools_are_known_in_a_turn_only_is_not_refused() -> None:
    with FakeOpenAI([Say("Done.")]) as fake:
        agent = an_agent(fake, {"x": {"once": True}}, toolsets=[ExternalToolset[Any]([])])
        assert "Done." == (await told_by(agent)).text


async def test_two_runs_at_once_have_rules_of_their_own(servers: McpServers) -> None:
    def speak(request: dict[str, Any]) -> Say:
        is_told = any(message["role"] == "tool" for message in request["messages"])
        return Say(json.dumps(is_told)) if is_told else Say("", [Call("look")])

    with FakeOpenAI([speak]) as fake:
        free = an_agent(fake, {}, servers=servers)
        bound = an_agent(fake, {"look": {"approval": True}}, servers=servers)
        first, second = await asyncio.gather(told_by(free), told_by(bound))

    assert [("looked", False)] == results(first)
    assert second.awaiting is not None
