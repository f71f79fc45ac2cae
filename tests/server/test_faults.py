"""Promises 1, 3 and 5 with real processes: killed, stopped, resumed; workers and Postgres alike."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import version
from support.processes import ServerProcess
from support.services import Service, info_of, metadata, reason_of, trailing_of

LEASE_S = 1.5


async def running(stub: Service | ServerProcess, request_id: str) -> cpb.Turn:
    """Return a turn once it runs."""
    while True:
        try:
            request = pb.GetTurnRequest(request_id=request_id)
            turn = (await stub.stub.GetTurn(request, timeout=5, metadata=metadata("ada"))).turn
        except grpc.aio.AioRpcError as error:
            assert grpc.StatusCode.NOT_FOUND == error.code()
        else:
            if turn.state == cpb.TURN_STATE_RUNNING:
                return turn
        await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_killed_workers_turn_is_run_again_by_its_request_id(
    service: Service, database_url: str
) -> None:
    with ServerProcess(database_url, agent="echo:30", lease_s=LEASE_S) as doomed:
        call = asyncio.ensure_future(doomed.chat("hello", request_id="r"))
        turn = await running(service, "r")
        doomed.process.kill()
        answer = await service.chat("hello", request_id="r", timeout=LEASE_S + 5)
        await asyncio.wait([call])

    assert turn.turn_id == answer.turn_id
    assert ("HELLO", 1, 2) == (answer.response, answer.user_sequence, answer.response_sequence)
    assert 2 == (await service.turn(request_id="r")).attempt
    assert 2 == (await service.history(answer.conversation_id)).last_sequence


@pytest.mark.slow
async def test_killed_workers_conversation_is_free_for_the_next_message(
    service: Service, database_url: str
) -> None:
    conversation_id = (await service.chat("first")).conversation_id
    with ServerProcess(database_url, agent="echo:30", lease_s=LEASE_S) as doomed:
        call = asyncio.ensure_future(
            doomed.chat("lost", conversation_id=conversation_id, request_id="r")
        )
        await running(service, "r")
        doomed.process.kill()
        answer = await service.chat(
            "next",
            conversation_id=conversation_id,
            on_busy=pb.ON_BUSY_WAIT,
            timeout=LEASE_S + 5,
        )
        await asyncio.wait([call])

    assert (4, 5) == (answer.user_sequence, answer.response_sequence)
    lost = await service.turn(request_id="r")
    assert (cpb.TURN_STATE_FAILED, "TURN_ABANDONED") == (lost.state, reason_of(lost))


@pytest.mark.slow
async def test_worker_that_was_overtaken_while_stopped_writes_nothing(
    service: Service, database_url: str
) -> None:
    """Fails when the finish does not compare the fence: the conversation then has two answers."""
    with ServerProcess(database_url, agent="echo:1", lease_s=LEASE_S) as stopped:
        call = asyncio.ensure_future(stopped.chat("hello", request_id="r", timeout=30))
        turn = await running(service, "r")
        stopped.signal(signal.SIGSTOP)
        answer = await service.chat("hello", request_id="r", timeout=LEASE_S + 5)
        before = await service.history(turn.conversation_id)
        stopped.signal(signal.SIGCONT)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call

    assert ("ABORTED", "LEASE_LOST") == (caught.value.code().name, info_of(caught.value).reason)
    assert "HELLO" == answer.response
    assert before == await service.history(turn.conversation_id)


@pytest.mark.slow
async def test_worker_that_nobody_overtook_while_stopped_may_finish(
    service: Service, database_url: str
) -> None:
    with ServerProcess(database_url, agent="echo:1", lease_s=LEASE_S) as stopped:
        call = asyncio.ensure_future(stopped.chat("hello", request_id="r", timeout=30))
        await running(service, "r")
        stopped.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_S + 0.3)  # the lease's own time is the subject
        assert cpb.TURN_STATE_FAILED == (await service.turn(request_id="r")).state
        stopped.signal(signal.SIGCONT)
        answer = await call

    turn = await service.turn(request_id="r")
    assert (cpb.TURN_STATE_COMPLETED, 1) == (turn.state, turn.attempt)
    assert turn.turn_id == answer.turn_id


@pytest.fixture
def own_postgres(cluster_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres of this test's own, to be killed."""
    with EmbeddedPostgres(cluster_folder) as postgres:
        version.migrate(postgres.start())
        yield postgres


@pytest.mark.slow
async def test_health_follows_the_database(own_postgres: EmbeddedPostgres) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    serving = health_pb2.HealthCheckResponse.SERVING
    with ServerProcess(own_postgres.start()) as server:
        health = health_pb2_grpc.HealthStub(server.channel)

        async def status() -> int:
            request = health_pb2.HealthCheckRequest(service="parley.v1.ConversationService")
            return (await health.Check(request, timeout=5)).status

        assert serving == await status()
        own_postgres.stop()
        while await status() == serving:
            await asyncio.sleep(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.chat(request_id="r")
        assert "STORE_UNAVAILABLE" == info_of(caught.value).reason
        assert "500" == trailing_of(caught.value)["grpc-retry-pushback-ms"]
        await asyncio.to_thread(own_postgres.start)
        while await status() != serving:
            await asyncio.sleep(0.1)
        assert "hello" == (await server.chat()).response
