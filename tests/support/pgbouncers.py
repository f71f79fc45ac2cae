"""Debian's pgbouncer in transaction mode, as docs/production.md sets it up, in front of a Postgres.

`make databases` installs it. Without it tests are skipped; with PARLEY_CI=1 they fail.
"""

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from support.databases import as_superuser

LIMITS = {
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
}
_PROGRAM = shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin")
_START_S = 10


class Pgbouncer:
    """A pgbouncer that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.port = port

    def url(self, database_url: str) -> str:
        """Return the URL by which a database is reached through it, as the same role."""
        parts = urlsplit(database_url)
        login = parts.netloc.rpartition("@")[0]
        where = f"postgresql://{login}@127.0.0.1:{self.port}{parts.path}"
        return f"{where}?sslmode=disable&gssencmode=disable"

    def pause(self) -> None:
        """Let what runs end, and hold back everything else."""
        self._command("PAUSE")

    def resume(self) -> None:
        self._command("RESUME")

    def servers(self) -> int:
        """Return how many connections to Postgres it has."""
        return len(self._command("SHOW SERVERS"))

    def _command(self, command: str) -> list[Any]:
        url = f"postgresql://parley@127.0.0.1:{self.port}/pgbouncer?sslmode=disable"
        # Its console speaks the simple protocol only.
        with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as admin:
            cursor = admin.execute(command)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def a_pgbouncer(
    database_url: str, *, roles: Iterable[str] = ("parley",), mode: str = "transaction"
) -> Iterator[Pgbouncer]:
    """Run a pgbouncer in front of an embedded Postgres, for these roles."""
    if _PROGRAM is None:
        assert os.environ.get("PARLEY_CI") != "1", "pgbouncer is missing: run `make databases`"
        pytest.skip("needs pgbouncer: run `make databases`")
    folder_of_socket = parse_qs(urlsplit(database_url).query)["host"][0]
    owner = Path(folder_of_socket, "data").stat()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        folder = Path(name)
        (folder / "users").write_text("".join(f'"{role}" ""\n' for role in roles))
        (folder / "pgbouncer.ini").write_text(
            f"""
[databases]
* = host={folder_of_socket} port=5432

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = parley
pool_mode = {mode}
default_pool_size = 20
max_client_conn = 1000
ignore_startup_parameters = options
"""
        )
        process = subprocess.Popen(
            [*_as(owner.st_uid, owner.st_gid), _PROGRAM, str(folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        folder.chmod(0o755)
        try:
            _until_open(process, port, folder / "log")
            yield Pgbouncer(process, port)
        finally:
            process.kill()  # it holds nothing, and its gentler ends differ by release
            process.wait(10)


def _as(user: int, group: int) -> list[str]:
    """Return the words before a command that refuses to run as root. Postgres' owner runs it."""
    if os.geteuid() != 0:
        return []
    name = pwd.getpwuid(user).pw_name
    keeps = "--inh-caps=+dac_override --ambient-caps=+dac_override --securebits=+no_setuid_fixup"
    return ["setpriv", f"--reuid={name}", f"--regid={group}", "--clear-groups", *keeps.split()]


def _until_open(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"pgbouncer did not start: {log.read_text()}")


def limit(database_url: str, roles: Iterable[str] = ("parley",)) -> None:
    """Set the limits that workers cannot set through it, as docs/production.md says."""
    with psycopg.connect(as_superuser(database_url), autocommit=True) as admin:
        for role, (name, value) in itertools.product(roles, LIMITS.items()):
            admin.execute(
                f"ALTER ROLE {role} IN DATABASE {admin.info.dbname} SET {name} = '{value}'"
            )


@pytest.fixture(scope="session")
def run_pgbouncer(postgres_url: str, server_role: tuple[str, str]) -> Iterator[Pgbouncer]:
    """One for the run."""
    with a_pgbouncer(postgres_url, roles=("parley", server_role[0])) as pgbouncer:
        yield pgbouncer


@pytest.fixture
def pgbouncer(
    run_pgbouncer: Pgbouncer, database_url: str, server_role: tuple[str, str]
) -> Pgbouncer:
    """In front of this test's database, which has the limits that it needs."""
    limit(database_url, ("parley", server_role[0]))
    return run_pgbouncer
