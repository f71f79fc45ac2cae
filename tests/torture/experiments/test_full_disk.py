"""Experiment 21: the database's disk is full, and then the database takes no writes.

A standby that answers in the primary's place, and is promoted, is in
tests/server/storage/test_failover.py and tests/torture/test_recovery.py.
"""

import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import version
from support.databases import as_superuser
from support.services import an_id, metadata
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import Fleet
from support.torture.load import Load

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is small"),
]

EXPERIMENT = Experiment(
    number=21,
    done="under load the database's disk is full, then the database is read-only",
    holds="reads go on; no write is told INTERNAL; writes come back by themselves",
    protection="what Postgres says it did not do counts as an outage, which is waited for",
    removal="workers that take a full disk for a defect",
    short_s=3,
    long_s=30,
)
SMALL_MIB = 64
READS = 30
BACK_S = 20
Outage = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def small(cluster_folder: Path) -> Iterator[Path]:
    """A disk of its own, of SMALL_MIB."""
    folder = cluster_folder / "small"
    folder.mkdir()
    size = f"size={SMALL_MIB}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def database_url(cluster_folder: Path, small: Path) -> Iterator[str]:
    """A database on that disk. The server's journal is elsewhere."""
    with EmbeddedPostgres(cluster_folder / "cluster") as postgres:
        url = postgres.start()
        version.migrate(url)
        space = small / "space"
        space.mkdir()
        owner = next((cluster_folder / "cluster").rglob("PG_VERSION")).stat()
        os.chown(space, owner.st_uid, owner.st_gid)
        for folder in (small, cluster_folder):
            folder.chmod(0o755)
        administrative = as_superuser(url).replace("/parley?", "/postgres?")
        with psycopg.connect(administrative, autocommit=True) as admin:
            admin.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
            admin.execute("ALTER DATABASE parley SET TABLESPACE small")
        yield url


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill a disk to the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """Have the database take no writes, and end all sessions."""
    with psycopg.connect(as_superuser(url), autocommit=True) as admin:
        admin.execute("ALTER DATABASE parley SET default_transaction_read_only = on")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    try:
        yield
    finally:
        with psycopg.connect(as_superuser(url), autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute("ALTER DATABASE parley RESET default_transaction_read_only")


async def until_refused(trial: Trial, fleet: Fleet) -> None:
    """Write until a write is refused."""
    deadline = time.monotonic() + BACK_S
    while time.monotonic() < deadline:
        try:
            await fleet.any().Chat(
                pb.ChatRequest(message="x" * 20_000), timeout=2, metadata=metadata("writer")
            )
        except grpc.aio.AioRpcError:
            return
    trial.expect(False, "idle: no write failed")


async def reads_go_on(trial: Trial, fleet: Fleet, conversation_id: str) -> None:
    for _ in range(READS):
        request = pb.GetHistoryRequest(conversation_id=conversation_id)
        try:
            found = await fleet.any().GetHistory(request, timeout=5, metadata=metadata("reader"))
            trial.expect(2 == len(found.messages), "wrong: a read misses messages")
        except grpc.aio.AioRpcError as error:
            trial.expect(False, f"unread: {error.details()}")


@asynccontextmanager
async def talking(trial: Trial) -> AsyncIterator[tuple[Fleet, Load]]:
    without = () if trial.is_protected else (trial.without,)
    async with (
        trial.fleet(without=without, store_wait_s=1) as fleet,
        trial.load(fleet.any, callers=8, call_s=10) as load,
    ):
        await load.until_answered(50)
        yield fleet, load


@pytest.fixture
def attack(small: Path, database_url: str) -> Any:
    async def attack(trial: Trial) -> None:
        outages: dict[str, Outage] = {
            "disk full": lambda: full(small),
            "read only": lambda: read_only(database_url),
        }
        async with talking(trial) as (fleet, load):
            identity = an_id()
            await fleet.any().Chat(
                pb.ChatRequest(message="read", conversation_id=identity, allow_missing=True),
                timeout=20,
                metadata=metadata("reader"),
            )
            for name, outage in outages.items():
                trial.log.note(name)
                until = time.monotonic() + trial.seconds
                with outage():
                    await until_refused(trial, fleet)
                    while time.monotonic() < until:
                        await reads_go_on(trial, fleet, identity)
                trial.log.note(f"no longer {name}")
                back = time.monotonic()
                await load.until_answered(50, within_s=BACK_S)
                trial.figures[f"back after {name}"] = f"{time.monotonic() - back:.1f} s"
        reasons = {each.reason for each in trial.log.operations}
        defects = {"INTERNAL", "UNKNOWN"} & reasons
        trial.figures["told"] = ", ".join(sorted(reasons - {""}))
        trial.expect(not defects, f"untold: calls ended with {defects}")

    return attack


async def test_reads_go_on_and_writes_come_back(lab: Lab, attack: Any) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_outage_that_is_taken_for_a_defect_is_noticed(lab: Lab, attack: Any) -> None:
    await lab.notices(attack, without="store.disk full", because="untold")
