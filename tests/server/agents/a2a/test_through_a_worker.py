"""Remote agents through a whole worker: calls, streams, cancels, and what is stored."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from a2a.types import a2a_pb2 as a2a

from parley.v1 import conversation_pb2
from parley_server.agents.a2a.agent import A2AAgent
from parley_server.process.worker import Worker
from support.a2a_agents import Start, built, go_agent, python_agent
from support.a2a_scripted import (
    OTHERS_WORDS,
    Hangs,
    Ids,
    Said,
    ScriptedRemote,
    a_message,
    a_piece,
    a_status,
    a_task,
)
from support.processes import ServerProcess
from support.services import StartService, info_of, refused, settings_for, until_true
from support.streams import next_of, rest_of

EXAMPLE = Path(__file__).parents[4] / "examples" / "agent-go"

pytestmark = pytest.mark.timeout(400)  # Go builds its agents once


@asynccontextmanager
async def example() -> AsyncIterator[tuple[str, list[str]]]:
    """Run examples/agent-go; yields its name, and what it logs."""
    program = await asyncio.to_thread(built, EXAMPLE)
    process = await asyncio.create_subprocess_exec(
        program, "-listen", "127.0.0.1:0", env=os.environ, stderr=asyncio.subprocess.PIPE
    )
    output, lines = process.stderr, list[str]()
    assert output is not None

    async def read() -> None:
        async for line in output:
            lines.append(line.decode())

    reading = asyncio.create_task(read())
    try:
        await until_true(lambda: bool(lines))
        yield f"a2a+grpc://{lines[0].split()[-1]}", lines
    finally:
        process.kill()
        await process.wait()
        await reading


@pytest.mark.slow
async def test_the_example_in_go_answers_streams_and_is_stopped(
    start_service: StartService,
) -> None:
    async with example() as (name, lines):
        service = await start_service(A2AAgent(name))
        first = await service.chat("Hello you")
        second = await service.chat("and I", conversation_id=first.conversation_id)
        stream = service.stream(" ".join(["word"] * 2000), timeout=60)
        started = (await next_of(stream, "started")).started
        said = (await next_of(stream, "chunk")).chunk.text
        turn = {"conversation_id": started.conversation_id, "turn_id": started.turn_id}
        await service.cancel(**turn)
        await until_true(lambda: any("stopped: context canceled" in line for line in lines))
        answer = (await rest_of(stream))[-1].completed

    assert "After 0 earlier messages, you say: Hello you" == first.response
    assert "After 2 earlier messages, you say: and I" == second.response
    assert answer.response.startswith(said)
    assert conversation_pb2.FINISH_REASON_CANCELLED == answer.finish_reason


@pytest.mark.slow
async def test_a_server_starts_while_its_agent_is_down_and_finds_it_later(
    database_url: str,
) -> None:
    remote = ScriptedRemote(lambda _: [a_message("Here I am")])
    async with remote.running():
        pass
    with await asyncio.to_thread(ServerProcess, database_url, agent=remote.name) as server:
        down = await refused(server.chat())
        async with remote.running():

            async def answered() -> str:
                while True:
                    try:
                        return (await server.chat()).response
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.1)

            answer = await asyncio.wait_for(answered(), 30)
        code = await asyncio.to_thread(server.stop)

    assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == down
    assert "Here I am" == answer
    assert 0 == code


@pytest.mark.slow
@pytest.mark.parametrize("start", [python_agent, go_agent], ids=["python", "go"])
async def test_a_question_of_the_agent_is_answered_in_its_task(
    start: Start, start_service: StartService
) -> None:
    """What names the task is stored with the answer, and read by another worker."""
    async with start() as real:
        one, other = [await start_service(A2AAgent(real.name)) for _ in range(2)]
        question = await one.chat("ask")
        answer = await other.chat("this", conversation_id=question.conversation_id)
        after = await one.chat("that", conversation_id=question.conversation_id)

    assert "Which one?" == question.response
    assert "this, in the task of before: true" == answer.response
    assert "that, in the task of before: false" == after.response


async def test_an_answer_without_end_is_cut_and_its_task_is_cancelled(
    start_service: StartService,
) -> None:
    """50 MB would come: the call ends long before."""
    sent = []

    def flood(ids: Ids) -> Iterable[Said]:
        yield a_task(ids)
        for number in range(800):
            sent.append(number)
            yield a_piece(ids, "x" * 65536, append=number > 0)

    remote = ScriptedRemote(flood)
    async with remote.running():
        service = await start_service(A2AAgent(remote.name))
        answer = await service.chat()
        await until_true(lambda: remote.cancelled == ["t1"])

    assert 256 * 1024 == len(answer.response)
    assert conversation_pb2.FINISH_REASON_LENGTH == answer.finish_reason
    assert len(sent) < 200


async def test_a_caller_that_goes_away_ends_the_task(start_service: StartService) -> None:
    remote = ScriptedRemote(lambda ids: [a_task(ids), a_piece(ids, "Half"), Hangs()])
    async with remote.running():
        service = await start_service(A2AAgent(remote.name))
        stream = service.stream()
        await next_of(stream, "started")
        await next_of(stream, "chunk")
        stream.cancel()
        await until_true(lambda: remote.cancelled == ["t1"])


async def test_the_agents_words_about_a_failure_go_nowhere(
    start_service: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    remote = ScriptedRemote(
        lambda ids: [a_task(ids), a_status(ids, a2a.TASK_STATE_REJECTED, OTHERS_WORDS)]
    )
    async with remote.running():
        service = await start_service(A2AAgent(remote.name))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.chat()

    assert "AGENT_REFUSED" == info_of(caught.value).reason
    assert OTHERS_WORDS not in str(caught.value) + caplog.text


async def test_tools_of_the_caller_are_refused_in_a_sentence(start_service: StartService) -> None:
    remote = ScriptedRemote(lambda _: [a_message("Hello")])
    tool = conversation_pb2.Tool(name="look", parameters_schema='{"type":"object"}')
    async with remote.running():
        service = await start_service(A2AAgent(remote.name))
        with pytest.raises(grpc.aio.AioRpcError, match="cannot use the caller's tools") as caught:
            await service.chat(tools=[tool])

    assert "AGENT_REFUSED" == info_of(caught.value).reason
    assert [] == remote.heard


@pytest.mark.parametrize("start", [python_agent, go_agent], ids=["python", "go"])
async def test_a_rehearsal_leaves_the_tasks_of_its_conversation_alone(
    start: Start, start_service: StartService
) -> None:
    """Fails where it goes on with the task that waits for the next turn, which is then gone."""
    async with start() as real:
        service = await start_service(A2AAgent(real.name))
        question = await service.chat("ask")
        conversation = {"conversation_id": question.conversation_id}
        answer = await service.chat("this", **conversation)
        again = await service.chat("ask", **conversation)
        events = [
            await rest_of(service.rehearse(**conversation, turn_id=turn.turn_id))
            for turn in (answer, again)
        ]
        after = await service.chat("that", **conversation)

    rehearsed = [each[-1].completed.response for each in events]
    assert ["this, in the task of before: false", "Which one?"] == rehearsed
    assert "that, in the task of before: true" == after.response


async def test_a_rehearsal_is_a_conversation_of_its_own_whose_task_does_not_wait(
    start_service: StartService,
) -> None:
    def ask(ids: Ids) -> Iterable[Said]:
        yield a_task(ids)
        yield a_status(ids, a2a.TASK_STATE_INPUT_REQUIRED, "Which one?")

    async with ScriptedRemote(ask).running() as remote:
        service = await start_service(A2AAgent(remote.name))
        asked = await service.chat("ask")
        named = {"conversation_id": asked.conversation_id, "turn_id": asked.turn_id}
        await rest_of(service.rehearse(**named))
        await until_true(lambda: [h.method for h in remote.heard][-1] == "CancelTask")

    first, second = (h.request.message for h in remote.heard if h.method != "CancelTask")
    assert first.context_id == asked.conversation_id != second.context_id
    assert 3 == len(remote.heard)


async def test_agent_of_the_setting_on_another_server_does_not_rehearse(
    database_url: str,
) -> None:
    """As in a file: what it does is out of Parley's hands."""
    worker = Worker(settings_for(database_url, agent="a2a+grpc://127.0.0.1:9"))

    assert not worker.agents.roster.default.can_rehearse
