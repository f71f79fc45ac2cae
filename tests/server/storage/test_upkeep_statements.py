"""What statements of erasure and retention read: a batch, whatever the owner has."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor

from support.databases import as_superuser
from support.many_conversations import store_conversations
from support.two_owners import STATEMENTS, parameters

OWNER, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)
CONVERSATIONS, TURNS, BATCH = 2000, 2, 50
LOWEST = uuid.UUID(int=0)
HIDDEN = """
UPDATE conversation SET delete_time = now(), update_time = 'epoch' WHERE owner_id = %(owner)s;
INSERT INTO deletion (owner_id, conversation_id, stage, due_time)
SELECT owner_id, id, 'ERASING', '9999-12-31' FROM conversation WHERE owner_id = %(owner)s;
INSERT INTO erasure (owner_id, request_id, hide_time) VALUES (%(owner)s, 'erasing', now());
"""


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A database in which two owners have many conversations."""
    for owner in (OWNER, OTHER):
        store_conversations(database_url, owner, CONVERSATIONS, TURNS)
    with psycopg.connect(
        as_superuser(database_url), autocommit=True, cursor_factory=ClientCursor
    ) as made:
        made.execute("VACUUM ANALYZE")
        yield made


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def scans(
    connection: psycopg.Connection[Any], name: str, *, is_generic: bool, **values: Any
) -> dict[str, tuple[set[str], int]]:
    """Return by which ways each table was read by a statement, and how many rows at most."""
    statement = STATEMENTS[name]
    given = parameters(name) | {"owner": OWNER, "limit": BATCH} | values
    mode = "force_generic_plan" if is_generic else "force_custom_plan"
    connection.execute(f"DEALLOCATE ALL; SET plan_cache_mode = {mode}")
    connection.execute(f"PREPARE it AS {statement.text}", {})
    names = ", ".join(f"%({name})s" for name in statement.names)
    with connection.transaction(force_rollback=True):
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE it({names})"
        row = connection.execute(explain, given).fetchone()
    assert row is not None
    found: dict[str, tuple[set[str], int]] = {}
    for node in nodes(row[0][0]["Plan"]):
        table = node.get("Relation Name")
        if table and "Scan" in node["Node Type"] and node["Actual Loops"]:
            read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            ways, most = found.get(table, (set(), 0))
            way = node.get("Index Name", node["Node Type"])
            found[table] = (ways | {way}, max(most, int(read * node["Actual Loops"])))
    return found


@pytest.mark.parametrize("is_generic", [True, False], ids=["generic", "custom"])
def test_upkeep_reads_a_batch_by_an_index(
    connection: psycopg.Connection[Any], is_generic: bool
) -> None:
    """Fails with a scan of the owner's rows: a batch would cost more, the more the owner has.

    On PostgreSQL 15, fails when messages are joined to conversations that are in no order.
    """
    how: dict[str, Any] = {"is_generic": is_generic}
    recent, key = {"conversation_recent_idx"}, {"conversation_pkey"}
    idle = scans(connection, "IDLE_CONVERSATIONS", age=timedelta(minutes=30), **how)
    assert (recent, BATCH) == idle["conversation"]
    none = scans(connection, "IDLE_CONVERSATIONS", age=timedelta(days=30), **how)
    assert (recent, 0) == none["conversation"]
    aged = scans(connection, "AGED_CONVERSATIONS", age=timedelta(0), from_id=LOWEST, **how)
    assert (key, BATCH) == aged["conversation"]
    start = {"start": datetime.now(UTC), "from_id": LOWEST}
    assert (key, BATCH) == scans(connection, "TO_HIDE", **start, **how)["conversation"]

    connection.execute(HIDDEN, {"owner": OWNER})
    job: dict[str, Any] = {"max_conversations": BATCH, "max_bytes": 2**20, **how}
    messages = scans(connection, "ERASE_MESSAGES", **job)
    assert ({"message_pkey", "Tid Scan"}, True) == (
        messages["message"][0],
        messages["message"][1] <= 2 * BATCH,
    )
    assert ({"turn_pkey"}, True) == (messages["turn"][0], messages["turn"][1] <= BATCH)
    conversations = scans(connection, "ERASE_CONVERSATIONS", **job)
    assert conversations["turn"][1] <= 2 * BATCH
    assert (key, True) == (
        conversations["conversation"][0],
        conversations["conversation"][1] <= BATCH,
    )


@pytest.mark.parametrize("is_generic", [True, False], ids=["generic", "custom"])
def test_look_at_waits_reads_those_that_are_due(
    connection: psycopg.Connection[Any], is_generic: bool
) -> None:
    """Ten thousand turns that wait cost a worker a look into an index: nothing else is read."""
    connection.execute(
        "INSERT INTO wait_due (owner_id, turn_id, conversation_id, due_time)"
        " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),"
        "    now() + n * interval '1 hour' FROM generate_series(-2, 10000) n"
    )
    connection.execute("VACUUM ANALYZE wait_due")

    found = scans(connection, "DUE_WAITS", is_generic=is_generic)

    assert {"wait_due": ({"wait_due_due_time_idx"}, 3)} == found


@pytest.mark.parametrize("is_generic", [True, False], ids=["generic", "custom"])
def test_feed_is_trimmed_without_reading_what_stays(
    connection: psycopg.Connection[Any], is_generic: bool
) -> None:
    """Fails when all rows are looked at for more that is old: a feed may have millions of them."""
    connection.execute("UPDATE feed_state SET begin_time = 'epoch'")
    connection.execute(
        "INSERT INTO turn_feed (owner_id, xid, turn_id, tenant, attempt, create_time)"
        " SELECT gen_random_uuid(), n, gen_random_uuid(), %s, 1,"
        "    now() - interval '8 days' * (n <= 10)::int FROM generate_series(1, 20000) n",
        [OTHER],
    )
    connection.execute("VACUUM ANALYZE turn_feed")

    ways, most = scans(connection, "TRIM_FEED", is_generic=is_generic)["turn_feed"]

    assert "Seq Scan" not in ways
    assert most <= 2 * BATCH
