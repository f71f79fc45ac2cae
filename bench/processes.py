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

import psutil
import psycopg
from callers import Job, Result
from seed import AUDIENCE, ISSUER, SECRET

from parley_server.storage.embedded import EmbeddedPostgres

BENCH = Path(__file__).parent
START_S = 60
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
    raise SystemExit(f"{' '.join(map(str, process.args))} did not start:\n{log.read_text()}")


@contextmanager
def parley(url: str, folder: Path, agent: str = "echo") -> Iterator[Server]:
    settings = {
        "PARLEY_DATABASE_URL": url,
        "PARLEY_LISTEN": "127.0.0.1:0",
        "PARLEY_AGENT": agent,
        "PARLEY_AUTH_HS256_SECRET": SECRET,
        "PARLEY_AUTH_ISSUER": ISSUER,
        "PARLEY_AUTH_AUDIENCE": AUDIENCE,
    }
    with _running("parley", ["-m", "parley_server", "serve"], settings, folder) as server:
        yield server


@contextmanager
def plain(url: str, folder: Path) -> Iterator[Server]:
    settings = {
        "PLAIN_DATABASE_URL": url.replace("postgresql://", "postgresql+asyncpg://"),
        "PLAIN_SECRET": SECRET,
        "PLAIN_ISSUER": ISSUER,
        "PLAIN_AUDIENCE": AUDIENCE,
    }
    command = ["-m", "uvicorn", "plain:app", "--app-dir", str(BENCH), "--port", "0"]
    with _running("plain", command, settings, folder) as server:
        yield server


@contextmanager
def empty(folder: Path) -> Iterator[Server]:
    with _running("empty", [str(BENCH / "empty.py")], {}, folder) as server:
        yield server


class Databases:
    """A Postgres with a database for Parley and one for the plain flow."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.parley_url = postgres.start()
        self.plain_url = self.parley_url.replace("/parley?", "/plain?")
        self.admin_url = self.parley_url.replace("//parley@/parley?", "//postgres@/postgres?")
        self.pid = postgres.pid or 0
        with psycopg.connect(self.parley_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE plain")

    def checkpoint(self) -> None:
        """Have what was seeded written out now and not while something is measured."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")


@contextmanager
def databases(folder: Path, settings: Mapping[str, str]) -> Iterator[Databases]:
    with EmbeddedPostgres(folder, settings=settings, say=lambda _: None) as postgres:
        yield Databases(postgres)


class Callers:
    """Runs jobs, each in a process of its own, against one server."""

    def __init__(self, server: Server, databases: Databases) -> None:
        self.server = server
        self._databases = databases
        self._made: dict[str, int] = {}
        self.peak_mb = 0.0
        """The most memory that the server was seen to have while a job ran."""

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
        command = [sys.executable, str(BENCH / "callers.py"), json.dumps(asdict(job))]
        with subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE) as process:
            while process.poll() is None:
                self.peak_mb = max(self.peak_mb, self.server.resident_mb())
                time.sleep(0.02)
            output = process.stdout.read() if process.stdout else b""
        if process.returncode:
            raise SystemExit("the callers failed")
        return Result(**json.loads(output))
