"""Cursors of the feed when the database's server crashes, or when another one takes its place."""

import asyncio
import os
import signal
from typing import LiteralString

import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.databases import as_superuser
from support.services import StartService, refused
from support.streams import until_progress

NEXT = "SELECT pg_current_xact_id()::text::bigint"
EXPIRED = ("FAILED_PRECONDITION", "CURSOR_EXPIRED")


def run(url: str, *statements: LiteralString) -> None:
    with psycopg.connect(as_superuser(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def burn(url: str, until: int) -> int:
    """Use up transaction ids up to one, in transactions that nobody waits for on disk."""
    with psycopg.connect(as_superuser(url), autocommit=True) as connection:
        while True:
            row = connection.execute(NEXT).fetchone()
            assert row is not None
            if row[0] >= until:
                return int(row[0])


async def test_no_turn_is_missed_behind_a_cursor_when_the_database_crashes(
    primary: EmbeddedPostgres, start_service: StartService
) -> None:
    """Fails when a cursor is ahead of the disk: ids that a crash forgets are given out again.

    Of the ids here none was stored, as of transactions that fail, or that other programs commit
    without waiting. The watch that is open all the time is not told that its place is gone either.
    """
    url = primary.start()
    run(url, "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
    service = await start_service(database_url=url)
    before = await service.chat("before")
    open_all_the_time = service.watch_turns()
    assert before.turn_id == (await until_progress(open_all_the_time))[0].turn.turn_id
    reached = burn(url, burn(url, 0) + 50)
    cursor = (await until_progress(service.watch_turns()))[-1].cursor
    assert primary.pid is not None
    os.kill(primary.pid, signal.SIGKILL)
    while primary.pid is not None:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(primary.start)
    after = await service.chat("after", timeout=15)
    burn(url, reached + 1)

    told = await until_progress(service.watch_turns(after_cursor=cursor))
    assert [after.turn_id] == [update.turn.turn_id for update in told[:-1]]
    update = await open_all_the_time.read()
    assert isinstance(update, pb.WatchTurnsResponse), update
    assert after.turn_id == update.turn.turn_id


@pytest.mark.writes_rows
async def test_rows_of_another_server_expire_no_cursor_when_they_go(
    start_service: StartService, database_url: str
) -> None:
    """Fails when their ids count as removed, which this server reaches after months: until then
    each cursor would be expired as soon as it is told."""
    before = await start_service()
    await before.chat("before")
    run(
        database_url,
        "UPDATE turn_feed SET xid = xid + 1e9::bigint, create_time = now() - interval '8 days'",
        "UPDATE feed_state SET system_identifier = 1",
    )
    restored = await start_service()
    cursor = (await until_progress(restored.watch_turns()))[-1].cursor
    await restored.worker.trimming.trim()
    after = await restored.chat("after")

    told = await until_progress(restored.watch_turns(after_cursor=cursor))
    assert [after.turn_id] == [update.turn.turn_id for update in told[:-1]]


@pytest.mark.writes_rows
async def test_rows_of_another_server_go_before_those_of_this_one(
    start_service: StartService, database_url: str
) -> None:
    """Fails when only the lowest ids are looked at: the other server's may be the highest."""
    before = await start_service()
    for n in range(3):
        await before.chat(f"before {n}")
    run(
        database_url,
        "UPDATE turn_feed SET xid = xid + 1e9::bigint",
        "UPDATE feed_state SET system_identifier = 1",
    )
    restored = await start_service()
    after = await restored.chat("after")
    await restored.worker.trimming.trim()

    with psycopg.connect(as_superuser(database_url)) as connection:
        left = connection.execute("SELECT turn_id::text FROM turn_feed").fetchall()
    assert [(after.turn_id,)] == left


@pytest.mark.writes_rows
async def test_worker_notices_that_its_database_is_on_another_server_while_it_runs(
    start_service: StartService, database_url: str
) -> None:
    """Fails when it looks at its start only: cursors would count on another server."""
    service = await start_service()
    await service.chat("before")
    cursor = (await until_progress(service.watch_turns()))[-1].cursor
    run(database_url, "UPDATE feed_state SET system_identifier = 1")
    await service.worker.trimming.work()

    assert EXPIRED == await refused(service.watch_turns(after_cursor=cursor).read())
