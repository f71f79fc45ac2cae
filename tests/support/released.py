"""The release before: its server as processes, from the copy that `make released` recorded.

It runs with this release's libraries. A copy, not the history: a clone may be shallow.
"""

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.databases import a_database, with_database
from support.processes import ServerProcess, environment_of

TESTS = Path(__file__).parents[1]
COPY = TESTS / "released" / "server.tar.xz"


class Released:
    """The release before, unpacked."""

    def __init__(self, folder: Path) -> None:
        with tarfile.open(COPY) as copy:
            copy.extractall(folder, filter="data")
        self.path = f"{folder / 'server'}:{folder / 'protos'}:{TESTS}"
        """Where its modules are, and the agents of the tests."""

    def worker(self, database_url: str, **environment: Any) -> ServerProcess:
        """Start a worker of it."""
        return ServerProcess(database_url, python_path=self.path, **environment)

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run its command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "parley_server", *arguments],
            env=environment_of(environment, self.path),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """The release before."""
    return Released(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="session")
def released_template(postgres_url: str, released: Released) -> Iterator[str]:
    """The name of a database with the schema of the release before, made by that release."""
    name = "parley_template_released"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
        url = with_database(postgres_url, name)
        migrated = released.run("migrate", PARLEY_DATABASE_URL=url)
        assert 0 == migrated.returncode, migrated.stderr
        yield name
        connection.execute(f"DROP DATABASE {name}")


@pytest.fixture
def released_database_url(postgres_url: str, released_template: str) -> Iterator[str]:
    """An empty database with the schema of the release before."""
    with a_database(postgres_url, released_template) as url:
        yield url
