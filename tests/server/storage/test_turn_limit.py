"""PARLEY_MAX_TURNS_PER_MINUTE: what an owner may start, on all workers together."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import grpc
import psycopg
import pytest
import uuid_utils.compat
from google.rpc import error_details_pb2

from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.statements import sql
from support.agents import Gate, ScriptedAgent
from support.postgres_wire import PostgresWire, a_turns
from support.services import (
    Service,
    StartService,
    an_id,
    details_of,
    gathered,
    info_of,
    refused,
)
from support.two_owners import ADA

LIMIT = 3
LIMIT_REACHED = ("RESOURCE_EXHAUSTED", "TURN_LIMIT_REACHED")


@pytest.fixture
async def limited(start_service: StartService) -> Service:
    return await start_service(max_turns_per_minute=LIMIT)


def run(url: str, statement: str, *values: Any) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement, values)


async def fill(service: Service) -> str:
    """Start as many turns as Ada may, and return the conversation they are in."""
    conversation_id = (await service.chat("1", request_id="r1")).conversation_id
    for n in range(2, LIMIT + 1):
        await service.chat(f"{n}", conversation_id=conversation_id, request_id=f"r{n}")
    return conversation_id


async def test_turn_beyond_the_limit_is_refused_and_stores_nothing(limited: Service) -> None:
    """Fails without the condition on the crowd, in each of the ways a turn is opened."""
    conversation_id = await fill(limited)
    before = await limited.conversations()

    assert LIMIT_REACHED == await refused(limited.chat())
    assert LIMIT_REACHED == await refused(limited.chat(conversation_id=conversation_id))
    missing = {"conversation_id": an_id(), "allow_missing": True}
    assert LIMIT_REACHED == await refused(limited.chat(**missing))
    assert before == await limited.conversations()
    assert 2 * LIMIT == len((await limited.history(conversation_id)).messages)
    await limited.chat(user="bob")


async def test_refusal_says_when_the_next_turn_may_start(
    limited: Service, database_url: str
) -> None:
    await fill(limited)
    # The oldest of them leaves the minute in 20 s, and it is the one in the way.
    run(
        database_url,
        "UPDATE turn SET create_time = now() - interval '40 s' WHERE request_id = 'r1'",
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await limited.chat()

    [retry] = [d for d in details_of(caught.value) if isinstance(d, error_details_pb2.RetryInfo)]
    assert timedelta(seconds=5) < retry.retry_delay.ToTimedelta() <= timedelta(seconds=20)
    told = info_of(caught.value).metadata
    assert str(LIMIT) == told["max_turns_per_minute"]
    assert 5 < float(told["retry_after_s"]) <= 20


async def test_turn_may_start_when_another_leaves_the_minute(
    limited: Service, database_url: str
) -> None:
    conversation_id = await fill(limited)
    assert LIMIT_REACHED == await refused(limited.chat())
    run(
        database_url,
        "UPDATE turn SET create_time = now() - interval '1 minute' WHERE request_id = 'r1'",
    )

    await limited.chat(conversation_id=conversation_id)
    assert LIMIT_REACHED == await refused(limited.chat(conversation_id=conversation_id))


async def test_replays_and_new_attempts_do_not_count(start_service: StartService) -> None:
    """Fails when calls are counted instead of turns."""
    agent = ScriptedAgent()
    service = await start_service(agent, max_turns_per_minute=LIMIT)
    await service.chat("1", request_id="r1")
    for _ in range(LIMIT):
        assert (await service.chat("1", request_id="r1")).replayed
    await service.chat("2", request_id="r2")

    async def fails(run: object) -> Any:
        raise RuntimeError("as the test says")
        yield

    usual, agent.script = agent.script, fails
    for _ in range(LIMIT):
        call = service.chat("3", request_id="r3")
        assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(call)
    agent.script = usual

    assert LIMIT_REACHED == await refused(service.chat("4", request_id="r4"))
    assert "3" == (await service.chat("3", request_id="r3")).response
    assert (await service.chat("1", request_id="r1")).replayed


async def test_limit_holds_for_all_workers_together(start_service: StartService) -> None:
    services = [await start_service(max_turns_per_minute=LIMIT) for _ in range(2)]
    for n in range(LIMIT):
        await services[n % 2].chat()

    for service in services:
        assert LIMIT_REACHED == await refused(service.chat())


async def test_burst_passes_the_limit_by_no_more_than_the_claims_under_way(
    start_service: StartService,
) -> None:
    """Three connections claim here, so that two claims at most did not see the last turn."""
    service = await start_service(max_turns_per_minute=LIMIT, db_pool_size=4)
    found = await gathered(*(service.chat() for _ in range(60)))
    answered = [each for each in found if isinstance(each, pb.ChatResponse)]

    assert LIMIT <= len(answered) <= LIMIT + 2
    assert {"TURN_LIMIT_REACHED"} == {info_of(e).reason for e in found if e not in answered}
    assert LIMIT_REACHED == await refused(service.chat())


async def test_busy_conversation_is_told_of_before_the_limit(start_service: StartService) -> None:
    """What the caller can wait for here comes first; whoever waits is refused when it is free."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), max_turns_per_minute=1)
    conversation_id = an_id()
    first = asyncio.ensure_future(
        service.chat("1", conversation_id=conversation_id, allow_missing=True)
    )
    await gate.entered.wait()

    call = service.chat("2", conversation_id=conversation_id)
    assert ("ABORTED", "TURN_IN_PROGRESS") == await refused(call)
    waiting = asyncio.ensure_future(
        service.chat("2", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT)
    )
    gate.opened.set()
    assert 2 == (await first).response_sequence
    assert LIMIT_REACHED == await refused(waiting)


@pytest.mark.writes_rows
async def test_turn_of_a_worker_whose_clock_is_late_counts(
    limited: Service, database_url: str
) -> None:
    """Fails when only ids of the last minute are looked at: clocks of machines differ."""
    await fill(limited)
    late_ms = uuid_utils.compat.uuid7().int - (55_000 << 80)
    run(
        database_url,
        "UPDATE turn SET id = %s WHERE request_id = 'r1'",
        uuid.UUID(int=late_ms),
    )

    assert LIMIT_REACHED == await refused(limited.chat())


def test_turns_of_earlier_minutes_are_not_read(database_url: str) -> None:
    """Promise 7. Fails when turns are counted by their time alone: all of an owner's are read."""
    run(
        database_url,
        """INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence,
               preview, fence)
           VALUES (%s, '00000000-0000-0000-0000-000000000001', '', 'u', 't', 1, 'p', 1)""",
        ADA,
    )
    run(
        database_url,
        """INSERT INTO turn (owner_id, id, conversation_id, fingerprint, agent, state, attempt,
               user_sequence, create_time)
           SELECT %s, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
                   || '7000800000000000' || lpad(to_hex(n), 4, '0'))::uuid,
               '00000000-0000-0000-0000-000000000001', '', '', 'COMPLETED', 1, n, at
           FROM generate_series(1, 5000) n, LATERAL (SELECT now() - n * interval '10 s' AS at) t""",
        ADA,
    )
    run(database_url, "VACUUM ANALYZE turn")
    statement = sql.CLAIM_NEW_LIMITED
    values: dict[str, Any] = dict.fromkeys(statement.names)
    values |= {"owner": ADA, "turn": uuid_utils.compat.uuid7(), "conversation": ADA, "agent": ""}
    values |= {"max_turns": 100, "content": "", "preview": "", "title": "", "lease": timedelta(1)}
    values |= {"fingerprint": b"", "tenant": "", "user": ""}
    for mode in ("force_generic_plan", "force_custom_plan"):
        with psycopg.connect(
            database_url, autocommit=True, cursor_factory=psycopg.ClientCursor
        ) as connection:
            connection.execute(f"SET plan_cache_mode = {mode}")
            connection.execute(f"PREPARE it AS {statement.text}", {})
            names = ", ".join(f"%({name})s" for name in statement.names)
            with connection.transaction(force_rollback=True):
                row = connection.execute(
                    f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE it({names})", values
                ).fetchone()
        assert row is not None
        plan = row[0][0]["Plan"]
        scans = [
            n for n in _nodes(plan) if n.get("Relation Name") == "turn" and "Scan" in n["Node Type"]
        ]

        assert ["turn_pkey"] == [scan["Index Name"] for scan in scans]
        assert 5 <= scans[0]["Actual Rows"] + scans[0].get("Rows Removed by Filter", 0) <= 13


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", []) for node in _nodes(below))]


@pytest.mark.parametrize("limit", [None, 1000])
async def test_limit_costs_no_statement_more_and_nothing_when_it_is_off(
    start_service: StartService, wire: PostgresWire, limit: int | None
) -> None:
    service = await start_service(**wire.settings, max_turns_per_minute=limit)
    conversation_id = (await service.chat("one", request_id="r1")).conversation_id
    await service.chat("two", conversation_id=conversation_id, request_id="r2")
    wire.clear()
    await service.chat("three", conversation_id=conversation_id, request_id="r3")

    claim = sql.CLAIM if limit is None else sql.CLAIM_LIMITED
    expected = [claim.text, sql.WINDOW.text, sql.FINISH.text]
    assert expected == a_turns(wire.executed)
    assert "crowd" not in sql.CLAIM.text + sql.CLAIM_NEW.text
    assert "budget" not in sql.CLAIM.text + sql.CLAIM_NEW.text
