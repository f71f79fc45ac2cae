"""What cannot wait is told to the model, or refused: no caller is shown what it cannot use."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic_ai import Agent, ApprovalRequired, RunContext
from pydantic_ai.capabilities import Hooks
from pydantic_ai.messages import ModelMessage, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset, FunctionToolset

from parley_server.agents.echo import EchoAgent
from parley_server.agents.errors import ToolNameTaken, ToolSchemaRefused
from parley_server.agents.guard import WRONG_ARGUMENTS
from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.agents.waiting import NO_APPROVAL, NO_OBJECT, TOO_LONG
from parley_server.core.attempts.step_log import MAX_BYTES, StepLog
from parley_server.core.attempts.transcript import MAX_ARGUMENTS_BYTES, MAX_TOOL_CALLS
from parley_server.core.errors import AgentRefused
from parley_server.core.model import FinishReason, GivenKind, Step
from parley_server.core.tasks import Tasks
from parley_server.rpc.errors import status_of
from support.agent_runs import Told, a_run, told_by
from support.fake_openai import Call, FakeOpenAI, Say
from support.waiting_turns import WaitingTurn, a_caller_tool


def an_agent(fake: FakeOpenAI, *tools: Any, **options: Any) -> PydanticAgent:
    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    return PydanticAgent(Agent(model, tools=tools, **options), model)


async def told_with(*calls: Call, **options: Any) -> tuple[Told, list[str]]:
    """Let the model make these calls, then say Done. Returns: also what it is told of them."""
    with FakeOpenAI([Say("", calls), Say("Done.")]) as fake:
        turn = WaitingTurn(an_agent(fake, **options))
        told = await turn.attempt()
        sent = fake.requests[-1].json["messages"]
    return told, [message["content"] for message in sent if message["role"] == "tool"]


# Arguments

OBJECT_OF_MORE_THAN_IS_ALLOWED = json.dumps({"x": "y" * MAX_ARGUMENTS_BYTES})


@pytest.mark.parametrize("arguments", ['{"x":', "no JSON", "[1]", "3"])
async def test_arguments_that_are_no_object_do_not_wait(arguments: str) -> None:
    told, to_model = await told_with(Call("mine", arguments))

    assert (None, "Done.") == (told.awaiting, told.text)
    assert [(arguments, True)] == [(call.arguments, call.is_error) for call in told.calls]
    assert 1 == len(to_model), "the model can try again"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"x":', WRONG_ARGUMENTS),
        ("[1]", NO_OBJECT),
        ('{"x":NaN}', NO_OBJECT),
        (OBJECT_OF_MORE_THAN_IS_ALLOWED, TOO_LONG),
    ],
    ids=["broken", "list", "NaN", "long"],
)
async def test_arguments_for_an_external_tool_of_the_agents_own_are_looked_at_too(
    arguments: str, expected: str
) -> None:
    external = ExternalToolset[Any]([ToolDefinition(name="theirs")])
    told, _ = await told_with(Call("theirs", arguments), toolsets=[external])

    assert None is told.awaiting
    assert [(expected, True)] == [(call.result, call.is_error) for call in told.calls]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"x":-Infinity}', NO_OBJECT), (OBJECT_OF_MORE_THAN_IS_ALLOWED, TOO_LONG)],
    ids=["Infinity", "long"],
)
@pytest.mark.parametrize("name", ["mine", "pay"])
async def test_arguments_that_a_caller_could_not_read_do_not_wait(
    name: str, arguments: str, expected: str
) -> None:
    """What is approved has to be seen whole."""

    def pay(x: Any) -> str:
        raise ApprovalRequired

    told, _ = await told_with(Call(name, arguments), toolsets=[FunctionToolset[Any]([pay])])

    assert None is told.awaiting
    assert [(expected, True)] == [(call.result, call.is_error) for call in told.calls]


@pytest.mark.parametrize("arguments", ["[1]", '{"x":NaN}'])
async def test_call_that_cannot_wait_keeps_no_other_from_waiting(arguments: str) -> None:
    calls = [Call("mine", arguments), Call("mine", '{"x":1}')]
    with FakeOpenAI([Say("", calls), Say("Done.")]) as fake:
        turn = WaitingTurn(an_agent(fake))
        (call,) = await turn.waits()
        turn.give(call, GivenKind.RESULT, "2")
        told = await turn.attempt()

    assert '{"x":1}' == call.arguments
    assert [True, False] == [call.is_error for call in told.calls]


async def test_no_arguments_are_an_empty_object() -> None:
    with FakeOpenAI([Say("", [Call("mine", "")])]) as fake:
        (call,) = await WaitingTurn(an_agent(fake)).waits()

    assert "{}" == call.arguments


async def test_arguments_that_are_no_text_are_shown_as_json() -> None:
    """Some providers send them parsed."""

    async def speak(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield {0: DeltaToolCall("mine", json_args='{"x": "\\u00e9"}', tool_call_id="c1")}

    model = FunctionModel(stream_function=speak)
    (call,) = await WaitingTurn(PydanticAgent(Agent(model), model)).waits()

    assert {"x": "é"} == json.loads(call.arguments)


async def test_callers_tool_cannot_be_made_to_need_an_approval() -> None:
    hooks = Hooks[None]()

    @hooks.on.after_tool_validate
    async def ask(ctx: RunContext[Any], *, call: Any, tool_def: Any, args: Any) -> Any:
        raise ApprovalRequired

    told, _ = await told_with(Call("mine"), capabilities=[hooks])

    assert [(NO_APPROVAL, True)] == [(call.result, call.is_error) for call in told.calls]


async def test_call_that_a_tool_makes_itself_cannot_wait() -> None:
    """Nothing would find it again: it stands in no response."""

    async def look(ctx: RunContext[Any]) -> str:
        assert ctx.tool_manager is not None
        return str(await ctx.tool_manager.handle_call(ToolCallPart("pay", {})))

    def pay() -> str:
        raise ApprovalRequired

    told, _ = await told_with(Call("look"), toolsets=[FunctionToolset[Any]([look, pay])])

    assert (None, "Done.") == (told.awaiting, told.text)
    assert NO_APPROVAL in told.calls[0].result


# How many, and how much


@pytest.mark.parametrize("extra", [0, 1])
async def test_as_many_calls_wait_as_an_answer_may_have(extra: int) -> None:
    calls = [Call("mine", json.dumps({"x": n})) for n in range(MAX_TOOL_CALLS + extra)]
    with FakeOpenAI([Say("", calls)]) as fake:
        turn = WaitingTurn(an_agent(fake))
        told = await turn.attempt()

    if extra:
        assert None is told.awaiting
        assert told.finish is not None
        assert FinishReason.LENGTH is told.finish.reason
    else:
        assert told.awaiting is not None
        assert [{"x": n} for n in range(MAX_TOOL_CALLS)] == [
            json.loads(call.arguments) for call in told.awaiting.calls
        ]


async def test_calls_of_earlier_waits_count() -> None:
    calls = [Call("mine", json.dumps({"x": n})) for n in range(40)]
    with FakeOpenAI([Say("", calls)]) as fake:
        turn = WaitingTurn(an_agent(fake))
        for call in await turn.waits():
            turn.give(call, GivenKind.RESULT, "ok")
        told = await turn.attempt()

    assert None is told.awaiting
    assert told.finish is not None
    assert FinishReason.LENGTH is told.finish.reason
    assert 40 == len(told.calls)


async def test_turn_whose_response_is_too_large_to_be_kept_does_not_wait() -> None:
    async def store(step: Step) -> bool:
        return True

    full = StepLog([], store, lambda: None, Tasks())
    full._bytes = MAX_BYTES  # noqa: SLF001  # as if its other steps had filled it
    with FakeOpenAI([Say("y" * 5000, [Call("mine")])]) as fake:
        run = replace(a_run(), tools=(a_caller_tool(),), steps=full)
        told = await told_by(an_agent(fake), run)

    assert None is told.awaiting
    assert told.finish is not None
    assert FinishReason.LENGTH is told.finish.reason


# Tools that cannot be used with the agent


def look() -> str:
    return "found"


@pytest.mark.parametrize("name", ["look", "final_result"])
async def test_tool_with_the_name_of_one_of_the_agents_own_is_refused(name: str) -> None:
    """Fails when the library finds it: an error of the user's code, for which no one can act."""
    with FakeOpenAI([Say("Hi.")]) as fake:
        agent = an_agent(fake, look, output_type=dict[str, int])
        with pytest.raises(ToolNameTaken) as refused:
            await told_by(agent, replace(a_run(), tools=(a_caller_tool(name),)))
        requests = len(fake.requests)

    assert 0 == requests
    assert isinstance(refused.value, AgentRefused)
    assert {"tool": name} == refused.value.metadata()
    status = status_of(refused.value, "id")
    assert ("AGENT_REFUSED", f"the agent has a tool '{name}' itself") == (
        status.reason,
        status.text.partition(":")[0],
    )


@pytest.mark.parametrize(
    "schema",
    [
        '{"type":"object","properties":3}',
        '{"type":"object","properties":{"x":3}}',
        '{"type":"object","required":"x"}',
        '{"type":"object","$defs":[]}',
        '{"type":"object","properties":{"x":{"default":1e999}}}',
        '{"type":"object","description":"\\ud83d"}',
    ],
)
@pytest.mark.parametrize("protocol", ["openai-chat", "openai-responses"])
async def test_tool_whose_schema_no_model_takes_is_refused(schema: str, protocol: str) -> None:
    tools = (a_caller_tool("fine"), a_caller_tool("mine", schema))
    with FakeOpenAI([Say("Hi.")]) as fake:
        model = model_of(f"{protocol}:any", openai_base_url=fake.base_url)
        with pytest.raises(ToolSchemaRefused) as refused:
            await told_by(PydanticAgent.of_model(model), replace(a_run(), tools=tools))

    assert {"tool": "mine"} == refused.value.metadata()
    assert "AGENT_REFUSED" == status_of(refused.value, "id").reason


async def test_echo_does_not_know_the_callers_tools() -> None:
    told = await told_by(EchoAgent(), replace(a_run("mine"), tools=(a_caller_tool(),)))

    assert ("mine", None) == (told.text, told.awaiting)
