"""Runs that wait for the turn's caller, and go on with what it gives."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, AgentRunResult, ApprovalRequired, CallDeferred, RunContext
from pydantic_ai.capabilities import AbstractCapability, HandleDeferredToolCalls
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, Tool, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.agents.steps import WAITS_AGAIN, call_key
from parley_server.agents.waiting import OTHER_KIND
from parley_server.core.attempts.closing import DENIED
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import (
    FinishReason,
    GivenKind,
    PendingCall,
    PendingKind,
    StepKind,
    ToolCall,
    Usage,
)
from support.fake_openai import Call, Fail, FakeOpenAI, Say
from support.waiting_turns import WaitingTurn, a_caller_tool

RESULT, ERROR, APPROVAL, DENIAL = GivenKind


def a_turn(fake: FakeOpenAI, *tools: Any, **options: Any) -> WaitingTurn:
    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    return WaitingTurn(PydanticAgent(Agent(model, tools=tools, **options), model))


def told_results(fake: FakeOpenAI) -> list[str]:
    """Return what the last request says of tools."""
    return [m["content"] for m in fake.requests[-1].json["messages"] if m["role"] == "tool"]


def asking(*calls: Call, text: str = "") -> FakeOpenAI:
    return FakeOpenAI([Say(text, calls), Say("Done.")])


def results(calls: list[ToolCall]) -> list[tuple[str, str, bool]]:
    return [(call.id, call.result, call.is_error) for call in calls]


def look(x: int = 0) -> str:
    return f"found {x}"


async def pay(ctx: RunContext[Any], cents: int = 0) -> str:
    """Pay something, once it is approved."""
    if not ctx.tool_call_approved:
        raise ApprovalRequired
    return f"paid {cents} for {ctx.metadata['call_key']}"  # type: ignore[index]  # it is given


# Tools of the caller


async def test_call_of_a_callers_tool_ends_the_run_with_what_it_waits_for() -> None:
    with asking(Call("mine", '{ "x": 1 }', "c1"), text="One moment. ") as fake:
        turn = a_turn(fake)
        told = await turn.attempt()

    assert told.finish is None
    assert told.awaiting is not None
    key = call_key(turn.run.turn_id, 1, 0)
    expected = PendingCall(key, "c1", "mine", '{ "x": 1 }', 1, PendingKind.RESULT)
    assert (expected,) == told.awaiting.calls
    assert ("One moment. ", []) == (told.text, told.calls)
    assert ("fake-1", Usage(11, 7, 3, 1)) == (told.awaiting.model, told.awaiting.usage)
    assert StepKind.RESPONSE is turn.steps.stored[0].kind


@pytest.mark.parametrize(
    "text", ['{"b": 1,\n "a": [2.50]}', "", "plain", "✓ \n", "null", '"quoted"', "x" * 65_536]
)
async def test_given_result_is_told_and_kept_as_it_is(text: str) -> None:
    """Fails when it is read as JSON and written again."""
    with asking(Call("mine", '{"x":1}', "c1")) as fake:
        turn = a_turn(fake)
        (call,) = await turn.waits()
        turn.give(call, RESULT, text)
        told = await turn.attempt()

    assert [ToolCall("c1", "mine", '{"x":1}', text, is_error=False, step=1)] == told.calls
    assert [text] == told_results(fake)
    assert "Done." == told.text
    assert told.finish is not None
    assert FinishReason.STOP is told.finish.reason


async def test_given_error_is_a_failed_result() -> None:
    with asking(Call("mine", id="c1")) as fake:
        turn = a_turn(fake)
        (call,) = await turn.waits()
        turn.give(call, ERROR, "No such order.")
        told = await turn.attempt()

    assert [("c1", "No such order.", True)] == results(told.calls)
    assert "No such order." in told_results(fake)[0]


async def test_model_is_told_of_the_callers_tools_beside_the_agents_own() -> None:
    schema = '{"type":"object","properties":{"x":{"$ref":"#/$defs/n"}},"$defs":{"n":{"minimum":1}}}'
    with FakeOpenAI([Say("Hi.")]) as fake:
        turn = a_turn(fake, look)
        tools_of_the_caller = (a_caller_tool("mine", schema), a_caller_tool("bare", ""))
        turn.run = replace(turn.run, tools=tools_of_the_caller)
        await turn.attempt()
        tools = {t["function"]["name"]: t["function"] for t in fake.requests[0].json["tools"]}

    assert {"look", "mine", "bare"} == tools.keys()
    assert "What mine does." == tools["mine"]["description"]
    properties = {"x": {"$ref": "#/$defs/n"}}
    defs = {"n": {"minimum": 1}}
    assert {"type": "object", "properties": properties, "$defs": defs} == tools["mine"][
        "parameters"
    ]
    assert {"type": "object", "properties": {}} == tools["bare"]["parameters"]


async def test_external_tool_of_the_agents_own_waits_too() -> None:
    external = ExternalToolset[Any]([ToolDefinition(name="theirs")])
    with asking(Call("theirs", id="c1"), Call("mine", id="c2")) as fake:
        turn = a_turn(fake, toolsets=[external])
        first, second = await turn.waits()
        turn.give(second, RESULT, "2")
        turn.give(first, RESULT, "1")
        told = await turn.attempt()

    assert (PendingKind.RESULT, "theirs") == (first.kind, first.name)
    assert [("c1", "1", False), ("c2", "2", False)] == results(told.calls)


# Approvals


async def test_approved_call_runs_with_its_arguments_and_key() -> None:
    with asking(Call("pay", '{"cents":5}', "c1")) as fake:
        turn = a_turn(fake, pay)
        (call,) = await turn.waits()
        assert (PendingKind.APPROVAL, '{"cents":5}') == (call.kind, call.arguments)
        turn.give(call, APPROVAL)
        told = await turn.attempt()

    assert [("c1", f"paid 5 for {call.call_key}", False)] == results(told.calls)
    assert [f"paid 5 for {call.call_key}"] == told_results(fake)


@pytest.mark.parametrize("reason", ["Too expensive.", ""])
async def test_denied_call_does_not_run_and_the_model_is_told_why(reason: str) -> None:
    with asking(Call("pay", id="c1")) as fake:
        turn = a_turn(fake, pay)
        (call,) = await turn.waits()
        turn.give(call, DENIAL, reason)
        told = await turn.attempt()

    assert [("c1", reason or DENIED, True)] == results(told.calls)
    assert [reason or DENIED] == told_results(fake)


async def test_tool_that_always_needs_approval_does_not_begin_before_it() -> None:
    ran: list[str] = []

    def ship() -> str:
        ran.append("ship")
        return "shipped"

    with asking(Call("ship", id="c1")) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = Agent(model)
        agent.tool_plain(requires_approval=True)(ship)
        turn = WaitingTurn(PydanticAgent(agent, model))
        (call,) = await turn.waits()
        assert ([], PendingKind.APPROVAL) == (ran, call.kind)
        turn.give(call, APPROVAL)
        told = await turn.attempt()

    assert [("c1", "shipped", False)] == results(told.calls)
    assert ["ship"] == ran


async def test_validator_that_asks_for_approval_cannot_take_back_that_it_asked() -> None:
    """Fails when a denied call runs because its validator asks no more."""
    asked: list[int] = []

    def check(ctx: RunContext[Any], cents: int) -> None:
        asked.append(cents)
        if len(asked) == 1:
            raise ApprovalRequired

    def spend(cents: int) -> str:
        raise AssertionError("it was denied")

    with asking(Call("spend", '{"cents":5}', "c1")) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = Agent(model)
        agent.tool_plain(args_validator=check)(spend)
        turn = WaitingTurn(PydanticAgent(agent, model))
        (call,) = await turn.waits()
        turn.give(call, DENIAL, "No.")
        told = await turn.attempt()

    assert [("c1", "No.", True)] == results(told.calls)
    assert 2 == len(asked)


def always_needs_approval(ctx: RunContext[Any]) -> None:
    raise ApprovalRequired


@pytest.mark.parametrize(
    "options",
    [{"requires_approval": True}, {"args_validator": always_needs_approval}],
    ids=["tool", "validator"],
)
async def test_call_that_waits_again_after_its_approval_has_failed(options: Any) -> None:
    def run_far_away() -> str:
        raise CallDeferred

    with asking(Call("run_far_away", id="c1")) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = Agent(model)
        agent.tool_plain(**options)(run_far_away)
        turn = WaitingTurn(PydanticAgent(agent, model))
        (call,) = await turn.waits()
        turn.give(call, APPROVAL)
        told = await turn.attempt()

    assert [("c1", WAITS_AGAIN, True)] == results(told.calls)
    assert "Done." == told.text


# Tools that say themselves that they wait


async def test_tool_that_defers_its_call_waits_for_a_result_and_does_not_run_again() -> None:
    begun: list[str] = []

    def order_abroad() -> str:
        begun.append("begun")
        raise CallDeferred(metadata={"any": object()})

    with asking(Call("order_abroad", id="c1")) as fake:
        turn = a_turn(fake, order_abroad)
        (call,) = await turn.waits()
        assert [call] == await turn.waits(), "nothing was given"
        turn.give(call, RESULT, "arrived")
        told = await turn.attempt()

    assert PendingKind.RESULT is call.kind
    assert [("c1", "arrived", False)] == results(told.calls)
    assert ["begun"] == begun


async def test_question_waits_for_a_result() -> None:
    def ask_user() -> str:
        raise CallDeferred(kind="question")

    with asking(Call("ask_user", id="c1")) as fake:
        turn = a_turn(fake, ask_user)
        (call,) = await turn.waits()
        turn.give(call, RESULT, "42")
        told = await turn.attempt()

    assert PendingKind.RESULT is call.kind
    assert [("c1", "42", False)] == results(told.calls)


# Several at once


async def test_results_of_other_calls_are_stored_before_the_turn_waits() -> None:
    """Fails when the run ends while a tool beside the waiting call is still at work."""
    has_begun, may_end = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    async def slow() -> str:
        ran.append("slow")
        has_begun.set()
        await may_end.wait()
        return "slow is done"

    calls = [
        Call("mine", id="c1"),
        Call("slow", id="c2"),
        Call("pay", id="c3"),
        Call("look", id="c4"),
    ]
    with asking(*calls, Call("look", '{"x":"?"}', "c5"), text="Well. ") as fake:
        turn = a_turn(fake, slow, pay, look)
        attempt = asyncio.create_task(turn.attempt())
        await has_begun.wait()
        done, _ = await asyncio.wait([attempt], timeout=0.1)
        assert not done, "it ends without the slow one"
        may_end.set()
        first = await attempt
        assert first.awaiting is not None
        pending = first.awaiting.calls
        assert ["c1", "c3"] == [call.id for call in pending]
        assert ["c2", "c4", "c5"] == [call.id for call in first.calls], "what is there already"
        turn.give(pending[0], RESULT, "mine is done")
        turn.give(pending[1], APPROVAL)
        told = await turn.attempt()

    assert ["slow"] == ran
    assert ["c1", "c2", "c3", "c4", "c5"] == [call.id for call in told.calls]
    assert [False, False, False, False, True] == [call.is_error for call in told.calls]
    assert 5 == len(told_results(fake))
    assert "Well. Done." == told.text


async def test_run_waits_for_the_rest_and_what_was_approved_does_not_run_yet() -> None:
    calls = [Call("mine", id="c1"), Call("pay", id="c2"), Call("mine", id="c3")]
    with asking(*calls) as fake:
        turn = a_turn(fake, pay)
        first, second, third = await turn.waits()
        turn.give(third, RESULT, "3")
        turn.give(second, APPROVAL)
        assert [first] == await turn.waits()
        turn.give(first, ERROR, "1")
        told = await turn.attempt()
        requests = len(fake.requests)

    assert 2 == requests, "the model is not asked before everything is there"
    paid = f"paid 0 for {second.call_key}"
    assert [("c1", "1", True), ("c2", paid, False), ("c3", "3", False)] == results(told.calls)


async def test_turn_waits_several_times_and_counts_all_of_it() -> None:
    script = [
        Say("One. ", [Call("mine", id="c1")]),
        Say("Two. ", [Call("look", id="c2")]),
        Say("Three. ", [Call("pay", id="c3"), Call("mine", id="c4")]),
        Say("Done."),
    ]
    with FakeOpenAI(script) as fake:
        turn = a_turn(fake, look, pay)
        (first,) = await turn.waits()
        turn.give(first, RESULT, "1")
        second = await turn.attempt()
        assert second.awaiting is not None
        for call in second.awaiting.calls:
            turn.give(call, APPROVAL if call.kind is PendingKind.APPROVAL else RESULT, "")
        told = await turn.attempt()

    assert [3, 3] == [call.step for call in second.awaiting.calls]
    assert ("One. Two. Three. ", ["c1", "c2"]) == (second.text, [c.id for c in second.calls])
    assert (Usage(33, 21, 9, 3), Usage(22, 14, 6, 2)) == (
        second.awaiting.usage,
        second.awaiting.spent,
    )
    assert "One. Two. Three. Done." == told.text
    assert [("c1", 1), ("c2", 2), ("c3", 3), ("c4", 3)] == [(c.id, c.step) for c in told.calls]
    assert told.finish is not None
    assert (Usage(44, 28, 12, 4), Usage(11, 7, 3, 1)) == (told.finish.usage, told.finish.spent)


async def test_what_was_given_is_told_of_a_turn_that_goes_on_no_more() -> None:
    calls = [
        Call("mine", id="c1"),
        Call("pay", id="c2"),
        Call("mine", id="c3"),
        Call("look", id="c4"),
    ]
    with asking(*calls, text="Well. ") as fake:
        turn = a_turn(fake, pay, look)
        first, second, _ = await turn.waits()
        turn.give(first, RESULT, "1")
        turn.give(second, DENIAL, "No.")
        agent = turn.agent
        assert isinstance(agent, PydanticAgent)
        said = [event for event in agent.retold(turn.steps.stored) if isinstance(event, ToolCall)]

    assert [("c1", "1", False), ("c2", "No.", True), ("c4", "found 0", False)] == results(said)


async def test_what_was_given_first_counts() -> None:
    with asking(Call("mine", id="c1")) as fake:
        turn = a_turn(fake)
        (call,) = await turn.waits()
        turn.give(call, RESULT, "first")
        turn.give(call, RESULT, "second")
        told = await turn.attempt()

    assert [("c1", "first", False)] == results(told.calls)


@pytest.mark.parametrize(("name", "kind"), [("pay", RESULT), ("mine", APPROVAL), ("mine", DENIAL)])
async def test_what_does_not_fit_the_call_is_a_failed_result(name: str, kind: GivenKind) -> None:
    """The agent is another one than when the call began to wait: nothing runs unasked."""
    with asking(Call(name, id="c1")) as fake:
        turn = a_turn(fake, pay)
        (call,) = await turn.waits()
        turn.give(call, kind, "yes")
        told = await turn.attempt()

    assert [("c1", OTHER_KIND, True)] == results(told.calls)


# Agents with code of their own


class City(BaseModel):
    name: str


@pytest.mark.parametrize("end_strategy", ["graceful", "early", "exhaustive"])
async def test_calls_beside_a_structured_output_do_not_wait(end_strategy: str) -> None:
    calls = [Call("mine", id="c1"), Call("final_result", '{"name":"Rome"}'), Call("pay", id="c2")]
    with asking(*calls) as fake:
        turn = a_turn(fake, pay, output_type=City, end_strategy=end_strategy)
        told = await turn.attempt()

    assert (None, '{"name":"Rome"}') == (told.awaiting, told.text)
    assert "c1" in [call.id for call in told.calls]


async def test_structured_output_comes_after_the_wait() -> None:
    script = [Say("", [Call("mine", id="c1")]), Say("", [Call("final_result", '{"name":"Rome"}')])]
    with FakeOpenAI(script) as fake:
        turn = a_turn(fake, output_type=City)
        (call,) = await turn.waits()
        turn.give(call, RESULT, "Italy")
        told = await turn.attempt()

    assert '{"name":"Rome"}' == told.text
    assert [("c1", "Italy", False)] == results(told.calls)


async def test_agents_own_handler_decides_first() -> None:
    asked: list[list[str]] = []

    def decide(ctx: RunContext[Any], requests: DeferredToolRequests) -> DeferredToolResults:
        asked.append([call.tool_name for call in requests.approvals])
        small = [c for c in requests.approvals if c.args_as_dict()["cents"] < 10]
        return requests.build_results(approvals={call.tool_call_id: True for call in small})

    calls = [Call("pay", '{"cents":5}', "c1"), Call("pay", '{"cents":50}', "c2")]
    with asking(*calls) as fake:
        turn = a_turn(fake, pay, capabilities=[HandleDeferredToolCalls(handler=decide)])
        (call,) = await turn.waits()
        assert "c2" == call.id
        turn.give(call, DENIAL, "No.")
        told = await turn.attempt()

    key = call_key(turn.run.turn_id, 1, 0)
    assert [("c1", f"paid 5 for {key}", False), ("c2", "No.", True)] == results(told.calls)
    assert [["pay", "pay"], ["pay"]] == asked, "what was given is asked of no one again"


async def test_call_that_has_run_is_not_denied_by_the_agents_own_handler_later() -> None:
    """Fails when the handler is asked again: what has happened would be told as denied."""
    answers = [True, False]

    def decide(ctx: RunContext[Any], requests: DeferredToolRequests) -> DeferredToolResults:
        answer = answers.pop(0)
        return requests.build_results(
            approvals={c.tool_call_id: answer for c in requests.approvals}
        )

    def ship() -> str:
        return "shipped"

    with FakeOpenAI([Say("", [Call("ship", id="c1")]), Fail(503), Say("Done.")]) as fake:
        tool = Tool[Any](ship, requires_approval=True)
        turn = a_turn(fake, tool, capabilities=[HandleDeferredToolCalls(handler=decide)])
        with pytest.raises(AgentUnavailable):
            await turn.attempt()
        told = await turn.attempt()

    assert [("c1", "shipped", False)] == results(told.calls)


class Recovering(AbstractCapability[Any]):
    """Makes an answer out of whatever ends a run."""

    async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
        try:
            return await handler()
        except Exception:
            return AgentRunResult("Sorry.")


async def test_agent_that_recovers_from_every_error_waits_all_the_same() -> None:
    with asking(Call("mine", id="c1")) as fake:
        turn = a_turn(fake, capabilities=[Recovering()])
        first = await turn.attempt()
        assert first.awaiting is not None
        assert "" == first.text
        turn.give(first.awaiting.calls[0], RESULT, "1")
        told = await turn.attempt()

    assert "Done." == told.text
