"""The server that all runners talk to: a real process, a real Postgres, the scripted agents."""

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from tokens import AUDIENCE, ISSUER, SECRET

from parley_server.storage.schema import version

HERE = Path(__file__).parent
START_S = 120
STOP_S = 30
_ADDRESS = re.compile(r"serves on (127\.0\.0\.1:\d+)")


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Serve inside the block, on a database of its own.

    Args:
        folder: for the embedded database and the log.
    Returns: the server's address.
    """
    settings = {
        "PARLEY_LISTEN": "127.0.0.1:0",
        "PARLEY_AGENTS_FILE": str(HERE / "agents.toml"),
        "PARLEY_AUTH_HS256_SECRET": SECRET,
        "PARLEY_AUTH_ISSUER": ISSUER,
        "PARLEY_AUTH_AUDIENCE": AUDIENCE,
        "PARLEY_CONTEXT_TOKENS": "100000",  # the longest message is told to the agent whole
        "PARLEY_DRAIN_S": "1",
        "PARLEY_MAX_QUEUED_TURNS": "10",
        "PARLEY_TRASH_DAYS": "1",
        "PARLEY_MAX_TOKENS_PER_DAY": "75000",  # no scenario uses so many, except the one about it
        "PARLEY_LOG_FORMAT": "json",
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PARLEY_")}
    log = folder / "server.log"
    with ExitStack() as started:
        if given := os.environ.get("PARLEY_TEST_DATABASE_URL"):
            settings["PARLEY_DATABASE_URL"] = started.enter_context(_database(given))
        else:
            settings["PARLEY_DATA_DIR"] = str(folder / "data")
        output = started.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "parley_server", "serve"],
            cwd=HERE,  # where the agents are
            env={**inherited, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _database(server_url: str) -> Iterator[str]:
    """Make a migrated database inside the block; return its URL."""
    name = f"parley_conformance_{uuid.uuid4().hex[:12]}"
    base, _, query = server_url.partition("?")
    url = f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        version.migrate(url)
        yield url
    finally:  # by the embedded server's superuser: its clean-up may be at work there
        admin = server_url.replace("//parley@", "//postgres@")
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait until the server says where it serves. Raises: SystemExit, with what it said instead."""
    ends_at = time.monotonic() + START_S
    while time.monotonic() < ends_at and process.poll() is None:
        if found := _ADDRESS.search(log.read_text("utf-8", "replace")):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the server did not start:\n{log.read_text('utf-8', 'replace')}")
