"""Through pgbouncer: a start that would lose something is refused, and turns go on over a pause.

`make test-pgbouncer` runs tests of turns, streams, waits and the feed through it as well.
"""

import asyncio
from typing import Any

import pytest

from parley_server.storage.schema import pooling
from parley_server.storage.schema.reaching import UnsafeDatabase
from support.pgbouncers import Pgbouncer, a_pgbouncer
from support.services import BEHIND_PGBOUNCER, StartService


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"notify": "listen", "db_prepare": False}, "notifications: set PARLEY_NOTIFY=poll"),
        ({"notify": "poll", "db_prepare": True}, "prepared statements: set PARLEY_DB_PREPARE=0"),
    ],
)
async def test_worker_refuses_a_pooler_that_loses_what_it_is_set_to_use(
    start_service: StartService,
    pgbouncer: Pgbouncer,
    database_url: str,
    settings: dict[str, Any],
    sentence: str,
) -> None:
    """Fails without pooling.check: the worker starts, and hears nothing or fails in calls."""
    with pytest.raises(UnsafeDatabase, match=sentence):
        await start_service(database_url=pgbouncer.url(database_url), **settings)


def test_pooler_in_session_mode_is_not_refused(database_url: str) -> None:
    with a_pgbouncer(database_url, mode="session") as pgbouncer:
        pooling.check(pgbouncer.url(database_url), is_prepared=True, listens=True)


def test_database_itself_is_not_refused(database_url: str) -> None:
    pooling.check(database_url, is_prepared=True, listens=True)


async def test_calls_go_on_when_a_paused_pgbouncer_resumes(
    start_service: StartService, pgbouncer: Pgbouncer, database_url: str
) -> None:
    """Fails when a worker gives calls up, or repeats what was carried out."""
    settings = {"database_url": pgbouncer.url(database_url), **BEHIND_PGBOUNCER}
    one, two = await start_service(**settings), await start_service(**settings)
    conversation_id = (await one.chat("first")).conversation_id
    pgbouncer.pause()
    calls = [
        asyncio.create_task(worker.chat(f"m{n}", request_id=f"{n}", timeout=15))
        for n in range(10)
        for worker in (one, two)
    ]
    await asyncio.sleep(1)  # as long as it is paused
    pgbouncer.resume()
    answers = await asyncio.gather(*calls)

    assert 10 == len({answer.turn_id for answer in answers})
    assert "FIRST" == (await two.history(conversation_id)).messages[1].content
