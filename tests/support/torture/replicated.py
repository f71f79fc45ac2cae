"""A primary and its streaming standby, behind one address that workers know."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path as File
from typing import LiteralString

import psycopg
import pytest

from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.databases import as_superuser
from support.paths import Path, to_socket
from support.standbys import a_standby, folder_of, promote
from support.torture.experiments import Trial
from support.torture.operations import Kind, Log, Outcome

SENDER = "SELECT pid FROM pg_stat_replication"
RECEIVER = "SELECT pid FROM pg_stat_wal_receiver"
STATE = "SELECT sync_state FROM pg_stat_replication"
IN_A_ROW = 20


class Replicated:
    """The two servers."""

    def __init__(self, primary: EmbeddedPostgres, standby_url: str, path: Path) -> None:
        self._primary = primary
        self._primary_url = primary.start()
        self.standby_url = standby_url
        self._path = path
        self._stopped: tuple[int, signal.Signals] | None = None
        """A process that was stopped, and how it is let go of."""

    def have_commits_wait(self) -> None:
        """Have a commit wait until the standby has it."""
        with psycopg.connect(as_superuser(self._primary_url), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            admin.execute("SELECT pg_reload_conf()")
            while admin.execute(STATE).fetchone() != ("sync",):
                time.sleep(0.02)

    def stop_sending(self) -> None:
        """Stop the process that sends to the standby: the standby lags from now on."""
        self._stop(self._primary_url, SENDER, signal.SIGKILL)

    def stop_receiving(self) -> None:
        """Stop the process that receives at the standby: what is sent stays unconfirmed."""
        self._stop(self.standby_url, RECEIVER, signal.SIGCONT)

    def _stop(self, url: str, statement: LiteralString, let_go: signal.Signals) -> None:
        with psycopg.connect(as_superuser(url)) as admin:
            row = admin.execute(statement).fetchone()
        assert row is not None
        self._stopped = row[0], let_go
        os.kill(row[0], signal.SIGSTOP)

    async def fail_over(self, log: Log) -> None:
        """Kill the primary (-9), have the address lead to the standby, and promote that."""
        assert self._primary.pid is not None
        log.note("primary killed")
        os.kill(self._primary.pid, signal.SIGKILL)
        while self._primary.pid is not None:
            await asyncio.sleep(0.01)
        self._path.destination = to_socket(folder_of(self.standby_url))
        await asyncio.to_thread(self._until_ended)
        await asyncio.to_thread(promote, self.standby_url)
        log.note("standby promoted")

    def _until_ended(self) -> None:
        """Let go of what was stopped, and wait until the standby has read all that it was sent."""
        with psycopg.connect(as_superuser(self.standby_url), autocommit=True) as admin:
            receiver = admin.execute(RECEIVER).fetchone()
            if self._stopped is not None:
                os.kill(*self._stopped)
            while receiver is not None and admin.execute(RECEIVER).fetchone() == receiver:
                time.sleep(0.02)


@pytest.fixture
def replicated(primary: EmbeddedPostgres, path: Path, cluster_folder: File) -> Iterator[Replicated]:
    """A primary and its standby, asynchronous so far. The path leads to the primary."""
    with a_standby(primary.start(), cluster_folder / "standby") as standby_url:
        yield Replicated(primary, standby_url, path)


async def seconds_until_back(trial: Trial, since: float, within_s: float) -> float:
    """Return how long after `since` so many turns have been answered as make a service.

    Returns: at most `within_s`: then it is not back.
    """
    while time.monotonic() < since + within_s:
        ends = sorted(
            each.end
            for each in trial.log.operations
            if each.start > since and each.outcome == Outcome.OK and each.kind != Kind.READ
        )
        if len(ends) >= IN_A_ROW:
            return ends[IN_A_ROW - 1] - since
        await asyncio.sleep(0.05)
    return within_s
