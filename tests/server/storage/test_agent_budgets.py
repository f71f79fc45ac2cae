"""`tokens_a_day` of an agent: what each owner's turns with it may use, on all workers together."""

import asyncio
from typing import Any

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2

from parley_server.core.model import AgentLimits
from parley_server.storage.driver.connection import Statement
from parley_server.storage.statements import sql
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.postgres_wire import PostgresWire, a_turns
from support.rosters import OF_A_TURN, a_named_agent, seat, started
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    details_of,
    info_of,
    refused,
)

EXHAUSTED = ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED")
TWO_TURNS = 2 * OF_A_TURN


async def use_up(service: Service, agent: str = "poet") -> str:
    """Use what Ada may with an agent, and return a conversation whose agent it is."""
    same = (await service.create(agent=agent)).conversation.conversation_id
    await service.chat(conversation_id=same, request_id="r1")
    await service.chat(agent=agent)
    return same


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_turn_beyond_the_budget_of_its_agent_is_refused_and_stores_nothing(
    start_service: StartService,
) -> None:
    """Fails without the condition on it, in each of the ways a turn is opened or accepted."""
    service = await started(start_service, {"poet": TWO_TURNS})
    same = await use_up(service)
    other = (await service.create()).conversation.conversation_id
    before = await service.conversations()

    of_poet: list[dict[str, Any]] = [
        {"agent": "poet"},
        {"conversation_id": same},
        {"conversation_id": other, "agent": "poet"},
        {"conversation_id": an_id(), "allow_missing": True, "agent": "poet"},
    ]
    for fields in of_poet:
        assert EXHAUSTED == await refused(service.chat(**fields)), fields
        assert EXHAUSTED == await refused(service.start(**fields)), fields
    assert EXHAUSTED == await refused(service.stream(conversation_id=same).read())
    assert before == await service.conversations()


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_budget_of_an_agent_is_not_that_of_others(start_service: StartService) -> None:
    service = await started(start_service, {"poet": TWO_TURNS})
    same = await use_up(service)

    assert "support" == (await service.chat(conversation_id=same, agent="support")).response
    assert "general" == (await service.chat()).response
    assert "poet" == (await service.chat(conversation_id="", agent="poet", user="bob")).response
    await service.update(same, agent="support")
    assert "support" == (await service.chat(conversation_id=same)).response


@pytest.mark.parametrize("given", ["", "general"])
async def test_default_agent_has_one_budget_whether_or_not_it_is_named(
    start_service: StartService, given: str
) -> None:
    """Fails if the ledger's rows without a name do not count for it, or those with it."""
    service = await started(start_service, {"general": TWO_TURNS})
    await service.chat()
    same = (await service.chat(agent="general")).conversation_id

    assert EXHAUSTED == await refused(service.chat(agent=given))
    assert EXHAUSTED == await refused(service.chat(conversation_id=same, agent=given))
    assert EXHAUSTED == await refused(service.start(conversation_id=same, agent=given))
    assert "poet" == (await service.chat(conversation_id=same, agent="poet")).response


async def test_refusal_names_the_agent(start_service: StartService) -> None:
    service = await started(start_service, {"poet": TWO_TURNS})
    same = await use_up(service)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat(conversation_id=same)

    told = info_of(caught.value).metadata
    assert ("poet", "200", "200") == (
        told["agent"],
        told["max_tokens_per_day"],
        told["used_tokens"],
    )
    assert "200 of 200 tokens a day of the agent poet are used" in (caught.value.details() or "")
    [retry] = [d for d in details_of(caught.value) if isinstance(d, error_details_pb2.RetryInfo)]
    assert 0 < retry.retry_delay.seconds <= 86_400


async def test_budget_of_the_owner_is_told_of_without_an_agent(start_service: StartService) -> None:
    """It is told of first: naming another agent would not help."""
    service = await started(start_service, {"poet": TWO_TURNS}, max_tokens_per_day=TWO_TURNS)
    same = await use_up(service)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat(conversation_id=same)

    assert "agent" not in info_of(caught.value).metadata
    assert EXHAUSTED == await refused(service.chat(agent="support"))


async def test_replays_and_new_attempts_are_not_refused(start_service: StartService) -> None:
    service = await started(start_service, {"poet": TWO_TURNS})
    same = await use_up(service)

    again = await service.chat(conversation_id=same, request_id="r1")
    assert ("poet", True) == (again.response, again.replayed)


async def test_turn_that_was_accepted_is_run_although_the_budget_is_used_up_since(
    start_service: StartService,
) -> None:
    """As the owner's budget: it is looked at when a turn is accepted, and not when it begins."""
    service = await start_service()
    gate = Gate()
    limits = AgentLimits(tokens_a_day=TWO_TURNS)
    seat(
        service,
        a_named_agent("slow", ScriptedAgent(gate)),
        a_named_agent("poet", limits=limits),
    )
    await service.chat(agent="poet")
    running = asyncio.ensure_future(service.chat(conversation_id=an_id(), allow_missing=True))
    await gate.entered.wait()
    [attempt] = service.worker.turns.attempts
    same = str(attempt.lease.conversation_id)
    accepted = (await service.start(conversation_id=same, agent="poet")).turn
    await service.chat(agent="poet")
    assert EXHAUSTED == await refused(service.start(conversation_id=same, agent="poet"))
    gate.opened.set()
    await running

    assert "poet" == (await service.until_turn(accepted, "COMPLETED", "FAILED")).agent


@pytest.mark.writes_rows
async def test_next_day_has_a_budget_of_its_own(
    start_service: StartService, database_url: str
) -> None:
    service = await started(start_service, {"poet": TWO_TURNS})
    same = await use_up(service)
    assert EXHAUSTED == await refused(service.chat(conversation_id=same))
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("UPDATE usage_day SET day = day - 1")

    await service.chat(conversation_id=same)


async def test_budget_holds_for_all_workers_together(start_service: StartService) -> None:
    services = [await started(start_service, {"poet": TWO_TURNS}) for _ in range(2)]
    for service in services:
        await service.chat(agent="poet")

    for service in services:
        assert EXHAUSTED == await refused(service.chat(agent="poet"))


async def test_budget_that_is_changed_holds_from_then_on(start_service: StartService) -> None:
    service = await started(start_service)
    same = await use_up(service)
    await service.chat(conversation_id=same)
    seat(service, a_named_agent("poet", limits=AgentLimits(tokens_a_day=TWO_TURNS)))

    assert EXHAUSTED == await refused(service.chat(conversation_id=same))


@pytest.mark.parametrize(
    ("conversations", "named", "statement"),
    [
        ("poet", "", sql.CLAIM_LIMITED),
        ("", "poet", sql.CLAIM_LIMITED),
        ("", "", sql.CLAIM_LIMITED),  # the conversation's agent is not known before
        ("poet", "support", sql.CLAIM),
    ],
)
async def test_budget_costs_no_statement_more_and_nothing_where_it_cannot_hold(
    start_service: StartService,
    wire: PostgresWire,
    conversations: str,
    named: str,
    statement: Statement,
) -> None:
    service = await started(start_service, {"poet": 10**6}, **wire.settings)
    same = (await service.create(agent=conversations)).conversation.conversation_id
    for request_id in ("r1", "r2"):
        await service.chat("one", conversation_id=same, agent=named, request_id=request_id)
    wire.clear()
    await service.chat("three", conversation_id=same, agent=named, request_id="r3")

    assert [statement.text, sql.WINDOW.text, sql.FINISH.text] == a_turns(wire.executed)
