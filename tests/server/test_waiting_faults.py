"""Waiting turns under faults: workers that are killed, a Postgres that is restarted."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import version
from support.processes import ServerProcess
from support.services import StartService, metadata
from support.waiting import WEATHER, AskingAgent, result

TESTS = Path(__file__).parents[1]
TWO = (("weather", "weather"),)
LEASE_S = 1.5


def asking(database_url: str, **environment: Any) -> ServerProcess:
    """Start a worker whose agent asks its caller, as a process of its own."""
    return ServerProcess(
        database_url, module="support.asking_server", arguments=(), lease_s=LEASE_S, **environment
    )


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def resume(worker: Any, *results: pb.CallResult) -> Any:
    request = pb.ResumeTurnRequest(results=results, request_id="r")
    return worker.stub.ResumeTurn(request, timeout=20, metadata=metadata("ada"))


@pytest.mark.slow
async def test_killed_worker_costs_a_waiting_turn_nothing(
    start_service: StartService, database_url: str
) -> None:
    with asking(database_url) as doomed:
        waits = await doomed.chat("hello", request_id="r", tools=[WEATHER])
        first, second = waits.pending_calls
        await resume(doomed, result(first))
        doomed.process.kill()
    agent = AskingAgent(TWO)
    service = await start_service(agent, lease_s=LEASE_S)

    turn = await service.turn(request_id="r")
    assert (messages.TURN_STATE_WAITING, 1, [second]) == (
        turn.state,
        turn.attempt,
        list(turn.pending_calls),
    )
    answer = await service.resume(result(second, "rainy"), request_id="r")

    assert ("1. done: sunny, rainy", 2) == (answer.response, agent.runs[0].attempt)


@pytest.mark.slow
async def test_killed_workers_resumed_turn_is_run_again_by_the_same_call(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKING_HOLD", "2")
    with asking(database_url) as doomed:
        waits = await doomed.chat("hello", request_id="r", tools=[WEATHER])
        given = [result(call) for call in waits.pending_calls]
        lost = asyncio.ensure_future(resume(doomed, *given))
        agent = AskingAgent(TWO)
        service = await start_service(agent, lease_s=LEASE_S)
        while (await service.turn(request_id="r")).state != messages.TURN_STATE_RUNNING:
            await asyncio.sleep(0.05)
        doomed.process.kill()
        await asyncio.wait([lost])

        answer = await service.resume(*given, request_id="r")

    assert ("1. done: sunny, sunny", 3) == (answer.response, agent.runs[0].attempt)
    assert ["weather"] == [tool.name for tool in agent.runs[0].tools]


@pytest.mark.slow
async def test_started_turn_of_a_killed_worker_goes_on_by_itself_once_resumed(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKING_HOLD", "2")
    with asking(database_url) as doomed:
        chat = pb.ChatRequest(message="hello", request_id="r", tools=[WEATHER])
        request = pb.StartTurnRequest(chat=chat)
        turn = (await doomed.stub.StartTurn(request, timeout=20, metadata=metadata("ada"))).turn
        name = pb.GetTurnRequest(request_id="r")
        while turn.state != messages.TURN_STATE_WAITING:
            await asyncio.sleep(0.05)
            turn = (await doomed.stub.GetTurn(name, timeout=5, metadata=metadata("ada"))).turn
        lost = asyncio.ensure_future(resume(doomed, *map(result, turn.pending_calls)))
        while turn.state != messages.TURN_STATE_RUNNING:
            await asyncio.sleep(0.05)
            turn = (await doomed.stub.GetTurn(name, timeout=5, metadata=metadata("ada"))).turn
        doomed.process.kill()
        await asyncio.wait([lost])
        service = await start_service(AskingAgent(TWO), lease_s=LEASE_S)

        ended = await service.until_turn(turn, "COMPLETED")

    assert 3 == ended.attempt


@pytest.mark.slow
async def test_results_are_stored_once_where_a_worker_is_killed_while_they_are_given(
    start_service: StartService, database_url: str
) -> None:
    """Wherever it is hit, a repeated call finds all results of the request or none of them."""
    agent = AskingAgent(TWO)
    service = await start_service(agent, lease_s=LEASE_S)
    for number in range(4):
        name = f"r{number}"
        waits = await service.chat("hello", request_id=name, tools=[WEATHER])
        given = [result(call) for call in waits.pending_calls]
        with asking(database_url) as doomed:
            request = pb.ResumeTurnRequest(results=given, request_id=name)
            lost = asyncio.ensure_future(
                doomed.stub.ResumeTurn(request, timeout=20, metadata=metadata("ada"))
            )
            await asyncio.sleep(0.004 * number)
            doomed.process.kill()
            await asyncio.wait([lost])

        answer = await service.resume(*given, request_id=name)

        assert "1. done: sunny, sunny" == answer.response


@pytest.mark.slow
async def test_turn_waits_through_a_restart_of_postgres(
    start_service: StartService, cluster_folder: Path
) -> None:
    with EmbeddedPostgres(cluster_folder) as postgres:
        url = postgres.start()
        version.migrate(url)
        service = await start_service(
            AskingAgent(TWO), database_url=url, lease_s=LEASE_S, store_wait_s=10
        )
        waits = await service.chat("hello", request_id="r", tools=[WEATHER])
        first, second = waits.pending_calls
        await service.resume(result(first), request_id="r")
        await asyncio.to_thread(postgres.stop)
        resuming = asyncio.ensure_future(service.resume(result(second), request_id="r"))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.start)

        try:
            answer = await resuming
        except grpc.aio.AioRpcError as error:
            assert grpc.StatusCode.UNAVAILABLE == error.code()
            answer = await service.resume(result(second), request_id="r")
        assert "1. done: sunny, sunny" == answer.response
