"""Experiments 3 and 4: Postgres is killed under load, also with commits that do not wait."""

import asyncio
import os
import signal
from functools import partial

import psycopg
import pytest

from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.databases import as_superuser
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

EVERY_S = 3.0
HURRIED = (
    "ALTER ROLE parley SET synchronous_commit = off",
    "ALTER SYSTEM SET wal_writer_delay = '10s'",
    "SELECT pg_reload_conf()",
)
"""A commit that is not waited for is written at most three of these delays later."""

EXPERIMENT = Experiment(
    number=3,
    done="Postgres is killed (-9) under mixed load, and started again",
    holds="no OK is lost, no turn is doubled",
    protection="synchronous_commit = on, which workers insist on",
    removal="synchronous_commit = off, in workers that do not look (experiment 4)",
    short_s=6,
    long_s=180,
)


@pytest.fixture
def database_url(primary: EmbeddedPostgres) -> str:
    return primary.start()


async def attack(trial: Trial, *, postgres: EmbeddedPostgres) -> None:
    if not trial.is_protected:
        with psycopg.connect(as_superuser(trial.database_url), autocommit=True) as admin:
            for statement in HURRIED:
                admin.execute(statement)
    without = () if trial.is_protected else ("commit_check",)
    async with (
        trial.fleet(without=without) as fleet,
        trial.load(fleet.any) as load,
    ):
        for _ in range(max(1, int(trial.seconds / EVERY_S))):
            await load.until_answered(150)
            assert postgres.pid is not None
            trial.log.note("Postgres killed")
            os.kill(postgres.pid, signal.SIGKILL)
            while postgres.pid is not None:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(postgres.start)
            trial.log.note("Postgres back")
        await load.until_answered(50)


async def test_no_answer_is_lost_when_postgres_is_killed(
    lab: Lab, primary: EmbeddedPostgres
) -> None:
    await lab.holds(partial(attack, postgres=primary))
    assert "deadlock" not in primary.log_file.read_text()


@of_a_removal
async def test_answers_are_lost_where_commits_do_not_wait_and_that_is_noticed(
    lab: Lab, primary: EmbeddedPostgres
) -> None:
    run = partial(attack, postgres=primary)
    await lab.notices(run, without="commit_check", because="lost", seconds=EVERY_S)
