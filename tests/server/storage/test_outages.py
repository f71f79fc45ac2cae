"""The database away at each statement of a turn: before it is carried out, and after."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from parley_server.process.worker import Worker
from support.agents import Gate, ScriptedAgent
from support.proxy import AFTER, BEFORE, PostgresProxy
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    eventually,
    refused,
    settings_for,
    until_true,
)

pytestmark = WITH_AND_WITHOUT_ROW_SECURITY

CLAIM = "INSERT INTO turn"
WINDOW = "OCTET_LENGTH"
FINISH = "answered AS"
RECLAIM = "retaken AS"
STORE_UNAVAILABLE = ("UNAVAILABLE", "STORE_UNAVAILABLE")


@pytest.fixture
async def proxy(usual: dict[str, Any]) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(usual["database_url"]).running() as proxy:
        yield proxy


@pytest.fixture
async def behind_proxy(proxy: PostgresProxy, start_service: StartService) -> Service:
    service = await start_service(database_url=proxy.url, db_prepare=False, lease_s=2)
    await service.chat("warm up", user="nobody")
    return service


@pytest.mark.parametrize("request_id", ["r", ""])
async def test_claim_that_was_not_carried_out_is_sent_again(
    proxy: PostgresProxy, behind_proxy: Service, request_id: str
) -> None:
    """Fails when a claim whose turn is not there is not sent again."""
    proxy.break_at(CLAIM, BEFORE, times=2)
    answer = await behind_proxy.chat("hello", request_id=request_id)

    assert 2 == proxy.broken
    assert (1, 2, False) == (answer.user_sequence, answer.response_sequence, answer.replayed)


@pytest.mark.parametrize("request_id", ["r", ""])
async def test_claim_that_was_carried_out_unseen_goes_on(
    proxy: PostgresProxy, behind_proxy: Service, request_id: str
) -> None:
    """Fails when an unknown outcome is taken for a failure: the turn then hangs in its lease."""
    proxy.break_at(CLAIM, AFTER)
    answer = await behind_proxy.chat("hello", request_id=request_id)

    assert 1 == proxy.broken
    assert ("HELLO", 1, 2) == (answer.response, answer.user_sequence, answer.response_sequence)


@pytest.mark.parametrize("when", [BEFORE, AFTER])
async def test_window_is_read_again(proxy: PostgresProxy, behind_proxy: Service, when: str) -> None:
    conversation_id = (await behind_proxy.chat("first")).conversation_id
    proxy.break_at(WINDOW, when)
    answer = await behind_proxy.chat("hello", conversation_id=conversation_id)

    assert 1 == proxy.broken
    assert (3, 4) == (answer.user_sequence, answer.response_sequence)


@pytest.mark.parametrize("when", [BEFORE, AFTER])
async def test_finish_is_sent_again_until_it_is_known(
    proxy: PostgresProxy, behind_proxy: Service, when: str
) -> None:
    """Fails when a finish is sent once only, and when a second one is not recognised as ours."""
    proxy.break_at(FINISH, when, times=2 if when == BEFORE else 1)
    answer = await behind_proxy.chat("hello", request_id="r")

    assert (2 if when == BEFORE else 1) == proxy.broken
    assert ("HELLO", 2) == (answer.response, answer.response_sequence)
    history = await behind_proxy.history(answer.conversation_id)
    assert ["hello", "HELLO"] == [m.content for m in history.messages]


@pytest.mark.slow
async def test_reclaim_with_unknown_outcome_waits_for_its_lease_and_is_made_again(
    proxy: PostgresProxy, start_service: StartService
) -> None:
    failing = True

    async def script(run):
        if failing:
            raise RuntimeError
        from support.agents import say_back

        async for event in say_back(run):
            yield event

    service = await start_service(
        ScriptedAgent(script), database_url=proxy.url, db_prepare=False, lease_s=1
    )
    await refused(service.chat("hello", request_id="r"))
    failing = False
    proxy.break_at(RECLAIM, AFTER)

    answer = await service.chat("hello", request_id="r")
    assert 1 == proxy.broken
    assert ("HELLO", 3) == (answer.response, (await service.turn(request_id="r")).attempt)


@pytest.mark.slow
async def test_agent_goes_on_while_the_database_is_away(
    proxy: PostgresProxy, start_service: StartService
) -> None:
    gate = Gate()
    service = await start_service(
        ScriptedAgent(gate), database_url=proxy.url, db_prepare=False, lease_s=1
    )
    call = asyncio.ensure_future(service.chat("hello"))
    await gate.entered.wait()
    proxy.go_down()
    await asyncio.sleep(1.2)  # past several heartbeats and the lease
    assert not gate.closed.is_set()
    gate.opened.set()
    await gate.closed.wait()
    proxy.come_back()

    assert "HELLO" == (await call).response


async def test_call_is_not_refused_when_another_ones_time_is_over(
    proxy: PostgresProxy, start_service: StartService
) -> None:
    """Fails when a read that calls share waits for the database as long as the first of them may.

    They wait for the same turn, and look at it at the same moments.
    """
    gate = Gate()
    service = await start_service(
        ScriptedAgent(gate), database_url=proxy.url, db_prepare=False, notify="poll"
    )
    runs = asyncio.ensure_future(service.chat("hello", request_id="r"))
    await gate.entered.wait()
    short = asyncio.ensure_future(service.chat("hello", request_id="r", timeout=1.8))
    await until_true(lambda: service.worker.bells.listeners() == 1)
    long = asyncio.ensure_future(service.chat("hello", request_id="r"))
    await until_true(lambda: service.worker.bells.listeners() == 2)
    proxy.go_down()

    assert STORE_UNAVAILABLE == await refused(short)
    proxy.come_back()
    gate.opened.set()
    assert ["HELLO", "HELLO"] == [(await call).response for call in (runs, long)]


@pytest.mark.slow
async def test_answer_that_cannot_be_stored_is_unavailable(
    proxy: PostgresProxy, start_service: StartService
) -> None:
    gate = Gate()
    service = await start_service(
        ScriptedAgent(gate),
        database_url=proxy.url,
        db_prepare=False,
        lease_s=1,
        chat_timeout_s=6,
    )
    call = asyncio.ensure_future(refused(service.chat("hello", request_id="r")))
    await gate.entered.wait()
    proxy.go_down()
    gate.opened.set()

    assert STORE_UNAVAILABLE == await call
    proxy.come_back()
    await eventually(service.conversations)
    answer = await eventually(lambda: service.chat("hello", request_id="r"))
    assert "HELLO" == answer.response


@pytest.mark.slow
async def test_reads_without_a_database_are_unavailable_after_the_wait(
    proxy: PostgresProxy, start_service: StartService
) -> None:
    service = await start_service(database_url=proxy.url, db_prepare=False, store_wait_s=1)
    proxy.go_down()
    for _ in range(3):
        assert STORE_UNAVAILABLE == await refused(service.conversations())
    proxy.come_back()
    assert [] == list((await eventually(service.conversations)).conversations)


async def test_reads_and_claims_wait_for_the_database(
    proxy: PostgresProxy, behind_proxy: Service
) -> None:
    """Fails when a call is refused though the database comes back within its time."""
    proxy.go_down()
    calls: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(c) for c in (behind_proxy.conversations(), behind_proxy.chat())
    ]
    await asyncio.sleep(0.5)  # the outage is the subject
    proxy.come_back()

    _, answer = await asyncio.gather(*calls)
    assert "HELLO" == answer.response


@pytest.mark.slow
async def test_call_is_told_before_its_deadline_that_the_database_is_away(
    proxy: PostgresProxy, behind_proxy: Service
) -> None:
    """Fails when the store's wait does not heed the call's deadline."""
    proxy.go_down()

    assert STORE_UNAVAILABLE == await refused(behind_proxy.chat(timeout=2))


async def test_lost_callers_cost_no_connections(start_service: StartService) -> None:
    """Fails when a statement is cancelled with its caller: the pool is empty after a while."""
    service = await start_service(db_pool_size=3)
    for _ in range(40):
        calls = [asyncio.ensure_future(service.chat("hello")) for _ in range(20)]
        await asyncio.sleep(0.004)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    answers = await asyncio.gather(*(service.chat("hello", timeout=10) for _ in range(20)))

    assert 20 == len(answers)


async def test_drain_does_not_wait_for_a_database_that_is_away(
    proxy: PostgresProxy, usual: dict[str, Any]
) -> None:
    """Fails when work in the background is closed before the drain begins: each look of it waits
    for the database, one after another, and an orchestrator's patience ends meanwhile."""
    changes = {"database_url": proxy.url, "db_prepare": False, "store_wait_s": 60, "drain_s": 0.2}
    gate = Gate()
    worker = Worker(settings_for(**usual | changes), agent=ScriptedAgent(gate))
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def serve() -> None:
        async with worker.serving() as port:
            ready.set_result(port)
            await stop.wait()

    serving = asyncio.create_task(serve())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await ready}") as channel:
        call = asyncio.ensure_future(Service(worker, await ready, channel).chat(timeout=60))
        await gate.entered.wait()
        proxy.go_down()
        worker.purging.wake()
        await until_true(lambda: worker.store.claiming.waiting() > 0)
        stop.set()
        async with asyncio.timeout(20):
            await gate.closed.wait()
        proxy.come_back()
        await asyncio.wait([call])
        await serving
