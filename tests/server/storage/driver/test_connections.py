"""A worker's connections: the warm one first, broken ones replaced, statements as they are."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import psycopg
import pytest

from parley_server.core.errors import StoreOutcomeUnknown, StoreUnavailable
from parley_server.core.patience import waiting_until
from parley_server.storage.driver.connection import Connection, Row, Statement
from parley_server.storage.driver.connections import Connections
from parley_server.storage.driver.pool import Pool
from support.proxy import PostgresProxy

WHO = Statement("SELECT pg_backend_pid()")


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[Connections]:
    made = Connections(database_url, name="test", size=4, lease_s=3, is_prepared=True)
    await made.open()
    yield made
    await made.close()


async def test_connection_used_last_is_used_next(connections: Connections) -> None:
    """Fails when the pool hands connections out in turn."""
    await asyncio.gather(*(connections.run(WHO, {}) for _ in range(20)))
    backends = {(await connections.run(WHO, {}))[0][0] for _ in range(20)}

    assert 1 == len(backends)


@pytest.mark.parametrize("is_prepared", [True, False])
async def test_statement_takes_and_returns_every_type(database_url: str, is_prepared: bool) -> None:
    connections = Connections(database_url, name="test", size=1, lease_s=3, is_prepared=is_prepared)
    await connections.open()
    statement = Statement(
        "SELECT $1::uuid, $2::text, $3::bigint, $4::bytea, $5::interval, $6::timestamptz, $7::text",
        ("a", "b", "c", "d", "e", "f", "g"),
    )
    values = {
        "a": UUID(int=7),
        "b": "é 'x' %s $1 \\",
        "c": 2**62,
        "d": b"\0\xff",
        "e": timedelta(seconds=1.5),
        "f": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        "g": None,
    }
    for _ in range(7):  # past the point where Postgres settles on one plan
        rows = await connections.run(statement, values)
    await connections.close()

    assert [tuple(values.values())] == rows


async def test_large_parameters_and_results_come_through(connections: Connections) -> None:
    text = "0123456789" * 800_000
    rows = await connections.run(Statement("SELECT $1::text", ("text",)), {"text": text})

    assert [(text,)] == rows


async def test_connections_that_ended_while_idle_are_replaced(
    connections: Connections, database_url: str
) -> None:
    await asyncio.gather(*(connections.run(WHO, {}) for _ in range(20)))
    admin = database_url.replace("//parley@", "//postgres@")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'parley-test' AND datname = current_database()"
        )
    failures = 0
    for _ in range(20):
        try:
            await connections.run(WHO, {})
        except StoreOutcomeUnknown:
            failures += 1

    assert 1 == failures  # not one for each connection


async def test_statement_that_is_refused_leaves_the_connection_usable(
    connections: Connections,
) -> None:
    from parley_server.storage.driver.connections import StatementFailed

    for _ in range(8):
        with pytest.raises(StatementFailed, match="DivisionByZero 22012"):
            await connections.run(Statement("SELECT 1 / 0"), {})
    assert 1 == len(await connections.run(WHO, {}))


async def test_slow_network_does_not_mix_answers(database_url: str) -> None:
    async with PostgresProxy(database_url).running() as proxy:
        connections = Connections(proxy.url, name="test", size=2, lease_s=3, is_prepared=True)
        await connections.open()
        echo = Statement("SELECT $1::text, pg_sleep(0.001)", ("text",))
        rows = await asyncio.gather(
            *(connections.run(echo, {"text": f"{n}" * 3000}) for n in range(100))
        )
        await connections.close()

    assert [f"{n}" * 3000 for n in range(100)] == [r[0][0] for r in rows]


async def test_frozen_transaction_is_ended_and_done_again(database_url: str) -> None:
    """Fails without the limit of idle transactions: whoever is frozen in one keeps its locks."""
    connections = Connections(database_url, name="test", size=1, lease_s=1, is_prepared=True)
    await connections.open()
    tries = 0

    async def work(connection: Connection) -> list[Row]:
        nonlocal tries
        tries += 1
        async with connection.transaction():
            await connection.run(WHO, {})
            if tries == 1:
                await asyncio.sleep(0.8)  # the limit's own time is the subject
            return await connection.run(WHO, {})

    assert 1 == len(await connections.with_connection(work))
    assert 2 == tries
    await connections.close()


async def test_new_connections_that_lose_answers_are_refused(
    connections: Connections, database_url: str
) -> None:
    """Fails when synchronous_commit is looked at only when a worker starts."""
    await connections.run(WHO, {})
    with psycopg.connect(
        database_url.replace("//parley@", "//postgres@"), autocommit=True
    ) as admin:
        where = f"ROLE parley IN DATABASE {admin.info.dbname}"
        admin.execute(f"ALTER {where} SET synchronous_commit = off")
        await connections.pool.retire(connections.pool.generation)
        with waiting_until(0), pytest.raises(StoreUnavailable):
            await connections.run(WHO, {})
        admin.execute(f"ALTER {where} RESET synchronous_commit")

    assert 1 == len(await connections.run(WHO, {}))


async def test_answer_that_does_not_come_in_time_costs_the_connection(database_url: str) -> None:
    connections = Connections(database_url, name="test", size=1, lease_s=3, is_prepared=True)
    connections.pool = Pool(
        partial(replace(connections.connecting, answer_limit_s=0.3).connect, "test"),
        name="test",
        size=1,
    )
    await connections.open()
    with pytest.raises(StoreOutcomeUnknown):
        await connections.run(Statement("SELECT pg_sleep(2)"), {})

    assert 1 == len(await connections.run(WHO, {}))
    await connections.close()
