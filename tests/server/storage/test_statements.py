"""The statements: how many a turn takes, whose rows they touch, and how much they read."""

import asyncio
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor, Connection

from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage import rows
from parley_server.storage.schema.row_security import OWNED_TABLES
from parley_server.storage.statements import sql
from parley_server.storage.statements.listing import LOOKED_AT
from support.agents import Gate, ScriptedAgent
from support.databases import a_new_database, as_superuser
from support.postgres_wire import PostgresWire, a_turns
from support.services import StartService, an_id, reason_of
from support.two_owners import (
    ADA,
    BACKGROUND,
    OURS,
    STATEMENTS,
    THEIRS,
    make_ready,
    outcome,
    parameters,
    rows_of,
    with_names,
)

# How many


async def test_turn_on_an_existing_conversation_is_three_statements(
    wire: PostgresWire, start_service: StartService
) -> None:
    """Fails when anything is asked beside claim, window and finish: a BEGIN counts, too."""
    service = await start_service(**wire.settings)
    conversation_id = (await service.chat("one", request_id="r1")).conversation_id
    await service.chat("two", conversation_id=conversation_id, request_id="r2")
    seen = []
    for n in range(3, 8):
        wire.clear()
        await service.chat(f"m{n}", conversation_id=conversation_id, request_id=f"r{n}")
        seen.append(a_turns(wire.executed))
        assert 3 == len(a_turns(wire.round_trips)), "more round trips than statements"

    named = [sql.CLAIM.text, sql.WINDOW.text, sql.FINISH.text]
    assert [named] * 5 == seen


async def test_first_turn_of_a_conversation_is_two_statements(
    wire: PostgresWire, start_service: StartService
) -> None:
    """There is nothing to be shown yet, so no window is read."""
    service = await start_service(**wire.settings)
    await service.chat("warm up")
    wire.clear()
    await service.chat("one", request_id="r")

    assert [sql.CLAIM_NEW.text, sql.FINISH.text] == a_turns(wire.executed)


@pytest.mark.writes_rows
async def test_turn_in_the_place_of_an_abandoned_one_is_one_statement_more(
    wire: PostgresWire, start_service: StartService, database_url: str
) -> None:
    """Fails when every claim writes down an abandoned turn, which hardly any finds."""
    service = await start_service(**wire.settings)
    first = await service.chat("one")
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute(
            "UPDATE turn SET state = 'RUNNING', response_sequence = NULL, end_time = NULL"
        )
        connection.execute(
            "UPDATE conversation SET open_turn_id = %s, lease_expires_at = now()", [first.turn_id]
        )
    wire.clear()
    await service.chat("two", conversation_id=first.conversation_id)

    named = [sql.CLAIM.text, sql.CLAIM_ABANDONED.text, sql.WINDOW.text, sql.FINISH.text]
    assert named == a_turns(wire.executed)
    found = await service.turn(conversation_id=first.conversation_id, turn_id=first.turn_id)
    assert "TURN_ABANDONED" == reason_of(found)


async def test_replayed_turn_runs_nothing_but_reads(
    wire: PostgresWire, start_service: StartService
) -> None:
    service = await start_service(**wire.settings)
    first = await service.chat("one", request_id="r")
    fields = {"conversation_id": first.conversation_id, "request_id": "s"}
    await service.chat("two", **fields)
    await service.chat("two", **fields)
    wire.clear()
    assert (await service.chat("two", **fields)).replayed

    named = [sql.CLAIM.text, sql.TURN_BY_REQUEST.text]
    assert named == a_turns(wire.executed)


@pytest.mark.writes_rows
async def test_turns_bytes_do_not_grow_with_the_conversation(
    wire: PostgresWire, start_service: StartService, database_url: str
) -> None:
    """Promise 7. Fails when more of the conversation is read than the window holds."""
    service = await start_service(**wire.settings, context_messages=20)
    received = []
    for length in (40, 4000):
        conversation_id = str(stored_conversation(database_url, length, owner=ADA))
        for n in range(3):
            wire.clear()
            await service.chat(f"m{n}", conversation_id=conversation_id)
        received.append(wire.received_bytes)

    short, long = received
    assert long < short * 1.2, received


# Connections


def activity(database_url: str) -> list[tuple[str, bool]]:
    """Return the state of each of the worker's connections, and whether a transaction is open."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        return connection.execute(
            "SELECT state, xact_start IS NOT NULL FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchall()


async def test_no_transaction_is_open_while_the_agent_runs(
    start_service: StartService, database_url: str
) -> None:
    """Fails when the claim is committed with the answer only: a lock is then held all the time."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await gate.entered.wait()
    seen = [activity(database_url) for _ in range(20)]
    gate.opened.set()
    await call

    assert all(seen)
    # A look at the database for health checks may be seen once, as "active".
    states = {connection for look in seen for connection in look}
    assert ("idle", False) in states
    assert not any(state.startswith("idle in transaction") for state, _ in states)
    assert [("idle", False)] * len(seen[0]) in seen


async def test_no_connection_is_held_while_agents_run_or_calls_wait(
    start_service: StartService,
) -> None:
    """Fails when a connection is kept for a turn: thirty turns would need thirty, and have two."""
    gates = [Gate() for _ in range(30)]

    async def script(run):
        async for event in gates[int(run.window.messages[-1].content)](run):
            yield event

    service = await start_service(ScriptedAgent(script), db_pool_size=2)
    busy = an_id()
    first = asyncio.ensure_future(
        service.chat("0", conversation_id=busy, allow_missing=True, request_id="r")
    )
    await gates[0].entered.wait()
    calls = [asyncio.ensure_future(service.chat(str(n))) for n in range(1, 30)]
    follow = [
        asyncio.ensure_future(
            service.chat("0", conversation_id=busy, allow_missing=True, request_id="r")
        )
        for _ in range(10)
    ]
    wait = [
        asyncio.ensure_future(service.chat("0", conversation_id=busy, on_busy=pb.ON_BUSY_WAIT))
        for _ in range(10)
    ]
    await asyncio.gather(*(gate.entered.wait() for gate in gates))

    assert 30 == len((await service.conversations()).conversations)
    assert 1 == len((await service.history(busy)).messages)
    for gate in gates:
        gate.opened.set()
    answers = await asyncio.gather(first, *calls, *follow, *wait)
    assert 50 == len(answers)


# Whose rows

OWNED = [name for name in STATEMENTS if name not in BACKGROUND]


@pytest.mark.parametrize("name", OWNED)
def test_statement_does_the_same_whether_or_not_another_owner_has_the_same_ids(
    twins: Connection[tuple[Any, ...]], name: str
) -> None:
    """Promise 8. Fails when any part of a statement forgets the owner."""
    with twins.transaction(force_rollback=True):
        make_ready(twins, name)
        ours, theirs = rows_of(twins, OURS), rows_of(twins, THEIRS)
    beside_them = outcome(twins, name)
    with twins.transaction(force_rollback=True):
        for table in reversed(OWNED_TABLES):
            twins.execute(f"DELETE FROM {table} WHERE owner_id = %(owner)s", {"owner": THEIRS})
        alone = outcome(twins, name)

    assert alone[:2] == beside_them[:2]
    assert theirs == beside_them[2], "rows of the other owner were changed"
    assert alone[0] or alone[1] != ours, "it did nothing, so this proves nothing"


@pytest.mark.parametrize("name", OWNED)
def test_every_part_of_a_statement_filters_on_the_owner(
    twins: Connection[tuple[Any, ...]], name: str
) -> None:
    """Fails when a part is joined by ids alone: a sharded database then asks every shard."""
    explain = "EXPLAIN (FORMAT JSON) " + with_names(STATEMENTS[name])
    row = twins.execute(explain, parameters(name)).fetchone()
    assert row is not None
    scans = [n for n in nodes(row[0][0]["Plan"]) if "Scan" in n["Node Type"]]

    for scan in scans:
        if scan.get("Relation Name") in OWNED_TABLES and scan["Node Type"] != "Bitmap Index Scan":
            conditions = [v for k, v in scan.items() if k.endswith(("Cond", "Filter"))]
            assert any(f"owner_id = '{OURS}'" in c for c in conditions), scan


def test_every_statement_takes_the_owner() -> None:
    assert len(STATEMENTS) >= 15, "statements are looked for in the wrong place"
    assert BACKGROUND == {n for n, s in STATEMENTS.items() if "owner" not in s.names}


def test_no_statement_asks_for_a_time_that_moves() -> None:
    """`now()` is one time for all parts and all shards; clock_timestamp() is one for each."""
    moving = re.compile(
        r"clock_timestamp|statement_timestamp|timeofday|random|nextval", re.IGNORECASE
    )

    assert [] == [n for n, s in STATEMENTS.items() if moving.search(s.text)]


ROWS: dict[str, tuple[str, ...]] = {
    "CLAIM": rows.ClaimRow._fields,
    "CLAIM_ABANDONED": rows.ClaimRow._fields,
    "CLAIM_ABANDONED_LIMITED": rows.ClaimRow._fields + rows.Limited._fields,
    "CLAIM_LIMITED": rows.ClaimRow._fields + rows.Limited._fields,
    "TURN_BY_ID": rows.TurnRow._fields,
    "TURN_BY_REQUEST": rows.TurnRow._fields,
    "TURNS_SINCE": rows.TurnRow._fields,
    "LOOK_AT_WAIT": (*rows.TurnRow._fields, "asked_content", "tools"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_have_the_columns_of_their_statement(
    twins: Connection[tuple[Any, ...]], name: str
) -> None:
    """Fails when a column is added, or moved, in one of the two only."""
    columns = twins.execute(with_names(STATEMENTS[name]), parameters(name)).description

    assert ROWS[name] == tuple(column.name for column in columns or [])


# How much


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def stored_conversation(
    database_url: str, length: int, owner: uuid.UUID = OURS, size: int = 50
) -> uuid.UUID:
    conversation_id = uuid.uuid4()
    what = {"owner": owner, "conversation": conversation_id, "length": length, "size": size}
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence,
                   preview, fence)
               VALUES (%(owner)s, %(conversation)s, '', 'u', 't', %(length)s, 'p', 1)""",
            what,
        )
        connection.execute(
            """INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)
               SELECT %(owner)s, %(conversation)s, n, md5(((n + 1) / 2)::text)::uuid,
                   CASE WHEN n %% 2 = 1 THEN 'USER' ELSE 'ASSISTANT' END, repeat('x', %(size)s)
               FROM generate_series(1, %(length)s) n""",
            what,
        )
    return conversation_id


@pytest.fixture(scope="module")
def long_url(postgres_url: str, template: str) -> Iterator[str]:
    """A database with a conversation of 10,000 messages among many short ones."""
    with a_new_database(postgres_url, f"TEMPLATE {template}") as url:
        for owner in (OURS, THEIRS):
            for _ in range(20):
                stored_conversation(url, 30, owner)
        yield url


@pytest.fixture(scope="module")
def long_conversation(long_url: str) -> uuid.UUID:
    found = stored_conversation(long_url, 10_000)
    with psycopg.connect(long_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return found


def plan_of(url: str, name: str, *, is_generic: bool, **values: Any) -> dict[str, Any]:
    """Return how Postgres carries a statement out, and how much it read for it.

    Args:
        is_generic: planned without looking at the parameters, as a prepared statement may be.
    """
    statement = STATEMENTS[name]
    given = parameters(name) | values
    with psycopg.connect(url, autocommit=True, cursor_factory=ClientCursor) as connection:
        mode = "force_generic_plan" if is_generic else "force_custom_plan"
        connection.execute(f"SET plan_cache_mode = {mode}")
        connection.execute(f"PREPARE it AS {statement.text.replace('%', '%%')}", {})
        names = ", ".join(f"%({name})s" for name in statement.names)
        with connection.transaction(force_rollback=True):
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE it({names})"
            row = connection.execute(explain, given).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def read_from(plan: dict[str, Any], table: str) -> tuple[int, list[dict[str, Any]]]:
    """Return how many rows of a table were read, and by which nodes."""
    scans = [n for n in nodes(plan) if n.get("Relation Name") == table and "Scan" in n["Node Type"]]
    removed = "Rows Removed by Filter"
    return sum(
        int((n["Actual Rows"] + n.get(removed, 0)) * n["Actual Loops"]) for n in scans
    ), scans


@pytest.mark.parametrize("is_generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("before", [10_001, 5_000])
@pytest.mark.parametrize("name", ["WINDOW", "ANSWERED_WINDOW"])
def test_window_is_read_from_the_tail_of_the_key(
    long_url: str, long_conversation: uuid.UUID, name: str, before: int, is_generic: bool
) -> None:
    """Promise 7. Fails when rows are sorted or numbered first: all of them are read then."""
    limit = 99
    plan = plan_of(
        long_url,
        name,
        is_generic=is_generic,
        conversation=long_conversation,
        before=before,
        limit=limit,
        lookback=limit * 10,
    )
    read, scans = read_from(plan, "message")

    assert limit == plan["Actual Rows"]
    assert [("Index Scan", "message_pkey", "Backward")] == [
        (n["Node Type"], n["Index Name"], n["Scan Direction"]) for n in scans
    ]
    assert [] == [n for n in nodes(plan) if "Sort" in n["Node Type"]]
    assert read <= limit + 3
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50


@pytest.mark.parametrize(
    ("name", "returned"), [("WINDOW", 3), ("ANSWERED_WINDOW", 2)], ids=["any", "answered"]
)
def test_window_looks_no_further_than_it_may(
    long_url: str, long_conversation: uuid.UUID, name: str, returned: int
) -> None:
    """When little fits, or little was answered, the look back ends all the same."""
    looks = {"lookback": 200, "limit": 200, "before": 10_001, "conversation": long_conversation}
    small = plan_of(long_url, name, is_generic=True, max_bytes=120, **looks)

    assert returned == small["Actual Rows"]
    assert read_from(small, "message")[0] <= 201


@pytest.mark.parametrize("name", ["HISTORY_OLDEST_FIRST", "HISTORY_NEWEST_FIRST"])
@pytest.mark.parametrize("is_generic", [False, True], ids=["custom", "generic"])
def test_page_of_a_history_reads_no_more_than_the_page(
    long_url: str, long_conversation: uuid.UUID, name: str, is_generic: bool
) -> None:
    bounds = {"above": 4000, "below": 9000, "limit": 50}
    plan = plan_of(long_url, name, is_generic=is_generic, conversation=long_conversation, **bounds)
    read, scans = read_from(plan, "message")

    assert 50 == plan["Actual Rows"]
    direction = "Forward" if name == "HISTORY_OLDEST_FIRST" else "Backward"
    assert [("message_pkey", direction)] == [(n["Index Name"], n["Scan Direction"]) for n in scans]
    assert read <= 53


@pytest.mark.parametrize(
    "name",
    ["CLAIM", "CLAIM_ABANDONED", "FINISH", "TURN_BY_REQUEST", "STANDING", "RENEW"],
)
def test_statement_of_a_turn_costs_the_same_in_a_long_conversation(
    long_url: str, long_conversation: uuid.UUID, name: str
) -> None:
    """Promise 7: a handful of pages, not those of ten thousand messages."""
    plan = plan_of(long_url, name, is_generic=True, conversation=long_conversation)

    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100
    # The test's other conversations are few; what matters is that none of 10,000 rows is read.
    assert read_from(plan, "message")[0] <= 1


@pytest.mark.parametrize("name", ["CONVERSATIONS", "CONVERSATIONS_BY_LABELS"])
@pytest.mark.parametrize("is_generic", [False, True], ids=["custom", "generic"])
def test_page_of_conversations_is_read_from_the_index(
    long_url: str, long_conversation: uuid.UUID, name: str, is_generic: bool
) -> None:
    """Fails when the index is in another order than the list: each page then sorts them all."""
    owner = uuid.uuid4()
    with psycopg.connect(long_url, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence,
                   preview, fence, update_time, labels)
               SELECT %s, gen_random_uuid(), '', 'u', 't', 1, 'p', 1, now() - n * interval '1 s',
                   '{"team": "blue"}'
               FROM generate_series(1, 3000) n""",
            [owner],
        )
        connection.execute(
            """INSERT INTO conversation_label (owner_id, conversation_id, key, value, update_time)
               SELECT owner_id, id, 'team', 'blue', update_time FROM conversation
               WHERE owner_id = %s""",
            [owner],
        )
        connection.execute("ANALYZE conversation, conversation_label")
    since = datetime.min.replace(tzinfo=UTC)
    plan = plan_of(
        long_url, name, is_generic=is_generic, owner=owner, limit=51, updated_after=since
    )
    read, scans = read_from(plan, "conversation")

    assert 51 == plan["Actual Rows"]
    if name == "CONVERSATIONS":
        assert ["conversation_recent_idx"] == [n.get("Index Name") for n in scans]
        assert [] == [n for n in nodes(plan) if "Sort" in n["Node Type"]]
        assert read <= 52
    else:
        walks = [n for n in nodes(plan) if n.get("Alias") == "listed"]
        assert ["conversation_label_recent_idx"] == [n.get("Index Name") for n in walks]
        assert walks[0]["Actual Rows"] <= 52
        assert ["conversation_pkey"] == [n.get("Index Name") for n in scans]
        assert read <= 52


@pytest.mark.parametrize("is_generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("together", ["never", "seldom"])
def test_page_by_labels_looks_at_no_more_than_it_may(
    long_url: str, together: str, is_generic: bool
) -> None:
    """Two labels of half of the conversations each, which none has both of, or very few."""
    owner = uuid.uuid4()
    with psycopg.connect(long_url, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence,
                   preview, fence, update_time, labels)
               SELECT %s, gen_random_uuid(), '', 'u', 't', 1, 'p', 1, now() - n * interval '1 s',
                   CASE WHEN %s AND n %% 900 = 0 THEN '{"team": "blue", "state": "open"}'
                       WHEN n %% 2 = 0 THEN '{"team": "blue"}' ELSE '{"state": "open"}' END
               FROM generate_series(1, 6000) n""",
            [owner, together == "seldom"],
        )
        connection.execute(
            """INSERT INTO conversation_label (owner_id, conversation_id, key, value, update_time)
               SELECT owner_id, id, key, value, update_time
               FROM conversation, json_each_text(labels::json) WHERE owner_id = %s""",
            [owner],
        )
        connection.execute("ANALYZE conversation, conversation_label")
    plan = plan_of(
        long_url,
        "CONVERSATIONS_BY_LABELS",
        is_generic=is_generic,
        owner=owner,
        labels='{"team": "blue", "state": "open"}',
        limit=51,
        updated_after=datetime.min.replace(tzinfo=UTC),
    )
    walks = [n for n in nodes(plan) if n.get("Alias") == "listed"]
    read, scans = read_from(plan, "conversation")

    assert {"never": 1, "seldom": 3}[together] == plan["Actual Rows"]
    assert [LOOKED_AT] == [n["Actual Rows"] for n in walks]
    assert ["conversation_pkey"] == [n.get("Index Name") for n in scans]
    assert read <= LOOKED_AT
