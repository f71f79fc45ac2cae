"""What a start waits for, and what takes a worker's readiness away."""

import asyncio
import time
from typing import Any

import psycopg
import pytest

from parley_server.core import endless
from parley_server.process import readiness
from parley_server.storage.schema.reaching import DatabaseAway
from support.services import Service, StartService, health, until_health

NOWHERE = "postgresql://ada@127.0.0.1:1/x"


async def test_start_waits_for_the_database_with_a_bound(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails without the deadline: the start waits for ever. It is tried more than once before."""
    monkeypatch.setattr(readiness, "DATABASE_WAIT_S", 0.5)
    began = time.monotonic()
    with pytest.raises(DatabaseAway, match="check PARLEY_DATABASE_URL and the database"):
        await start_service(database_url=NOWHERE)

    assert time.monotonic() - began >= 0.5


async def test_readiness_follows_the_schema_and_liveness_does_not(
    service: Service, database_url: str
) -> None:
    """Fails when readiness asks the database for nothing but an answer: calls then end INTERNAL."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE parley_schema SET oldest_worker = 1000")
        await until_health(service, "NOT_SERVING")
        assert "SERVING" == await health(service, "liveness")
        connection.execute("UPDATE parley_schema SET oldest_worker = 1")
        await until_health(service, "SERVING")


async def test_readiness_is_followed_after_an_error_that_nobody_foresaw(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when such an error ends the watch: what was said last is then said for ever."""
    usual, failed = service.worker.store.look, 0

    async def fails_twice() -> Any:
        nonlocal failed
        failed += 1
        if failed < 3:
            raise RuntimeError("nobody foresaw this")
        return await usual()

    monkeypatch.setattr(endless, "PAUSE_S", 0.01)
    monkeypatch.setattr(service.worker.store, "look", fails_twice)
    while failed < 3:
        await asyncio.sleep(0.05)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE parley_schema SET oldest_worker = 1000")
        await until_health(service, "NOT_SERVING")
        connection.execute("UPDATE parley_schema SET oldest_worker = 1")
