"""Steps: a run that ends at any point is gone on from, and no tool that has ended runs again."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, ModelRetry, RunContext, ToolReturn
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.agents.steps import MAY_HAVE_RUN, TOO_LARGE, call_key
from parley_server.core.attempts.step_log import MAX_BYTES, StepLog
from parley_server.core.errors import AgentUnavailable, LeaseLost, StoreUnavailable
from parley_server.core.model import FinishReason, Step, StepKind, ToolCall, Usage
from parley_server.core.tasks import Tasks
from support.agent_runs import Told, a_run, a_user_message, an_answer, told_by
from support.fake_openai import Call, Fail, FakeOpenAI, Say
from support.kept_steps import KeptSteps, Worker, attempt

TURN = uuid.UUID(int=7)


@dataclass
class Tools:
    """Tools that note when they begin and end, outside of any attempt."""

    worker: Worker
    begun: list[tuple[str, str]] = field(default_factory=list)
    """Of each call its argument, and its key."""
    ended: list[str] = field(default_factory=list)

    async def note(self, ctx: RunContext[Any], what: str) -> str:
        """Note something."""
        self.begun.append((what, ctx.metadata["call_key"]))  # type: ignore[index]  # it is given
        await self.worker.point()
        self.ended.append(what)
        return f"noted {what}"


def told_so_far(messages: Sequence[ModelMessage]) -> list[str]:
    return [
        str(part.content)
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]


def a_model(worker: Worker) -> FunctionModel:
    """Ask for three calls at once, then for one, then answer with what came of them."""

    async def speak(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        await worker.point()
        told = told_so_far(messages)
        match len(told):
            case 0:
                yield "Let me see. "
                yield {n: a_delta(what) for n, what in enumerate("abc")}
            case 3:
                yield {0: a_delta("d")}
            case _:
                yield "Done: "
                yield ", ".join(told)
        await worker.point()

    return FunctionModel(stream_function=speak)


def a_delta(what: str) -> DeltaToolCall:
    return DeltaToolCall("note", f'{{"what": "{what}"}}', tool_call_id=f"c-{what}")


async def attempts(*deaths: int) -> tuple[Told, Tools, KeptSteps, list[int]]:
    """Run a turn whose workers go away at these points, to its end."""
    worker = Worker()
    tools, steps = Tools(worker), KeptSteps(worker)
    model = a_model(worker)
    agent = PydanticAgent(Agent(model, tools=[tools.note]), model)
    run = a_run(turn_id=TURN)
    again: list[int] = []
    for dies_at in (*deaths, 10**9):
        worker.lives_anew(dies_at)
        has_result = results_in(steps)
        begun = len(tools.begun)
        told = await attempt(agent, run, steps)
        again += [1 for _, key in tools.begun[begun:] if key in has_result]
        if told is not None:
            return told, tools, steps, again
    raise AssertionError("the last attempt has no end")


def results_in(steps: KeptSteps) -> set[str]:
    places = [json.loads(s.body)["place"] for s in steps.stored if s.kind is StepKind.RESULT]
    return {call_key(TURN, *place) for place in places}


async def undisturbed() -> Told:
    return (await attempts())[0]


async def test_run_without_a_crash_stores_a_step_for_each_response_and_each_result() -> None:
    told, tools, steps, _ = await attempts()

    response, result = StepKind.RESPONSE, StepKind.RESULT
    assert [response, result, result, result, response, result] == steps.kinds
    assert list("abcd") == tools.ended
    assert [call_key(TURN, 1, n) for n in range(3)] + [call_key(TURN, 2, 0)] == [
        key for _, key in tools.begun
    ]
    assert "Let me see. Done: noted a, noted b, noted c, noted d" == told.text


POINTS = 25
"""How many an undisturbed attempt passes, or a little more."""


@pytest.mark.parametrize("dies_at", range(1, POINTS + 1))
async def test_attempt_after_a_crash_at_any_point_ends_as_without_it(dies_at: int) -> None:
    """Fails when results are not stored before the run goes on, or calls run without a look."""
    expected = await undisturbed()
    told, tools, _, again = await attempts(dies_at)

    assert (expected.text, expected.calls, expected.finish and expected.finish.usage) == (
        told.text,
        told.calls,
        told.finish and told.finish.usage,
    )
    assert [] == again, "a tool whose result was stored has run again"
    assert 4 == len(set(tools.begun)), "a call has had two keys"


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(deaths=st.lists(st.integers(1, POINTS), max_size=6))
def test_any_number_of_crashes_changes_nothing(deaths: list[int]) -> None:
    expected = asyncio.run(undisturbed())
    told, tools, steps, again = asyncio.run(attempts(*deaths))

    assert (expected.text, expected.calls) == (told.text, told.calls)
    assert ([], 4, 6) == (again, len(set(tools.begun)), len(steps.stored))


async def test_parallel_calls_each_have_their_own_key() -> None:
    """Fails when the key is put into the one dict that all calls of a run share."""
    _, tools, _, _ = await attempts()

    assert {what: call_key(TURN, 1, n) for n, what in enumerate("abc")} == {
        what: key for what, key in tools.begun if what != "d"
    }


async def test_usage_of_an_attempt_is_its_own_and_the_answers_is_that_of_all() -> None:
    expected = (await undisturbed()).finish
    steps = 14
    told, _, _, _ = await attempts(steps)

    assert told.finish is not None
    assert expected is not None
    assert expected.usage is not None
    assert expected.usage == told.finish.usage
    assert told.finish.spent is not None
    assert 0 < told.finish.spent.model_requests < expected.usage.model_requests


# Tools that have to run once


async def once_after(dies_at: int) -> tuple[Told, list[str]]:
    worker, ran = Worker(), list[str]()
    steps, model = KeptSteps(worker), a_model(worker)
    agent = Agent(model)

    @agent.tool_plain(metadata={"once": True})
    async def note(what: str) -> str:
        ran.append(what)
        await worker.point()
        return f"noted {what}"

    for death in (dies_at, 10**9):
        worker.lives_anew(death)
        told = await attempt(PydanticAgent(agent, model), a_run(turn_id=TURN), steps)
        if told is not None:
            return told, ran
    raise AssertionError("the last attempt has no end")


async def test_stored_result_counts_when_its_tool_is_gone() -> None:
    """Fails where a call needs its tool for its result: a reload may have removed it."""
    worker = Worker()
    tools, steps = Tools(worker), KeptSteps(worker)
    model, run = a_model(worker), a_run(turn_id=TURN)
    worker.lives_anew(11)
    assert await attempt(PydanticAgent(Agent(model, tools=[tools.note]), model), run, steps) is None
    stored = results_in(steps)
    worker.lives_anew()

    told = await attempt(PydanticAgent(Agent(model), model), run, steps)

    assert 1 <= len(stored) < 3
    assert told is not None
    known = [call.result for call in told.calls if not call.is_error]
    assert len(stored) == len(known)
    assert all(result.startswith("noted ") for result in known)
    assert 3 == len(tools.begun)


async def test_tool_that_is_once_is_not_run_again_and_its_result_says_so() -> None:
    """Fails when the mark is not looked at: a payment is made twice."""
    told, ran = await once_after(7)  # in its third call

    assert list("abcd") == sorted(ran)
    unknown = [call for call in told.calls if call.is_error]
    assert unknown
    assert {MAY_HAVE_RUN} == {call.result for call in unknown}
    assert 4 == len(told.calls)


@pytest.mark.parametrize("dies_at", range(1, POINTS + 1))
async def test_tool_that_is_once_runs_at_most_once(dies_at: int) -> None:
    _, ran = await once_after(dies_at)

    assert sorted(set(ran)) == sorted(ran)


# What results may be


class Order(BaseModel):
    number: int
    price: float = 1.0


def retried(ctx: RunContext[Any]) -> str:
    raise ModelRetry("Try a number.")


def failing() -> str:
    raise KeyError("hidden")


RESULTS: dict[str, Callable[..., Any]] = {
    "text": lambda: "\ud800 a \0 text",
    "data": lambda: {"b": [1, None, 2.0], "a": Order(number=3)},
    "model": lambda: Order(number=3),
    "nothing": lambda: None,
    "bytes": lambda: b"\xff\x00",
    "an image": lambda: BinaryContent(b"\x89PNG", media_type="image/png"),
    "more": lambda: ToolReturn({"a": 1}, content=["see", "this"], metadata=object()),
    "retried": retried,
    "failed": failing,
    "no form": object,
}


@pytest.mark.parametrize("name", RESULTS)
async def test_stored_result_is_told_as_the_tool_gave_it(name: str) -> None:
    """Fails when what is told to the model again differs from what it was told first."""
    made = RESULTS[name]

    async def odd(ctx: RunContext[Any]) -> Any:
        return made(ctx) if made is retried else made()

    with FakeOpenAI([Say("", [Call("odd")]), Fail(503), Say("Done.")]) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=[odd]), model)
        steps = KeptSteps()
        with pytest.raises(AgentUnavailable):
            await attempt(agent, a_run(), steps)
        told = await attempt(agent, a_run(), steps)
        first, second = (request.json["messages"] for request in fake.requests[1:3])

    assert told is not None
    assert [StepKind.RESPONSE, StepKind.RESULT] == steps.kinds
    assert first == second
    assert 1 == len(told.calls)


TOO_LONG = Fail(400, "context_length_exceeded", "maximum context length")
EARLIER = [
    message
    for n in range(4)
    for message in (
        a_user_message(f"ask {n}", 2 * n + 1),
        an_answer(f"said {n}", sequence=2 * n + 2),
    )
]


async def test_halved_window_is_halved_again() -> None:
    """Fails when it is not: the model refuses what the first attempt had learnt to shorten."""
    script = [TOO_LONG, Say("", [Call("look")]), Fail(503), Say("Done.")]
    with FakeOpenAI(script) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=[look]), model)
        steps, run = KeptSteps(), a_run(earlier=EARLIER)
        with pytest.raises(AgentUnavailable):
            await attempt(agent, run, steps)
        told = await attempt(agent, run, steps)
        second, third = (request.json["messages"] for request in fake.requests[2:4])

    assert told is not None
    assert "Done." == told.text
    assert second == third


async def test_window_that_is_too_long_with_what_tools_returned_is_halved_behind_them() -> None:
    """Fails when the attempt is refused: a conversation as long as its window has no tools then."""
    calls = [Call("look"), Call("look")]
    script = [Say("Hm. ", calls), TOO_LONG, Say("", [Call("look")]), TOO_LONG, Say("Done.")]
    with FakeOpenAI(script) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=[look]), model)
        steps = KeptSteps()
        told = await attempt(agent, a_run(earlier=EARLIER), steps)
        sent = [request.json["messages"] for request in fake.requests]

    assert told is not None
    assert ("Hm. Done.", [1, 1, 2]) == (told.text, [call.step for call in told.calls])
    assert 5 == len(steps.stored), "no tool has run twice"
    assert [9, 12, 8, 10, 8] == [len(messages) for messages in sent]
    assert told.finish is not None
    assert Usage(33, 21, 9, 3) == told.finish.usage
    spent = told.finish.spent
    assert (33, 21, 9) == (spent and spent[:3]), "what the runs before it have used counts"


async def test_attempt_behind_stored_tools_halves_the_window_as_well() -> None:
    script = [Say("", [Call("look")]), Fail(503), TOO_LONG, Say("Done.")]
    with FakeOpenAI(script) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=[look]), model)
        steps, run = KeptSteps(), a_run(earlier=EARLIER)
        with pytest.raises(AgentUnavailable):
            await attempt(agent, run, steps)
        told = await attempt(agent, run, steps)

    assert told is not None
    assert ("Done.", ["found"]) == (told.text, [call.result for call in told.calls])


async def test_text_behind_the_tools_is_not_told_twice() -> None:
    """Fails when a run whose model has begun to answer begins again."""
    script = [Say("", [Call("look")]), Say("Half an answer", error_after=2), Say("Done.")]
    with FakeOpenAI(script) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=[look]), model)
        with pytest.raises(AgentUnavailable):
            await attempt(agent, a_run(earlier=EARLIER), KeptSteps())

        assert 2 == len(fake.requests)


def look() -> str:
    return "found"


async def test_steps_of_mistaken_calls_are_told_as_well() -> None:
    """No tool runs for a call with wrong arguments, so its response is stored with the next one."""
    script = [
        Say("Hm. ", [Call("nothing", id="c1")]),
        Say("", [Call("look", id="c2")]),
        Fail(503),
        Say("Done."),
    ]
    with FakeOpenAI(script) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=[look]), model)
        steps = KeptSteps()
        with pytest.raises(AgentUnavailable):
            await attempt(agent, a_run(), steps)
        told = await attempt(agent, a_run(), steps)

    assert told is not None
    assert "Hm. Done." == told.text
    assert [("c1", True, 1), ("c2", False, 2)] == [(c.id, c.is_error, c.step) for c in told.calls]


async def test_what_steps_say_is_told_of_a_turn_that_goes_on_no_more() -> None:
    worker = Worker()
    steps, model = KeptSteps(worker), a_model(worker)
    agent = PydanticAgent(Agent(model, tools=[Tools(worker).note]), model)
    worker.lives_anew(9)  # behind the result of its second call
    assert await attempt(agent, a_run(), steps) is None
    said = agent.retold(steps.stored)

    calls = [event for event in said if isinstance(event, ToolCall)]
    assert steps.kinds.count(StepKind.RESULT) == len(calls) > 0
    assert [] == agent.retold([Step(1, StepKind.RESPONSE, "not JSON")])


async def test_steps_that_cannot_be_read_fail_the_turn() -> None:
    """To begin again would run tools again."""
    agent = PydanticAgent(Agent(a_model(Worker())), a_model(Worker()))
    steps = KeptSteps(done=[Step(1, StepKind.RESPONSE, '{"messages": [{"kind": "new"}]}')])

    with pytest.raises(AgentUnavailable):
        await told_by(agent, replace(a_run(), steps=steps))


# Storing


class OddStore:
    """Stores steps as it is told to."""

    def __init__(self, *outcomes: bool | Exception) -> None:
        self.outcomes = list(outcomes)
        self.tried: list[Step] = []

    async def __call__(self, step: Step) -> bool:
        self.tried.append(step)
        outcome = self.outcomes.pop(0) if self.outcomes else True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def a_log(store: OddStore, lost: list[bool]) -> StepLog:
    return StepLog([], store, on_lost=lambda: lost.append(True), tasks=Tasks())


async def test_step_is_stored_again_while_the_store_is_away() -> None:
    store = OddStore(StoreUnavailable(), True)
    await a_log(store, []).store(StepKind.RESPONSE, "{}")

    assert [1, 1] == [step.number for step in store.tried]


async def test_lost_lease_ends_the_run_before_a_tool_begins() -> None:
    """Fails when tools do not wait for their response's step."""
    lost, worker = list[bool](), Worker()
    tools, model = Tools(worker), a_model(worker)
    agent = PydanticAgent(Agent(model, tools=[tools.note]), model)
    log = a_log(OddStore(False), lost)

    with pytest.raises(LeaseLost):
        await told_by(agent, replace(a_run(), steps=log))
    assert ([True], []) == (lost, tools.begun)


async def test_closed_log_stores_nothing() -> None:
    store = OddStore()
    log = a_log(store, [])
    await log.close()

    with pytest.raises(LeaseLost):
        await log.store(StepKind.RESULT, "{}")
    assert [] == store.tried


async def test_result_that_is_too_large_is_a_failed_one() -> None:
    def huge() -> Any:
        return BinaryContent(b"x" * MAX_BYTES, media_type="image/png")

    store = OddStore()
    with FakeOpenAI([Say("", [Call("huge")]), Say("Done.")]) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=[huge]), model)
        told = await told_by(agent, replace(a_run(), steps=a_log(store, [])))

    assert ("Done.", TOO_LARGE) == (told.text, told.calls[0].result)


async def test_response_that_is_too_large_ends_the_run_before_its_tools() -> None:
    ran = list[int]()

    def run_it() -> str:
        ran.append(1)
        return "ran"

    full = StepLog(
        [Step(1, StepKind.RESULT, "x" * (MAX_BYTES - 10))], OddStore(), lambda: None, Tasks()
    )
    full.done = []
    script = [Say("y" * 5000, [Call("run_it")]), Say("Done.")]
    with FakeOpenAI(script) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=[run_it]), model)
        told = await told_by(agent, replace(a_run(), steps=full))

    assert told.finish is not None
    assert (FinishReason.LENGTH, []) == (told.finish.reason, ran)
