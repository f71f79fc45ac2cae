"""Tools of users' agents: calls in order, and none of their failures ends a run."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, ToolReturn
from pydantic_ai.capabilities import AbstractCapability, Hooks
from pydantic_ai.exceptions import ToolFailed

from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.attempts.transcript import MARK, MAX_RESULT_BYTES
from parley_server.core.model import FinishReason, Text, ToolCall, Usage
from support.agent_runs import Told, a_run, told_by
from support.fake_openai import Call, FakeOpenAI, Say

HIDDEN = "WHAT-THE-EXCEPTION-SAYS"


def an_agent(fake: FakeOpenAI, *tools: Any, **options: Any) -> PydanticAgent:
    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    return PydanticAgent(Agent(model, tools=tools, **options), model)


async def told_with(*calls: Call, tools: list[Any], **options: Any) -> Told:
    """Let the model make these calls, then say Done."""
    with FakeOpenAI([Say("", calls), Say("Done.")]) as fake:
        told = await told_by(an_agent(fake, *tools, **options))
        sent = fake.requests[-1].json["messages"]
    results = [message["content"] for message in sent if message["role"] == "tool"]
    assert len(told.calls) == len(results), "the model sees a result of each call"
    assert "Done." == told.text
    return told


def look(x: int = 0) -> str:
    return f"found {x}"


async def test_one_call_has_its_arguments_as_written_and_its_result() -> None:
    told = await told_with(Call("look", '{ "x": 1 }', "c1"), tools=[look])

    assert [ToolCall("c1", "look", '{ "x": 1 }', "found 1", is_error=False, step=1)] == told.calls


async def test_results_that_come_out_of_order_go_on_in_the_order_of_the_calls() -> None:
    first_may_end = asyncio.Event()

    async def first() -> str:
        await first_may_end.wait()
        return "1"

    async def second() -> str:
        first_may_end.set()
        return "2"

    told = await told_with(Call("first"), Call("second"), Call("second"), tools=[first, second])

    assert [("first", "1"), ("second", "2"), ("second", "2")] == [
        (call.name, call.result) for call in told.calls
    ]


async def test_steps_are_counted_and_text_stands_where_it_was_said() -> None:
    script = [
        Say("Let me look. ", [Call("look", '{"x":1}'), Call("look", '{"x":2}')]),
        Say("", [Call("look", '{"x":3}')]),
        Say("Done."),
    ]
    with FakeOpenAI(script) as fake:
        events = [event async for event in an_agent(fake, look).run(a_run())]

    kinds = ["text" if isinstance(event, Text) else "other" for event in events]
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [(1, "found 1"), (1, "found 2"), (2, "found 3")] == [(c.step, c.result) for c in calls]
    assert "text" == kinds[0]
    last_call = max(n for n, event in enumerate(events) if isinstance(event, ToolCall))
    assert "Done." == "".join(e.text for e in events[last_call:] if isinstance(e, Text))
    assert Usage(33, 21, 9, 3) == events[-1].usage  # type: ignore[union-attr]  # a Finish


async def test_results_that_are_no_text_are_json() -> None:
    def data() -> dict[str, Any]:
        return {"a": [1, None]}

    told = await told_with(Call("data"), tools=[data])

    assert ('{"a":[1,null]}', False) == (told.calls[0].result, told.calls[0].is_error)


def raising(error: BaseException) -> Any:
    async def tool() -> str:
        raise error

    return tool


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError(HIDDEN), "The tool failed (ValueError)."),
        (asyncio.CancelledError(HIDDEN), "The tool failed (CancelledError)."),
        (SystemExit(HIDDEN), "The tool failed (SystemExit)."),
        (TimeoutError(HIDDEN), "The tool failed (TimeoutError)."),
        (ModelRetry("Try a number."), "Try a number."),
    ],
    ids=lambda part: type(part).__name__,
)
async def test_a_tool_that_raises_is_a_failed_result(
    error: BaseException, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = await told_with(Call("tool"), Call("look"), tools=[raising(error), look])

    assert [(expected, True), ("found 0", False)] == [(c.result, c.is_error) for c in told.calls]
    assert HIDDEN not in caplog.text


@pytest.mark.parametrize("kind", [ModelRetry, ToolFailed])
async def test_what_a_failed_tool_says_is_told_as_far_as_it_is_stored(
    kind: type[Exception],
) -> None:
    """Fails when it goes on as it is: half a character cannot be sent."""
    told = await told_with(Call("tool"), tools=[raising(kind("\ud83d" + "x" * 100_000))])

    (result,) = [call.result for call in told.calls]
    assert result.startswith("\ufffdx")
    assert result.endswith(MARK)
    assert MAX_RESULT_BYTES >= len(result.encode())


async def test_a_synchronous_tool_that_raises_is_a_failed_result() -> None:
    def broken() -> str:
        raise ValueError(HIDDEN)

    told = await told_with(Call("broken"), tools=[broken])

    assert "The tool failed (ValueError)." == told.calls[0].result


async def test_a_hook_that_raises_is_a_failed_result() -> None:
    hooks = Hooks[None]()

    @hooks.on.before_tool_execute
    async def broken(ctx: Any, *, call: Any, tool_def: Any, args: Any) -> Any:
        raise KeyError(HIDDEN)

    told = await told_with(Call("look"), tools=[look], capabilities=[hooks])

    assert "The tool failed (KeyError)." == told.calls[0].result


class Wrapping(AbstractCapability[None]):
    async def wrap_tool_execute(self, ctx: Any, **call: Any) -> Any:
        raise KeyError(HIDDEN)


async def test_a_capability_around_the_tools_that_raises_is_a_failed_result() -> None:
    told = await told_with(Call("look"), tools=[look], capabilities=[Wrapping()])

    assert "The tool failed (KeyError)." == told.calls[0].result


async def test_a_result_without_a_json_form_is_a_failed_result() -> None:
    def odd() -> object:
        return object()

    told = await told_with(Call("odd"), tools=[odd])

    assert told.calls[0].is_error
    assert "The tool failed (PydanticSerializationError)." == told.calls[0].result


@pytest.mark.parametrize("is_wrapped", [False, True])
async def test_the_model_sees_of_a_result_what_is_stored_of_it(is_wrapped: bool) -> None:
    text = "\x00\ud800" + "y" * 100_000

    def long() -> Any:
        return ToolReturn(text) if is_wrapped else text

    with FakeOpenAI([Say("", [Call("long")]), Say("Done.")]) as fake:
        told = await told_by(an_agent(fake, long))
        (shown,) = [m for m in fake.requests[1].json["messages"] if m["role"] == "tool"]

    assert MAX_RESULT_BYTES == len(told.calls[0].result.encode())
    assert told.calls[0].result.startswith("\ufffd\ufffdyyy")
    assert told.calls[0].result.endswith(MARK)
    assert told.calls[0].result == shown["content"]


async def test_wrong_arguments_and_unknown_tools_are_failed_results() -> None:
    told = await told_with(
        Call("look", '{"x":"many"}'), Call("look", '{"x":'), Call("nothing"), tools=[look]
    )

    assert [True, True, True] == [call.is_error for call in told.calls]
    assert ['{"x":"many"}', '{"x":', "{}"] == [call.arguments for call in told.calls]


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [Call("look", "[]"), Call("nothing")], ids=["args", "name"])
async def test_a_model_that_repeats_its_mistake_is_held_by_the_limit_on_calls_alone(
    mistake: Call,
) -> None:
    with FakeOpenAI([*[Say("", [mistake])] * 60, Say("Done.")]) as fake:
        told = await told_by(an_agent(fake, look))

    assert ("Done.", 60) == (told.text, len(told.calls))


async def test_the_sixty_fifth_call_ends_the_run() -> None:
    ran: list[int] = []

    def count(x: int) -> str:
        ran.append(x)
        return "ok"

    def five(request: dict[str, Any]) -> Say:
        return Say("", [Call("count", json.dumps({"x": n})) for n in range(5)])

    with FakeOpenAI([five]) as fake:
        told = await told_by(an_agent(fake, count))

    assert 60 == len(told.calls) == len(ran), "of the step that goes beyond nothing is run"
    assert told.finish is not None
    assert FinishReason.LENGTH is told.finish.reason
    assert Usage(13 * 11, 13 * 7, 13 * 3, 13) == told.finish.usage


async def test_two_calls_with_one_id_get_one_each() -> None:
    calls = [Call("look", '{"x":1}', "same"), Call("look", '{"x":2}', "same")]
    with FakeOpenAI([Say("", calls), Say("Done.")]) as fake:
        told = await told_by(an_agent(fake, look))

    assert ["found 1", "found 2"] == [call.result for call in told.calls]
    assert 2 == len({call.id for call in told.calls})


async def test_the_same_id_in_two_steps_is_two_calls() -> None:
    call = Call("look", id="call_0")
    with FakeOpenAI([Say("", [call]), Say("", [call]), Say("Done.")]) as fake:
        told = await told_by(an_agent(fake, look))

    assert [1, 2] == [call.step for call in told.calls]
    assert 2 == len({call.id for call in told.calls}), "some providers refuse an id told twice"


class City(BaseModel):
    name: str


@pytest.mark.parametrize("end_strategy", ["graceful", "early"])
async def test_calls_beside_a_structured_output_all_have_results(end_strategy: str) -> None:
    calls = [Call("look", id="c1"), Call("final_result", '{"name":"Rome"}'), Call("look", id="c2")]
    with FakeOpenAI([Say("", calls)]) as fake:
        agent = an_agent(fake, look, output_type=City, end_strategy=end_strategy)
        told = await told_by(agent)

    assert '{"name":"Rome"}' == told.text
    assert ["c1", "c2"] == [call.id for call in told.calls]


async def test_a_run_that_is_cancelled_inside_a_tool_is_stopped() -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return "never"

    with FakeOpenAI([Say("", [Call("wait")]), Say("Done.")]) as fake:
        task = asyncio.create_task(told_by(an_agent(fake, wait)))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert left.is_set()
        assert 1 == len(fake.requests)
