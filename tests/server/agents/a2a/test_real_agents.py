"""Agents of A2A's own SDKs, in Python and in Go, are asked as any other."""

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import trustme

from parley_server.agents.a2a.access import Access
from parley_server.agents.a2a.state import TaskState
from parley_server.core.errors import AgentRefused, AgentTimeout
from parley_server.core.model import FinishReason, Text
from parley_server.core.tracing import Trace, current_trace
from support.a2a_agents import Start, go_agent, python_agent
from support.a2a_scripted import an_agent
from support.agent_runs import Told, a_call, a_run, a_user_message, an_answer, told_by
from support.certificates import Certificates
from support.deadlines import ROUNDING_S
from support.services import until_true

pytestmark = pytest.mark.timeout(400)  # Go builds its agent once

WORDS = " ".join(map(str, range(200)))


@pytest.fixture(params=[python_agent, go_agent], ids=["python", "go"])
def start(request: pytest.FixtureRequest) -> Start:
    """Start an agent of one of the SDKs."""
    found: Start = request.param
    return found


@pytest.mark.slow
async def test_an_answer_is_streamed(start: Start) -> None:
    async with start() as real, an_agent(real.name) as agent:
        told = await told_by(agent, a_run("count 200"))

    assert WORDS == told.text
    assert len(told.pieces) >= 190
    assert told.finish is not None
    assert FinishReason.STOP is told.finish.reason


async def test_an_agent_sees_what_goes_along(start: Start) -> None:
    earlier = [a_user_message("Hi"), an_answer("Hello", a_call())]
    run = replace(a_run("see", earlier=earlier, instructions="Be kind."), time_left_s=20)
    current_trace.set(Trace("b" * 32, is_sampled=True))
    async with start() as real, an_agent(real.name) as agent:
        seen = json.loads((await told_by(agent, run)).text)

    metadata = seen["metadata"]
    assert str(run.conversation_id) == seen["context"]
    assert "Be kind." == metadata["parley.instructions"]
    call = {"id": "c1", "name": "look", "arguments": '{"x":1}', "result": "found"}
    assert [
        {"role": "user", "text": "Hi"},
        {"role": "assistant", "text": "Hello", "tool_calls": [{**call, "is_error": False}]},
    ] == metadata["parley.history"]
    assert (str(run.turn_id), 1) == (metadata["parley.turn_id"], metadata["parley.attempt"])
    left = datetime.fromisoformat(metadata["parley.deadline"]) - datetime.now(UTC)
    assert 0 < left.total_seconds() <= 20 + ROUNDING_S
    assert metadata["traceparent"].startswith("00-" + "b" * 32)
    assert [metadata["traceparent"]] == seen["headers"]["traceparent"]
    assert 15 < float(real.lines[0].removeprefix("deadline ")) <= 20 + ROUNDING_S


async def test_an_agent_is_told_that_its_task_is_cancelled(start: Start) -> None:
    """Fails without CancelTask: both SDKs run a task on when its call is gone."""
    async with start() as real, an_agent(real.name) as agent:
        async with aclosing(agent.run(a_run("hang"))) as events:
            assert Text("Half") == await anext(events)
        await until_true(lambda: {"cancelled", "ended"} <= set(real.lines))


async def test_a_deadline_ends_a_task(start: Start) -> None:
    async with start() as real, an_agent(real.name) as agent:
        told = Told()
        with pytest.raises(AgentTimeout):
            await told_by(agent, replace(a_run("hang"), time_left_s=1), told)
        await until_true(lambda: "cancelled" in real.lines)

    assert "Half" == told.text


async def test_an_agent_that_asks_for_input_gets_it_in_the_same_task(start: Start) -> None:
    first = a_run("ask")
    async with start() as real, an_agent(real.name) as agent:
        question = await told_by(agent, first)
        answered = an_answer(question.text)._replace(opaque_state=question.states[0].data)
        second = a_run("this", earlier=[a_user_message("ask"), answered])
        await asyncio.sleep(0.5)  # the SDK lets go of a task a moment after it has asked
        told = await told_by(agent, replace(second, conversation_id=first.conversation_id))

    assert "Which one?" == question.text
    assert "this, in the task of before: true" == told.text


@pytest.mark.parametrize("streams", [True, False], ids=["streams", "no-streams"])
async def test_an_artifact_that_takes_the_place_of_an_earlier_turns_is_told_whole(
    streams: bool,
) -> None:
    """Fails if so many characters of it are taken for told: a shorter one would be no answer."""
    first = a_run("offer Red or blue?")
    async with python_agent(streams=streams) as real, an_agent(real.name) as agent:
        question = await told_by(agent, first)
        answered = an_answer(question.text)._replace(opaque_state=question.states[0].data)
        second = a_run("take Blue.", earlier=[a_user_message("offer"), answered])
        await asyncio.sleep(0.5)  # the SDK lets go of a task a moment after it has asked
        told = await told_by(agent, replace(second, conversation_id=first.conversation_id))

    assert ("Red or blue?", "Blue.") == (question.text, told.text)


async def test_an_agent_that_has_forgotten_the_task_gets_the_message_as_a_new_one(
    start: Start,
) -> None:
    """Fails without is_task_gone: the conversation could not go on."""
    first = a_run("ask")
    state = TaskState("0b8c1fb0-2f0d-4f3c-8d57-7f0a1f0c7a11").dumped
    async with start() as real, an_agent(real.name) as agent:
        data = state(real.name.removeprefix("a2a+grpc://"), str(first.conversation_id))
        answered = an_answer("Which one?")._replace(opaque_state=data)
        second = a_run("this", earlier=[a_user_message("ask"), answered])
        told = await told_by(agent, replace(second, conversation_id=first.conversation_id))

    assert "this, in the task of before: false" == told.text
    assert 2 == len(real.lines), "asked twice"


async def test_the_token_is_asked_for(start: Start) -> None:
    async with start(token="t0ken") as real:
        async with an_agent(real.name, Access(token="t0ken")) as agent:
            assert "0 1" == (await told_by(agent, a_run("count 2"))).text
        async with an_agent(real.name, Access(token="another")) as agent:
            with pytest.raises(AgentRefused):
                await told_by(agent, a_run("count 2"))


async def test_tls_is_spoken(start: Start, tmp_path: Path) -> None:
    ca = trustme.CA()
    files = Certificates(tmp_path)
    files.write(ca, name="127.0.0.1")
    trusted = tmp_path / "ca.crt"
    ca.cert_pem.write_to_path(str(trusted))
    async with start(token="t0ken", files=files) as real:
        name = real.name.replace("grpc:", "grpcs:")
        async with an_agent(name, Access("t0ken", trusted)) as agent:
            assert "0 1" == (await told_by(agent, a_run("count 2"))).text


async def test_an_agent_without_streams_is_asked_without_one() -> None:
    async with python_agent(streams=False) as real, an_agent(real.name) as agent:
        told = await told_by(agent, a_run("count 3"))

    assert "0 1 2" == told.text


async def test_two_calls_at_once_keep_their_answers(start: Start) -> None:
    async with start() as real, an_agent(real.name) as agent:
        numbers = [50, 70, 90]
        told = await asyncio.gather(*(told_by(agent, a_run(f"count {n}")) for n in numbers))

    assert [" ".join(map(str, range(n))) for n in numbers] == [each.text for each in told]


@pytest.mark.slow
async def test_many_answers_leave_no_memory_behind(start: Start) -> None:
    process = psutil.Process()
    async with start() as real, an_agent(real.name) as agent:
        for _ in range(5):
            await told_by(agent, a_run("count 100"))
        before = process.memory_info().rss
        for _ in range(30):
            await told_by(agent, a_run("count 100"))
        grown = process.memory_info().rss - before

    assert grown < 30_000_000
