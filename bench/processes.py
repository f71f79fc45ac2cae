"""What runs beside the benchmark: Postgres, the servers, the callers."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
from callers import Job, Result
from psycopg.conninfo import conninfo_to_dict
from seed import AUDIENCE, ISSUER, SECRET
from watchers import READY, WatchJob, WatchResult

from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import row_security

BENCH = Path(__file__).parent
START_S = 60
NO_CHANGES: Mapping[str, str] = {}
_PORT = re.compile(r"\bon (?:http://)?127\.0\.0\.1:(\d+)")


class Server:
    """One server, in a process of its own, with its output in a file."""

    def __init__(self, kind: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.kind = kind
        self.port = port
        self.pid = process.pid

    def resident_mb(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss) / 2**20


@contextmanager
def _running(
    kind: str, command: list[str], settings: Mapping[str, str], folder: Path
) -> Iterator[Server]:
    log = folder / f"{kind}-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**_environment(), **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Server(kind, process, _port(process, log))
    finally:
        process.terminate()
        process.wait()


def _environment() -> dict[str, str]:
    """Return the environment without settings of Parley's: all are the defaults."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PARLEY_")}


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until a server says where it serves."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := _PORT.search(log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not start:\n{log.read_text()}")


def _parley_settings(url: str, agent: str) -> dict[str, str]:
    return {
        "PARLEY_DATABASE_URL": url,
        "PARLEY_LISTEN": "127.0.0.1:0",
        "PARLEY_AGENT": agent,
        "PARLEY_AUTH_HS256_SECRET": SECRET,
        "PARLEY_AUTH_ISSUER": ISSUER,
        "PARLEY_AUTH_AUDIENCE": AUDIENCE,
    }


@contextmanager
def parley(
    url: str, folder: Path, agent: str = "echo", changes: Mapping[str, str] = NO_CHANGES
) -> Iterator[Server]:
    settings = {**_parley_settings(url, agent), **changes}
    with _running("parley", ["-m", "parley_server", "serve"], settings, folder) as server:
        yield server


@contextmanager
def ticking(url: str, folder: Path, notify: str = "listen") -> Iterator[Server]:
    """Run a worker whose agent is a clock."""
    settings = {**_parley_settings(url, "echo"), "PARLEY_NOTIFY": notify}
    with _running("ticking", [str(BENCH / "ticking.py")], settings, folder) as server:
        yield server


@contextmanager
def plain(url: str, folder: Path, kind: str = "plain") -> Iterator[Server]:
    """Run the plain flow, or the peer."""
    settings = {
        "PLAIN_DATABASE_URL": url.replace("postgresql://", "postgresql+asyncpg://"),
        "PLAIN_SECRET": SECRET,
        "PLAIN_ISSUER": ISSUER,
        "PLAIN_AUDIENCE": AUDIENCE,
    }
    command = ["-m", "uvicorn", f"{kind}:app", "--app-dir", str(BENCH), "--port", "0"]
    with _running(kind, command, settings, folder) as server:
        yield server


@contextmanager
def empty(folder: Path) -> Iterator[Server]:
    with _running("empty", [str(BENCH / "empty.py")], {}, folder) as server:
        yield server


class Databases:
    """A Postgres with a database for Parley and one for the plain flow."""

    def __init__(self, parley_url: str, pid: int, plain: str = "plain") -> None:
        self.parley_url = parley_url
        self.pid = pid
        self.plain_url = self._url(plain)
        self.admin_url = self._url("postgres", role="postgres")

    def _url(self, name: str, role: str = "parley") -> str:
        return re.sub(r"//\w+@/\w+", f"//{role}@/{name}", self.parley_url)

    def checkpoint(self) -> None:
        """Have what was seeded written out now and not while something is measured."""
        with self._admin() as admin:
            admin.execute("CHECKPOINT")

    @contextmanager
    def copied(self, name: str) -> Iterator["Databases"]:
        """Copy both databases inside the block, so that a part finds nothing that another one made.

        Args:
            name: of the copies; no two that are there at once have the same.
        """
        parley, plain = f"parley_{name}", f"plain_{name}"
        with self._copied("parley", parley), self._copied("plain", plain):
            self.checkpoint()
            yield Databases(self._url(parley), self.pid, plain)

    @contextmanager
    def walled(self) -> Iterator[str]:
        """Copy Parley's database inside the block, and switch row security on in the copy.

        Yields: its URL, with a role that the policies hold.
        """
        original = str(conninfo_to_dict(self.parley_url)["dbname"])
        name = f"{original}_walled"
        with self._role(name), self._copied(original, name):  # grants go with the copy
            row_security.switch(self._url(name), is_on=True)
            with psycopg.connect(self._url(name), autocommit=True) as connection:
                connection.execute(
                    f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}"
                )
                connection.execute("VACUUM ANALYZE")
            yield self._url(name, role=name)

    @contextmanager
    def _copied(self, original: str, name: str) -> Iterator[None]:
        """Have a copy of a database inside the block."""
        with self._admin() as admin:
            admin.execute(
                f"CREATE DATABASE {name} OWNER parley TEMPLATE {original} STRATEGY file_copy"
            )
        try:
            yield
        finally:
            with self._admin() as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def _role(self, name: str) -> Iterator[None]:
        with self._admin() as admin:
            admin.execute(f"CREATE ROLE {name} LOGIN")
        try:
            yield
        finally:
            with self._admin() as admin:
                admin.execute(f"DROP ROLE {name}")

    def _admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.admin_url, autocommit=True)


def _made(postgres: EmbeddedPostgres) -> tuple[str, int]:
    """Start Postgres with both databases. Returns: Parley's URL, the postmaster's process id."""
    url = postgres.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE plain")
    return url, postgres.pid or 0


@contextmanager
def databases(folder: Path) -> Iterator[Databases]:
    with EmbeddedPostgres(folder, say=lambda _: None) as postgres:
        yield Databases(*_made(postgres))


class CountingDatabases(Databases):
    """The same, where Postgres counts statements, BEGIN and COMMIT included."""

    def __init__(self, parley_url: str, pid: int) -> None:
        super().__init__(parley_url, pid)
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")

    def statements(self, database: str) -> int:
        """Return how many statements a database has been sent since the last call."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            count = connection.execute(
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_database "
                "ON pg_database.oid = dbid WHERE datname = %s",
                [database],
            ).fetchone()
            connection.execute("SELECT pg_stat_statements_reset()")
        return int(count[0]) if count else 0


@contextmanager
def counting_databases(folder: Path) -> Iterator[CountingDatabases]:
    settings = {"shared_preload_libraries": "pg_stat_statements"}
    with EmbeddedPostgres(folder, settings=settings, say=lambda _: None) as postgres:
        yield CountingDatabases(*_made(postgres))


def run_callers(script: str, job: Any, server: Server) -> tuple[Any, float]:
    """Run a job, which is a dataclass, in a separate process.

    Returns: what it prints; the most memory that the server was seen to have meanwhile, in MB.
    """
    peak_mb = 0.0
    command = [sys.executable, str(BENCH / script), json.dumps(asdict(job))]
    with subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            peak_mb = max(peak_mb, server.resident_mb())
            time.sleep(0.02)
        output = process.stdout.read() if process.stdout else b""
    if process.returncode:
        raise SystemExit("the callers failed")
    return json.loads(output), peak_mb


@contextmanager
def watching(job: WatchJob) -> Iterator[list[WatchResult]]:
    """Have conversations watched inside the block. Yields: where the result is then put."""
    command = [sys.executable, str(BENCH / "watchers.py"), json.dumps(asdict(job))]
    results: list[WatchResult] = []
    with subprocess.Popen(
        command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stdout.readline().strip() != READY:
            raise SystemExit("the watchers failed")
        yield results
        results.append(WatchResult(**json.loads(process.communicate()[0])))


class Callers:
    """Runs jobs, each in a process of its own, against one server."""

    def __init__(self, server: Server, databases: Databases) -> None:
        self.server = server
        self._databases = databases
        self._made: dict[str, int] = {}
        self.peak_mb = 0.0
        """The most memory that the server was seen to have while a job ran."""

    def begin(self, conversations: str, start: int) -> None:
        """Have the next job take a file's conversations from there on."""
        self._made[conversations] = start

    def run(self, job: Job) -> Result:
        """Run a job, on the conversations behind those that the job before took."""
        start = self._made.get(job.conversations, 0)
        self._made[job.conversations] = start + job.warm_up + job.turns
        job = replace(
            job,
            kind=self.server.kind,
            port=self.server.port,
            start=start,
            server_pid=self.server.pid,
            postgres_pid=self._databases.pid,
        )
        result, peak_mb = run_callers("callers.py", job, self.server)
        self.peak_mb = max(self.peak_mb, peak_mb)
        return Result(**result)
