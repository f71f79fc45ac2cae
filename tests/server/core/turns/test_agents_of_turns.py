"""Whom a turn is given to: its caller's choice, else the conversation's; in all of its attempts."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentTimeout, StoreOutcomeUnknown
from parley_server.core.model import (
    AgentEvent,
    AgentRun,
    Lease,
    NewTurn,
    Owner,
    Spent,
    Turn,
    Usage,
)
from parley_server.storage.statements import sql
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.postgres_wire import PostgresWire, a_turns
from support.rosters import a_named_agent, say_name, seat, started
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    refused,
)
from support.streams import rest_of
from support.waiting import WEATHER, AskingAgent, result

FAILED = ("DEADLINE_EXCEEDED", "AGENT_TIMEOUT")


async def a_conversation(service: Service, agent: str = "poet") -> str:
    return (await service.create(agent=agent)).conversation.conversation_id


async def usage_by_agent(service: Service) -> dict[str, int]:
    return {row.agent: row.turns for row in await service.usage(by_agent=True)}


async def said_by(service: Service, way: str, **fields: Any) -> str:
    """Make a turn in one of the ways there are. Returns: what was answered."""
    match way:
        case "chat":
            return (await service.chat(**fields)).response
        case "stream":
            # The end of a text may come with the answer only.
            return (await rest_of(service.stream(**fields)))[-1].completed.response
        case _:
            turn = (await service.start(**fields)).turn
            await service.until_turn(turn, "COMPLETED")
            history = await service.history(
                turn.conversation_id, page_size=1, order=pb.ORDER_NEWEST_FIRST
            )
            return history.messages[0].content


@pytest.mark.slow
@pytest.mark.parametrize("way", ["chat", "stream", "start"])
@WITH_AND_WITHOUT_ROW_SECURITY
async def test_turn_is_given_to_whom_its_caller_names_else_to_the_conversations(
    start_service: StartService, way: str
) -> None:
    """Fails for each way if its statement does not choose the conversation's."""
    service = await started(start_service)
    with_one, without = await a_conversation(service), await a_conversation(service, "")

    expected = ["poet", "support", "general", "support", "poet"]
    asked: list[dict[str, str]] = [
        {"conversation_id": with_one, "request_id": "r0"},
        {"conversation_id": with_one, "agent": "support", "request_id": "r1"},
        {"conversation_id": without, "request_id": "r2"},
        {"agent": "support", "request_id": "r3"},
        {"conversation_id": with_one, "request_id": "r4"},
    ]
    assert expected == [await said_by(service, way, **fields) for fields in asked]

    turns = [await service.turn(request_id=f"r{n}") for n in range(5)]
    assert ["poet", "support", "", "support", "poet"] == [turn.agent for turn in turns]
    assert {"poet": 2, "support": 2, "": 1} == await usage_by_agent(service)
    models = [turn.model for turn in turns]
    assert [f"model of {name}" for name in expected] == models


async def test_fed_turn_names_its_agent(start_service: StartService) -> None:
    service = await started(start_service)
    await service.chat(conversation_id=await a_conversation(service))
    feed = service.watch_turns()
    while not (update := await feed.read()).HasField("turn"):
        pass
    feed.cancel()

    assert "poet" == update.turn.agent


async def test_change_of_the_conversations_agent_is_for_turns_that_begin_later(
    start_service: StartService,
) -> None:
    service = await started(start_service)
    gate = Gate()
    seat(
        service,
        *(a_named_agent(n) for n in ("general", "support")),
        a_named_agent("slow", ScriptedAgent(gate)),
    )
    same = await a_conversation(service, "slow")
    running = asyncio.ensure_future(service.chat(conversation_id=same, request_id="r0"))
    await gate.entered.wait()
    queued = (await service.start(conversation_id=same, request_id="r1")).turn
    named = (await service.start(conversation_id=same, agent="general", request_id="r2")).turn
    assert ("", "general") == (queued.agent, named.agent)

    await service.update(same, agent="support")
    gate.opened.set()
    await running
    begun = [await service.until_turn(turn, "COMPLETED") for turn in (queued, named)]

    assert "slow" == (await service.turn(request_id="r0")).agent
    assert ["support", "general"] == [turn.agent for turn in begun]


class FailingOnce:
    """Fails its first attempt, and then says its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        if run.attempt == 1:
            yield Spent(Usage(5, 5, 0, 1))
            raise AgentTimeout
        async for event in say_name(self.name, run):
            yield event


@pytest.mark.parametrize("way", ["chat", "stream", "start"])
async def test_retry_keeps_the_agent_of_its_turn(start_service: StartService, way: str) -> None:
    """Fails if an attempt goes by what the caller of the retry names, or by the conversation."""
    service = await started(start_service)
    poet = a_named_agent("poet", ScriptedAgent(FailingOnce("poet")))
    seat(service, a_named_agent("general"), poet, a_named_agent("support"))
    same = await a_conversation(service)
    asked = {"conversation_id": same, "request_id": "r"}
    assert FAILED == await refused(service.chat(**asked))
    await service.update(same, agent="support")

    assert "poet 2" == await said_by(service, way, **asked)
    assert "poet" == (await service.turn(request_id="r")).agent
    assert {"poet": 1} == await usage_by_agent(service)


@pytest.mark.writes_rows
@pytest.mark.parametrize("way", ["chat", "stream"])
async def test_takeover_keeps_the_agent_of_its_turn(
    start_service: StartService, database_url: str, way: str
) -> None:
    service = await started(start_service, lease_s=1)
    gate = Gate()
    seat(service, a_named_agent("general"), a_named_agent("poet", ScriptedAgent(gate)))
    other = await started(start_service, lease_s=1)
    asked = {"conversation_id": await a_conversation(service), "request_id": "r"}
    first = asyncio.ensure_future(service.chat(**asked))
    await gate.entered.wait()
    [attempt] = service.worker.turns.attempts
    service.worker.turns.attempts.keeping.close()
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("UPDATE conversation SET lease_expires_at = now()")

    assert "poet 2" == await said_by(other, way, **asked)
    assert "poet" == attempt.lease.agent
    gate.opened.set()
    await asyncio.wait([first])


@pytest.mark.parametrize("gives_name", [True, False])
async def test_resumed_turn_goes_on_with_its_agent(
    start_service: StartService, *, gives_name: bool
) -> None:
    service = await started(start_service)
    asking = AskingAgent()
    seat(
        service, a_named_agent("general"), a_named_agent("asking", asking), a_named_agent("support")
    )
    same = await a_conversation(service, "support" if gives_name else "asking")
    named = {"agent": "asking"} if gives_name else {}
    waits = await service.chat(conversation_id=same, request_id="r", tools=[WEATHER], **named)
    await service.update(same, agent="general")

    answer = await service.resume(result(waits.pending_calls[0]), request_id="r")

    assert "1. done: sunny" == answer.response
    assert 2 == len(asking.runs)
    assert {"asking": 1} == await usage_by_agent(service)


async def test_turn_is_replayed_whatever_the_conversations_agent_is(
    start_service: StartService,
) -> None:
    """The fingerprint is of what the caller asks for: it holds no agent that it did not name."""
    service = await started(start_service)
    same = await a_conversation(service)
    asked = {"conversation_id": same, "request_id": "r"}
    await service.chat(**asked)
    await service.update(same, agent="support")

    again = await service.chat(**asked)
    assert ("poet", True) == (again.response, again.replayed)
    other = service.chat(agent="poet", **asked)
    assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await refused(other)


async def test_turn_of_an_agent_that_is_gone_is_unavailable(start_service: StartService) -> None:
    """Its conversation can be given another one, or the turn can name one."""
    service = await started(start_service)
    same = await a_conversation(service)
    seat(service, a_named_agent("general"), a_named_agent("support"))

    gone = service.chat(conversation_id=same, request_id="r")
    assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(gone)
    assert "poet" == (await service.turn(request_id="r")).agent
    assert "support" == (await service.chat(conversation_id=same, agent="support")).response
    await service.update(same, agent="general")
    assert "general" == (await service.chat(conversation_id=same)).response


async def test_refused_started_turn_keeps_what_its_caller_named(
    start_service: StartService,
) -> None:
    """It was given to no agent: its expected_sequence did not hold when it was to begin."""
    service = await started(start_service)
    same = await a_conversation(service)

    turn = (await service.start(conversation_id=same, expected_sequence=7)).turn

    assert "" == (await service.until_turn(turn, "FAILED")).agent


async def test_agent_of_the_conversation_costs_no_statement_more(
    start_service: StartService, wire: PostgresWire
) -> None:
    service = await started(start_service, **wire.settings)
    same = await a_conversation(service)
    for request_id in ("r1", "r2"):
        await service.chat("one", conversation_id=same, request_id=request_id)
    wire.clear()
    await service.chat("three", conversation_id=same, request_id="r3")

    assert [sql.CLAIM.text, sql.WINDOW.text, sql.FINISH.text] == a_turns(wire.executed)


async def test_claim_whose_outcome_is_unknown_finds_the_agent_of_its_turn(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the lease that is found has no agent: then the default one would answer."""
    service = await started(start_service)
    same = await a_conversation(service)
    store = service.worker.store
    claim = store.claim

    async def lost(owner: Owner, new: NewTurn) -> Lease | Turn:
        await claim(owner, new)
        raise StoreOutcomeUnknown

    monkeypatch.setattr(store, "claim", lost)

    assert "poet" == (await service.chat(conversation_id=same, request_id="r")).response
