"""Row security: Postgres lets no statement past its owner, and nothing of it stays behind."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg import ClientCursor
from psycopg.conninfo import conninfo_to_dict

from parley_server.storage.driver.connection import OWNER_SETTING, Connection, Row, Statement
from parley_server.storage.driver.connections import Connections, StatementFailed
from parley_server.storage.schema import row_security
from parley_server.storage.schema.row_security import OWNED_TABLES
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.postgres_wire import PostgresWire, a_turns
from support.services import StartService, an_id, gathered, refused, until_health
from support.two_owners import (
    BACKGROUND,
    CONVERSATION,
    OPEN_TURN,
    OURS,
    STATEMENTS,
    THEIRS,
    in_words,
    make_ready,
    outcome,
    parameters,
    rows_of,
    store_twins,
)

LEFT = Statement(f"SELECT coalesce(current_setting('{OWNER_SETTING}', true), '')")
OWNERS = Statement("SELECT DISTINCT owner_id FROM message WHERE $1::uuid IS NOT NULL", ("owner",))
DIVISION = Statement("SELECT 1 / 0 WHERE $1::uuid IS NOT NULL", ("owner",))


@pytest.fixture
def everything(database_url: str, walled_url: str) -> Iterator[psycopg.Connection[Row]]:
    """The twins, behind policies, as somebody sees them whom no policy holds."""
    url = as_superuser(database_url)
    with psycopg.connect(url, autocommit=True, cursor_factory=ClientCursor) as connection:
        store_twins(connection)
        yield connection


@pytest.fixture(params=[True, False], ids=["prepared", "unprepared"])
async def walled(
    walled_url: str, everything: object, request: pytest.FixtureRequest
) -> AsyncIterator[Connections]:
    """One connection, with row security, of a role that owns nothing."""
    made = Connections(
        walled_url,
        name="test",
        size=1,
        lease_s=3,
        is_prepared=request.param,
        has_row_security=True,
    )
    await made.open()
    yield made
    await made.close()


def without_owner(statement: Statement) -> Statement:
    """Return a statement as it would be if every part of it had forgotten the owner."""
    text = re.sub(r"\w+\.owner_id = (\$\d+::uuid)", r"\1 IS NOT NULL", statement.text)
    return Statement(text, statement.names)


COUNTING = {"CLAIM_NEW", "CREATE", "CREATE_CONVERSATION", "QUEUE_HEAD"}
FORGETFUL = {
    name: without_owner(statement)
    for name, statement in STATEMENTS.items()
    if without_owner(statement).text != statement.text and name not in COUNTING
}
"""COUNTING count the conversations of one id, and go on whatever they find (decision 0022);
or read one row of those that both twins have."""


def unguarded(everything: psycopg.Connection[Row], name: str) -> object:
    """Return what a statement that forgot its owner does where no policy is."""
    try:
        return outcome(everything, name, FORGETFUL[name])
    except psycopg.Error as error:
        return type(error)


# Whose rows


@pytest.mark.parametrize("name", FORGETFUL)
async def test_statement_that_forgets_its_owner_still_touches_no_other_owners_rows(
    walled: Connections, everything: psycopg.Connection[Row], name: str
) -> None:
    """Promise 8. Fails without the policies, as each statement shows where they do not hold."""
    found, ours, theirs = outcome(everything, name)
    assert (found, ours, theirs) != unguarded(everything, name), "it needs no wall"
    make_ready(everything, name)

    assert found == in_words(await walled.run(FORGETFUL[name], parameters(name)))
    assert ours == rows_of(everything, OURS)
    assert theirs == rows_of(everything, THEIRS)


def test_most_statements_are_tried_without_their_owner() -> None:
    reading_nothing = {"BEGIN_ERASURE", "CREATE_ONCE"}
    assert reading_nothing | COUNTING | BACKGROUND == set(STATEMENTS) - set(FORGETFUL)


@pytest.mark.parametrize("table", OWNED_TABLES)
async def test_bare_statements_see_and_write_their_owners_rows_only(
    walled: Connections, everything: psycopg.Connection[Row], table: str
) -> None:
    """Fails when a table has no policy, and when a policy lets other owners' rows be written."""
    read = Statement(
        f"SELECT DISTINCT owner_id FROM {table} WHERE $1::uuid IS NOT NULL", ("owner",)
    )
    move = Statement(
        f"UPDATE {table} SET owner_id = $2 WHERE $1::uuid IS NOT NULL", ("owner", "to")
    )
    remove = Statement(f"DELETE FROM {table} WHERE owner_id = $2 AND $1 <> $2", ("owner", "to"))
    theirs = rows_of(everything, THEIRS)
    both = {"owner": OURS, "to": THEIRS}

    assert [(OURS,)] == await walled.run(read, both)
    assert [] == await walled.run(read, {"owner": uuid.uuid4()})
    for_no_owner = await walled.run(Statement(f"SELECT owner_id FROM {table}"), {})
    looked_through = {"deletion", "erasure", "owner", "queue_due", "turn_feed", "wait_due"}
    assert (table in looked_through) == bool(for_no_owner), "workers look through it for others"
    with pytest.raises(StatementFailed, match="InsufficientPrivilege 42501"):
        await walled.run(move, both)
    await walled.run(remove, both)
    assert theirs == rows_of(everything, THEIRS)


async def test_row_for_another_owner_is_refused(
    walled: Connections, everything: psycopg.Connection[Row]
) -> None:
    """Fails when policies guard what is read only."""
    insert = Statement(
        "INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)"
        " SELECT $2, $3, 4, $4, 'USER', 'x' WHERE $1::uuid IS NOT NULL",
        ("owner", "to", "conversation", "turn"),
    )
    row = {"owner": OURS, "conversation": CONVERSATION, "turn": OPEN_TURN}
    before = rows_of(everything, THEIRS)

    with pytest.raises(StatementFailed, match="InsufficientPrivilege 42501"):
        await walled.run(insert, {**row, "to": THEIRS})
    assert before == rows_of(everything, THEIRS)
    await walled.run(insert, {**row, "to": OURS})


# What stays on a connection


async def test_nothing_is_left_on_the_connection(walled: Connections) -> None:
    """Fails with set_config(..., false): the owner then stays until the next one is set."""

    async def left() -> str:
        found: str = (await walled.run(LEFT, {}))[0][0]
        return found

    assert [(OURS,)] == await walled.run(OWNERS, {"owner": OURS})
    assert "" == await left()
    with pytest.raises(StatementFailed):
        await walled.run(DIVISION, {"owner": OURS})
    assert "" == await left()
    assert [(THEIRS,)] == await walled.run(OWNERS, {"owner": THEIRS})
    assert "" == await left()


@pytest.mark.parametrize("is_undone", [False, True])
async def test_nothing_is_left_by_a_transaction(walled: Connections, is_undone: bool) -> None:
    """The claim that makes a conversation under the caller's id is two statements in one."""

    async def work(connection: Connection) -> list[Row]:
        async with connection.transaction(force_rollback=is_undone):
            assert [(OURS,)] == await connection.run(OWNERS, {"owner": OURS})
            assert [(str(OURS),)] == await connection.run(LEFT, {})
            assert [(THEIRS,)] == await connection.run(OWNERS, {"owner": THEIRS})
        return await connection.run(LEFT, {})

    assert [("",)] == await walled.with_connection(work)


async def test_owners_that_share_a_connection_see_their_own_rows(
    walled: Connections, everything: psycopg.Connection[Row]
) -> None:
    """Fails when an owner is set for anything but the one statement that follows."""
    asked = [OURS, THEIRS, uuid.uuid4()] * 60
    found = await asyncio.gather(*(walled.run(OWNERS, {"owner": owner}) for owner in asked))

    expected = [[(owner,)] if owner in (OURS, THEIRS) else [] for owner in asked]
    assert expected == found


async def test_what_fails_at_the_commit_is_no_success(
    walled: Connections, everything: psycopg.Connection[Row]
) -> None:
    """Promise 1. Fails when a pipeline's results are taken and its end is not waited for."""
    everything.execute(
        "CREATE TABLE checked_late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
        "GRANT SELECT, INSERT ON checked_late TO PUBLIC"
    )
    twice = Statement(
        "INSERT INTO checked_late SELECT 1 FROM generate_series(1, 2)"
        " WHERE $1::uuid IS NOT NULL RETURNING n",
        ("owner",),
    )
    with pytest.raises(StatementFailed, match="UniqueViolation 23505"):
        await walled.run(twice, {"owner": OURS})
    assert [(OURS,)] == await walled.run(OWNERS, {"owner": OURS})


async def test_connection_that_ends_within_a_pipeline_is_replaced(
    walled: Connections, everything: psycopg.Connection[Row]
) -> None:
    sleep = Statement("SELECT pg_sleep(60) WHERE $1::uuid IS NOT NULL", ("owner",))
    pid = (await walled.run(Statement("SELECT pg_backend_pid()"), {}))[0][0]
    sleeping = asyncio.create_task(walled.run(sleep, {"owner": OURS}))
    asleep = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
    while everything.execute(asleep, [pid]).fetchone() is None:
        await asyncio.sleep(0.01)
    everything.execute("SELECT pg_terminate_backend(%s)", [pid])

    with pytest.raises(Exception, match="database is unavailable"):
        await sleeping
    for _ in range(50):
        [found] = await gathered(walled.run(OWNERS, {"owner": OURS}))
        if not isinstance(found, Exception):
            break
        await asyncio.sleep(0.05)
    assert [(OURS,)] == found


# What it costs


@pytest.fixture
async def walled_wire(walled_url: str, no_looks_for_cancels: None) -> AsyncIterator[PostgresWire]:
    async with PostgresWire(walled_url).open() as wire:
        yield wire


async def test_turn_behind_policies_is_three_round_trips(
    walled_wire: PostgresWire, start_service: StartService
) -> None:
    """Fails when the owner is set in a round trip of its own, or in a transaction's."""
    service = await start_service(**walled_wire.settings, row_security=True)
    conversation_id = (await service.chat("one", request_id="r1")).conversation_id
    for n in range(2, 4):
        await service.chat("more", conversation_id=conversation_id, request_id=f"r{n}")
    walled_wire.clear()
    await service.chat("last", conversation_id=conversation_id, request_id="last")

    executed = a_turns(walled_wire.executed)
    assert [True, False] * 3 == ["set_config" in text for text in executed]
    assert 3 == len(a_turns(walled_wire.round_trips))


@pytest.mark.parametrize(
    "name", ["WINDOW", "CONVERSATIONS", "CONVERSATIONS_BY_LABELS", "HISTORY_OLDEST_FIRST"]
)
def test_policy_is_looked_at_once_and_not_for_each_row(walled_url: str, name: str) -> None:
    """Fails when what a policy calls could leak: an index is then left for a filter."""
    statement = STATEMENTS[name]
    with psycopg.connect(walled_url, autocommit=True, cursor_factory=ClientCursor) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        connection.execute(f"PREPARE it AS {statement.text}", {})
        names = ", ".join(f"%({name})s" for name in statement.names)
        explained = connection.execute(f"EXPLAIN EXECUTE it({names})", parameters(name)).fetchall()
    plan = [line.strip() for (line,) in explained]

    asked = [line for line in plan if OWNER_SETTING in line]
    assert asked
    assert [] == [line for line in asked if not line.startswith("One-Time Filter")], plan


# Whole workers


@pytest.mark.parametrize("has_row_security", [True], indirect=True)
async def test_workers_behind_policies_share_conversations_and_keep_owners_apart(
    start_service: StartService,
) -> None:
    """The server's parts together: both pools, streams, lists, on two workers without prepares."""
    agent = ScriptedAgent()
    services = [await start_service(agent), await start_service(agent, db_prepare=False)]
    conversation_id = an_id()
    for n, service in enumerate(services * 2):
        for user in ("ada", "bob"):
            asked = {"conversation_id": conversation_id, "user": user, "request_id": f"r{n}"}
            answer = await service.chat(f"{user} {n}", allow_missing=True, **asked)
            assert (2 * n + 1, f"{user} {n}".upper()) == (answer.user_sequence, answer.response)
    streamed = [event async for event in services[1].stream("s", conversation_id=conversation_id)]

    assert "S" == streamed[-1].completed.response
    for user, length in (("ada", 10), ("bob", 8)):
        history = await services[0].history(conversation_id, user=user)
        assert length == len(history.messages)
        assert {user} == {m.content.split()[0].lower() for m in history.messages} - {"s"}
    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(
        services[0].history(conversation_id, user="eve")
    )


async def test_policies_that_appear_behind_a_worker_fail_its_calls(
    start_service: StartService, database_url: str, granted_url: str
) -> None:
    """Fails without row_security = off on its connections: all conversations then seem gone."""
    service = await start_service(database_url=granted_url)
    conversation_id = (await service.chat()).conversation_id
    row_security.switch(database_url, is_on=True)

    # The first before the worker has looked, the second behind that.
    assert await refused(service.history(conversation_id)) in (
        ("INTERNAL", "INTERNAL"),
        ("UNAVAILABLE", "STORE_UNAVAILABLE"),
    )


DISAGREEMENTS = {
    "dropped": "ALTER TABLE message DISABLE ROW LEVEL SECURITY",
    "not forced": "ALTER TABLE turn NO FORCE ROW LEVEL SECURITY",
    "one more policy": "CREATE POLICY hole ON conversation USING (true)",
    "an exempt role": "ALTER ROLE {role} BYPASSRLS",
    "an owning role": "GRANT {owner} TO {role}",
}
AGREEMENTS = {
    "dropped": "ALTER TABLE message ENABLE ROW LEVEL SECURITY",
    "not forced": "ALTER TABLE turn FORCE ROW LEVEL SECURITY",
    "one more policy": "DROP POLICY hole ON conversation",
    "an exempt role": "ALTER ROLE {role} NOBYPASSRLS",
    "an owning role": "REVOKE {owner} FROM {role}",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", DISAGREEMENTS)
async def test_worker_whose_wall_goes_refuses_calls_until_it_is_back(
    start_service: StartService,
    database_url: str,
    walled_url: str,
    server_role: tuple[str, str],
    what: str,
) -> None:
    """Fails when row security is looked at only at the start."""
    service = await start_service(database_url=walled_url, row_security=True)
    conversation_id = (await service.chat()).conversation_id
    names = {"role": server_role[0], "owner": conninfo_to_dict(database_url)["user"]}
    with psycopg.connect(as_superuser(database_url), autocommit=True) as admin:
        try:
            admin.execute(DISAGREEMENTS[what].format(**names))
            await until_health(service, "NOT_SERVING")
            gone = ("UNAVAILABLE", "STORE_UNAVAILABLE")
            assert gone == await refused(service.history(conversation_id))
            assert gone == await refused(service.chat(conversation_id=conversation_id))
            assert gone == await refused(service.conversations())
        finally:
            admin.execute(AGREEMENTS[what].format(**names))
    await until_health(service, "SERVING")
    assert 3 == (await service.chat(conversation_id=conversation_id)).user_sequence


async def test_worker_without_the_setting_is_not_ready_while_policies_are_on(
    start_service: StartService, database_url: str, granted_url: str
) -> None:
    service = await start_service(database_url=granted_url)
    conversation_id = (await service.chat()).conversation_id
    row_security.switch(database_url, is_on=True)
    await until_health(service, "NOT_SERVING")
    gone = ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert gone == await refused(service.history(conversation_id))

    row_security.switch(database_url, is_on=False, may_drop=True)
    await until_health(service, "SERVING")
    assert 2 == len((await service.history(conversation_id)).messages)


async def test_turn_that_is_open_when_the_wall_goes_still_ends(
    start_service: StartService, database_url: str, walled_url: str
) -> None:
    """An answer that was paid for is stored, and its conversation is free."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), database_url=walled_url, row_security=True)
    answering = asyncio.create_task(service.chat("hello"))
    await gate.entered.wait()
    row_security.switch(database_url, is_on=False, may_drop=True)
    await until_health(service, "NOT_SERVING")
    gate.opened.set()

    assert "HELLO" == (await answering).response
