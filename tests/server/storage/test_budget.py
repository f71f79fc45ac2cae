"""PARLEY_MAX_TOKENS_PER_DAY: what an owner's turns may use, on all workers together."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentTimeout
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, Spent, Text, Usage
from parley_server.storage.statements import sql
from support.agents import ScriptedAgent
from support.databases import as_superuser
from support.postgres_wire import PostgresWire, a_turns
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    details_of,
    gathered,
    info_of,
    refused,
)

OF_A_TURN = 100
BUDGET = 3 * OF_A_TURN
EXHAUSTED = ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED")


async def spend(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Answer, or fail if asked to, for 100 tokens each."""
    used = Usage(input_tokens=70, output_tokens=30, cached_input_tokens=50, model_requests=1)
    yield Spent(used)
    if run.window.messages[-1].content == "fail":
        raise AgentTimeout
    yield Text("fine")
    yield Finish(FinishReason.STOP, "scripted-1", used)


@pytest.fixture
async def limited(start_service: StartService) -> Service:
    return await start_service(ScriptedAgent(spend), max_tokens_per_day=BUDGET)


def run(url: str, statement: str) -> None:
    with psycopg.connect(as_superuser(url), autocommit=True) as connection:
        connection.execute(statement)


async def use_up(service: Service) -> str:
    """Use what Ada may, and return the conversation that she has used it in."""
    conversation_id = (await service.chat("1", request_id="r1")).conversation_id
    await service.chat("2", conversation_id=conversation_id, request_id="r2")
    await refused(service.chat("fail", conversation_id=conversation_id, request_id="r3"))
    return conversation_id


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_turn_beyond_the_budget_is_refused_and_stores_nothing(limited: Service) -> None:
    """Fails without the condition on the budget, in each of the ways a turn is opened."""
    conversation_id = await use_up(limited)
    before = await limited.conversations()

    assert EXHAUSTED == await refused(limited.chat())
    assert EXHAUSTED == await refused(limited.chat(conversation_id=conversation_id))
    missing = {"conversation_id": an_id(), "allow_missing": True}
    assert EXHAUSTED == await refused(limited.chat(**missing))
    assert EXHAUSTED == await refused(limited.stream().read())
    assert before == await limited.conversations()
    await limited.chat(user="bob")


async def test_refusal_says_how_much_is_used_and_when_the_day_is_over(limited: Service) -> None:
    await use_up(limited)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await limited.chat()

    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    [retry] = [d for d in details_of(caught.value) if isinstance(d, error_details_pb2.RetryInfo)]
    assert abs(retry.retry_delay.ToTimedelta() - (midnight - now)) < timedelta(minutes=1)
    told = info_of(caught.value).metadata
    assert (str(BUDGET), "300") == (told["max_tokens_per_day"], told["used_tokens"])
    assert 0 < float(told["retry_after_s"]) <= 86_400


async def test_replays_and_new_attempts_are_not_refused(limited: Service) -> None:
    conversation_id = await use_up(limited)

    again = await limited.chat("2", conversation_id=conversation_id, request_id="r2")
    assert again.replayed
    call = limited.chat("fail", conversation_id=conversation_id, request_id="r3")
    assert ("DEADLINE_EXCEEDED", "AGENT_TIMEOUT") == await refused(call)


@pytest.mark.writes_rows
async def test_next_day_has_a_budget_of_its_own(limited: Service, database_url: str) -> None:
    await use_up(limited)
    assert EXHAUSTED == await refused(limited.chat())
    run(database_url, "UPDATE usage_day SET day = day - 1")

    await limited.chat()


async def test_budget_holds_for_all_workers_together(start_service: StartService) -> None:
    agent = ScriptedAgent(spend)
    services = [await start_service(agent, max_tokens_per_day=BUDGET) for _ in range(2)]
    for n in range(3):
        await services[n % 2].chat()

    for service in services:
        assert EXHAUSTED == await refused(service.chat())


async def test_deleting_a_conversation_gives_nothing_back(limited: Service) -> None:
    await limited.delete(await use_up(limited))

    assert EXHAUSTED == await refused(limited.chat())


async def test_budget_is_passed_by_no_more_than_the_turns_that_are_open(
    start_service: StartService,
) -> None:
    """Turns that are open have used nothing yet: one for each conversation may begin."""
    entered = asyncio.Semaphore(0)
    opened = asyncio.Event()

    async def script(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        entered.release()
        await opened.wait()
        async for event in spend(run):
            yield event

    service = await start_service(ScriptedAgent(script), max_tokens_per_day=BUDGET)

    async def open_once_all_run() -> None:
        for _ in range(8):
            await entered.acquire()
        opened.set()

    *answers, _ = await gathered(*(service.chat() for _ in range(8)), open_once_all_run())

    assert all(isinstance(answer, pb.ChatResponse) for answer in answers)
    [used] = await service.usage()
    assert 8 * OF_A_TURN == used.usage.input_tokens + used.usage.output_tokens
    assert EXHAUSTED == await refused(service.chat())


async def test_budget_is_told_of_before_the_turns_of_a_minute(start_service: StartService) -> None:
    """It lasts longer."""
    service = await start_service(
        ScriptedAgent(spend), max_tokens_per_day=BUDGET, max_turns_per_minute=3
    )
    for _ in range(3):
        await service.chat()

    assert EXHAUSTED == await refused(service.chat())


async def test_both_limits_hold_where_both_are_set(start_service: StartService) -> None:
    service = await start_service(
        ScriptedAgent(spend), max_tokens_per_day=BUDGET, max_turns_per_minute=2
    )
    for _ in range(2):
        await service.chat()

    assert ("RESOURCE_EXHAUSTED", "TURN_LIMIT_REACHED") == await refused(service.chat())


async def test_busy_conversation_is_told_of_before_the_budget(limited: Service) -> None:
    conversation_id = await use_up(limited)
    call = limited.chat(conversation_id=conversation_id, expected_sequence=1)

    assert ("ABORTED", "SEQUENCE_MISMATCH") == await refused(call)


async def test_budget_costs_no_statement_more(
    start_service: StartService, wire: PostgresWire
) -> None:
    service = await start_service(**wire.settings, max_tokens_per_day=10**6)
    conversation_id = (await service.chat("one", request_id="r1")).conversation_id
    await service.chat("two", conversation_id=conversation_id, request_id="r2")
    wire.clear()
    await service.chat("three", conversation_id=conversation_id, request_id="r3")

    expected = [sql.CLAIM_LIMITED.text, sql.WINDOW.text, sql.FINISH.text]
    assert expected == a_turns(wire.executed)
