"""A real Postgres for the run, and a migrated database for each test."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import version
from support.memory import a_folder

_SETTINGS = {"max_wal_size": "128MB", "min_wal_size": "32MB"}
"""Several of these servers share the machine's memory. What is safe on a disk stays switched on."""


def with_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def as_superuser(url: str) -> str:
    """Return the URL with the embedded server's superuser; another server's as it is."""
    return url.replace("//parley@", "//postgres@")


@pytest.fixture(scope="session")
def clusters_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this run's Postgres servers keep their data: in memory, if there is room."""
    with a_folder(tmp_path_factory.mktemp("postgres")) as folder:
        yield folder


@pytest.fixture
def cluster_folder(clusters_folder: Path) -> Iterator[Path]:
    """A folder there for the Postgres servers of one test, which are stopped before it goes."""
    with tempfile.TemporaryDirectory(dir=clusters_folder) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def postgres_url(clusters_folder: Path) -> Iterator[str]:
    """The URL of a server to make databases on: PARLEY_TEST_DATABASE_URL, or an embedded one."""
    given = os.environ.get("PARLEY_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with EmbeddedPostgres(clusters_folder / "run", settings=_SETTINGS) as postgres:
        yield postgres.start()


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""
    name = f"parley_template_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        version.migrate(with_database(postgres_url, name))
        yield name
        connection.execute(f"DROP DATABASE {name}")


@contextmanager
def a_database(postgres_url: str, template: str) -> Iterator[str]:
    """Make a migrated, empty database. Yields: its URL."""
    # The files, as they are, and with them what the first connection would have to compute: half
    # the processor time of writing each page to the log, and this is each test's.
    with a_new_database(postgres_url, f"TEMPLATE {template} STRATEGY FILE_COPY") as url:
        yield url


@contextmanager
def a_new_database(postgres_url: str, how: str = "") -> Iterator[str]:
    """Make a database that belongs to the URL's role. Yields: its URL.

    Args:
        how: what CREATE DATABASE is told of it; default: nothing is in it.
    """
    name = f"parley_test_{uuid.uuid4().hex[:12]}"
    owner = conninfo_to_dict(postgres_url).get("user", "DEFAULT")
    # One connection for both: each costs a test 7 ms. A superuser's: at the end other roles may be
    # connected, and Postgres' own clean-up.
    with psycopg.connect(as_superuser(postgres_url), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER {owner} {how}")
        try:
            yield with_database(postgres_url, name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    with a_database(postgres_url, template) as url:
        yield url
