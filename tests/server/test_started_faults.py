"""Started turns under faults, with real processes: workers killed, drained and replaced."""

import asyncio
import os
import signal
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from support.processes import ServerProcess
from support.services import Service, StartService, an_id, metadata
from support.started_at_size import Size, prove

LEASE_S = 1.5
TURNS = int(os.environ.get("PARLEY_TEST_STARTED_TURNS", "300"))
IS_SMALL = TURNS < 1000
"""Then a conversation's turns have to take long enough for a worker to be killed meanwhile."""
SIZE = Size(
    TURNS,
    conversations=max(1, TURNS // (20 if IS_SMALL else 10)),
    kill_s=(0.5, 1.5),
    within_s=100 + TURNS / 4,
    agent="echo:0.15" if IS_SMALL else "echo:0.02",
)


async def start(worker: ServerProcess, message: str, **fields: Any) -> messages.Turn:
    request = pb.StartTurnRequest(chat=pb.ChatRequest(message=message, **fields))
    answer = await worker.stub.StartTurn(request, timeout=20, metadata=metadata("ada"))
    return answer.turn


async def until_running(service: Service, turn: messages.Turn) -> None:
    await service.until_turn(turn, "RUNNING")


@pytest.mark.slow
async def test_killed_workers_started_turn_is_taken_over_without_anybody_asking(
    start_service: StartService, database_url: str
) -> None:
    """Promise 5. Fails when a turn leaves the queue as it begins.

    Another one waits behind it, and runs after it.
    """
    with ServerProcess(database_url, agent="echo:30", lease_s=LEASE_S) as doomed:
        conversation_id = an_id()
        fields = {"conversation_id": conversation_id, "allow_missing": True}
        turn = await start(doomed, "hello", **fields)
        behind = await start(doomed, "next", **fields)
        service = await start_service(lease_s=LEASE_S)
        await until_running(service, turn)
        doomed.process.kill()
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended = await service.until_turn(turn, "COMPLETED", "FAILED")
        took_s = loop.time() - began
        await service.until_turn(behind, "COMPLETED")

    assert (messages.TURN_STATE_COMPLETED, 2) == (ended.state, ended.attempt)
    assert took_s < LEASE_S + 5
    history = (await service.history(conversation_id)).messages
    assert ["hello", "HELLO", "next", "NEXT"] == [m.content for m in history]


async def test_queued_turns_of_a_killed_worker_are_run_by_another_one(
    start_service: StartService, database_url: str
) -> None:
    with ServerProcess(database_url, agent="echo:30", max_open_chats=1) as doomed:
        await start(doomed, "first")
        turns = [await start(doomed, f"m{n}") for n in range(5)]
        doomed.process.kill()
    service = await start_service()
    for turn in turns:
        await service.until_turn(turn, "COMPLETED")


async def test_drained_workers_started_turn_is_run_again_by_another_one(
    start_service: StartService, database_url: str
) -> None:
    """At once: it does not wait for the end of the lease."""
    with ServerProcess(database_url, agent="echo:30", lease_s=60, drain_s=0) as drained:
        turn = await start(drained, "hello")
        service = await start_service(max_attempts=1)
        await until_running(service, turn)
        drained.signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            ended = await service.until_turn(turn, "COMPLETED", "FAILED")
        assert 0 == await asyncio.to_thread(drained.process.wait)

    assert (messages.TURN_STATE_COMPLETED, 2) == (ended.state, ended.attempt)


@pytest.mark.slow
async def test_started_turn_that_kills_its_workers_is_given_up(
    start_service: StartService, database_url: str
) -> None:
    """Fails when attempts at a started turn are not bounded; the next turn waits for its end."""
    service = None
    fields = {"conversation_id": an_id(), "allow_missing": True}
    turn = behind = None
    for attempt in (1, 2):
        with ServerProcess(database_url, agent="echo:30", lease_s=1, max_attempts=2) as doomed:
            if turn is None:
                turn = await start(doomed, "hello", **fields)
                behind = await start(doomed, "next", **fields)
            while True:
                request = pb.GetTurnRequest(
                    conversation_id=turn.conversation_id, turn_id=turn.turn_id
                )
                found = await doomed.stub.GetTurn(request, timeout=5, metadata=metadata("ada"))
                is_running = found.turn.state == messages.TURN_STATE_RUNNING
                if is_running and found.turn.attempt == attempt:  # not what a dead worker has left
                    break
                await asyncio.sleep(0.05)
            doomed.process.kill()
    service = await start_service(lease_s=1, max_attempts=2)
    assert turn is not None
    assert behind is not None
    ended = await service.until_turn(turn, "COMPLETED", "FAILED")
    await service.until_turn(behind, "COMPLETED")

    assert (messages.TURN_STATE_FAILED, 2) == (ended.state, ended.attempt)


@pytest.mark.slow
@pytest.mark.timeout(120 + TURNS / 2)
async def test_every_started_turn_is_answered_and_told_once_while_workers_are_killed(
    database_url: str, record_property: Any
) -> None:
    """Promise 5, and the feed's; at full size with PARLEY_TEST_STARTED_TURNS=10000.

    Fails when a turn is run by two, forgotten with its worker, or begun before an earlier one; and
    when the feed leaves one out that was committed late.
    """
    outcome = await prove(database_url, SIZE)

    record_property("outcome", str(outcome))
    print(outcome)  # noqa: T201 - shown by -rP
    assert outcome.kills
    assert outcome.taken_over, "no turn was under way when a worker was killed"
