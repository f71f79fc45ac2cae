"""Applying migrations, by Alembic. Imported by `schema.migrate`, and only if there is any."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from parley_server.storage.schema.reaching import NO_LIMITS, UnsafeDatabase

LOCK_TIMEOUT = "5s"
"""How long a migration waits for a table that is in use."""
STATEMENT_TIMEOUT = "15min"
"""How long each of its statements may take, and how long it waits for another migration."""
_ADVISORY_LOCK = 0x7061726C6579  # "parley"

_ADVICE = {
    "3F000": "the search_path names no schema that exists: create one, or correct the role's",
    "25006": "the database accepts no writes: name the primary, or wait for the failover",
    "40P01": "a table was in use: run the command again",
    "42501": "name the role that owns the tables in PARLEY_MIGRATE_DATABASE_URL",
    "42P07": "it has tables of the same names that are not Parley's: create a database for Parley",
    "55P03": "a table was in use for more than 5 s: run the command again later",
}
"""How to fix a failed migration, by SQLSTATE."""


def migrate(url: str) -> list[str]:
    """Do what `schema.migrate` says.

    Raises: UnsafeDatabase.
    """
    with changing(url) as connection:
        config = _alembic_config()
        config.attributes["connection"] = connection
        before = _current(connection)
        try:
            command.upgrade(config, "head")
        except CommandError:
            raise UnsafeDatabase(
                f"nothing was migrated: the table alembic_version is another application's, or of "
                f"a later release ({before}): create a database for Parley"
            ) from None
        applied = ScriptDirectory.from_config(config).iterate_revisions("head", before)
        return [revision.revision for revision in applied][::-1]


@contextmanager
def changing(url: str) -> Iterator[sqlalchemy.Connection]:
    """Change the schema inside the block, all or nothing, one process at a time.

    Raises: UnsafeDatabase: it cannot be done.
    """
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        # libpq reads the URL, as everywhere: SQLAlchemy knows no several or encoded hosts.
        creator=lambda: psycopg.connect(url),
    )
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(NO_LIMITS)
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
            connection.execute(
                sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_ADVISORY_LOCK))
            )
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            yield connection
    except sqlalchemy.exc.DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        name = type(error.orig).__name__
        advice = _ADVICE.get(state or "", "see the database's log")
        raise UnsafeDatabase(f"nothing was migrated ({name} {state}): {advice}") from None
    finally:
        engine.dispose()


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _current(connection: sqlalchemy.Connection) -> str:
    """Return the database's revision; "base" for an empty one."""
    return MigrationContext.configure(connection).get_current_revision() or "base"
