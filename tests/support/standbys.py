"""A streaming standby of an embedded Postgres, as real as its primary."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from parley_server.storage.embedded import postgres as embedded
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.databases import as_superuser


def folder_of(url: str) -> str:
    """Return the folder of an embedded server's socket."""
    return parse_qs(urlsplit(url).query)["host"][0]


@contextmanager
def a_standby(primary_url: str, data_dir: Path) -> Iterator[str]:
    """Copy a running primary and stream from it. Yields: the standby's URL."""
    copy = data_dir / "postgres" / "data"
    copy.mkdir(mode=0o700, parents=True)
    with psycopg.connect(as_superuser(primary_url)) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        source = Path(row[0]).stat()
    shutil.chown(copy, source.st_uid, source.st_gid)
    where = f"--dbname=postgresql://postgres@/?host={folder_of(primary_url)}&port=5432"
    with (data_dir / "backup.log").open("ab") as log:
        backup = embedded._spawn(  # noqa: SLF001 - a copy is made as the cluster itself is: as its owner
            "pg_basebackup", copy, [where, "--write-recovery-conf", "--checkpoint=fast"], log
        )
        assert 0 == backup.wait(60), (data_dir / "backup.log").read_text()
    with EmbeddedPostgres(data_dir) as standby:
        yield standby.start()


def promote(url: str) -> None:
    """Make a standby a primary, and wait until it is."""
    with psycopg.connect(as_superuser(url), autocommit=True) as connection:
        connection.execute("SELECT pg_promote(true, 30)")
