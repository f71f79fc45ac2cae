"""How soon turns are as usual again once the database is back: by itself, within the bars.

Ten turns a second, each with two seconds of time, go on through each outage. From the moment of the
database's return it is counted until the first turn of a run of twenty that all succeed.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as File

import grpc
import psycopg
import pytest

from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.databases import as_superuser
from support.moved_postgres import url_of
from support.paths import Path, to_socket
from support.services import Service, StartService
from support.standbys import a_standby, folder_of, promote

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

AWAY_S = 3.0
IN_A_ROW = 20
NORMAL_S, FAILOVER_S = 5.0, 15.0
"""The bars."""


class Turns:
    """When each turn began, and whether it succeeded."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ends: dict[float, bool] = {}

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        talking = asyncio.create_task(self._talk())
        try:
            yield
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _talk(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._turn())
                await asyncio.sleep(0.1)  # the rate is the subject

    async def _turn(self) -> None:
        began = time.monotonic()
        try:
            await self._service.chat(timeout=2)
            self._ends[began] = True
        except grpc.aio.AioRpcError:
            self._ends[began] = False

    async def seconds_until_normal(self, back_at: float) -> float:
        """Return how long after the database's return the first of IN_A_ROW good turns began."""
        while True:
            ends = sorted(item for item in self._ends.items() if item[0] >= back_at)
            last_bad = max((at for at, is_good in ends if not is_good), default=0.0)
            good = [at for at, _ in ends if at > last_bad]
            if len(good) >= IN_A_ROW:
                return good[0] - back_at
            await asyncio.sleep(0.05)


def report(outage: str, seconds: float) -> None:
    print(f"{outage}: as usual {seconds:.1f} s after the database's return")


async def test_killed_database_that_comes_back(
    primary: EmbeddedPostgres, start_service: StartService
) -> None:
    turns = Turns(await start_service(database_url=primary.start()))
    async with turns.going_on():
        os.kill(primary.pid or 0, signal.SIGKILL)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(primary.start)
        seconds = await turns.seconds_until_normal(time.monotonic())
    report("killed", seconds)
    assert seconds < NORMAL_S


async def test_database_that_is_read_only_for_a_while(
    start_service: StartService, database_url: str
) -> None:
    turns = Turns(await start_service())
    end_all = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(as_superuser(database_url), autocommit=True) as admin:
        async with turns.going_on():
            admin.execute(
                f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only = on"
            )
            admin.execute(end_all)
            await asyncio.sleep(AWAY_S)
            admin.execute(f"ALTER DATABASE {admin.info.dbname} RESET default_transaction_read_only")
            seconds = await turns.seconds_until_normal(time.monotonic())
    report("read only", seconds)
    assert seconds < NORMAL_S


async def test_path_that_goes_silent_and_passes_new_connections_again(
    path: Path, start_service: StartService
) -> None:
    turns = Turns(await start_service(database_url=url_of(path)))
    async with turns.going_on():
        path.go_silent()
        await asyncio.sleep(AWAY_S)
        path.pass_again()
        seconds = await turns.seconds_until_normal(time.monotonic())
    report("silent path", seconds)
    assert seconds < FAILOVER_S


async def test_pooler_that_was_paused(path: Path, start_service: StartService) -> None:
    turns = Turns(await start_service(database_url=url_of(path), db_prepare=False))
    async with turns.going_on():
        path.go_silent()
        await asyncio.sleep(AWAY_S)
        path.resume()
        seconds = await turns.seconds_until_normal(time.monotonic())
    report("paused pooler", seconds)
    assert seconds < NORMAL_S


async def test_failover_behind_one_address(
    primary: EmbeddedPostgres, path: Path, start_service: StartService, cluster_folder: File
) -> None:
    with a_standby(primary.start(), cluster_folder / "standby") as standby_url:
        turns = Turns(await start_service(database_url=url_of(path)))
        async with turns.going_on():
            await asyncio.to_thread(primary.stop)
            path.destination = to_socket(folder_of(standby_url))
            await asyncio.to_thread(promote, standby_url)
            seconds = await turns.seconds_until_normal(time.monotonic())
    report("failover", seconds)
    assert seconds < FAILOVER_S
