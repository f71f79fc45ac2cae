"""What a start waits for, and what takes a worker's readiness away."""

import time

import psycopg
import pytest

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
