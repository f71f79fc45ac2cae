"""A Postgres that can be killed, moved or made unreachable: behind an address that stays."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path as File

import pytest

from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import version
from support.paths import Path, to_socket
from support.standbys import folder_of


@pytest.fixture
def primary(cluster_folder: File) -> Iterator[EmbeddedPostgres]:
    """A Postgres of this test's own."""
    with EmbeddedPostgres(cluster_folder / "primary") as postgres:
        version.migrate(postgres.start())
        yield postgres


@pytest.fixture
async def path(primary: EmbeddedPostgres) -> AsyncIterator[Path]:
    """The one address of the database."""
    async with Path(to_socket(folder_of(primary.start()))).running() as path:
        yield path


def url_of(path: Path) -> str:
    return f"postgresql://parley@127.0.0.1:{path.port}/parley?sslmode=disable&gssencmode=disable"
