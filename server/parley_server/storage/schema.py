"""Bringing a database's schema up to date, and knowing whether a worker may use it."""

from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

SCHEMA_VERSION = 2
"""The migration that this release's statements need. Also this worker's own number: a migration
that older releases cannot live with names the oldest that can."""

_ADVISORY_LOCK = 0x7061726C6579  # "parley"


class UnsafeDatabase(Exception):
    """This database cannot keep Parley's promises, or has a schema that is not for this release.

    Its text is one sentence that says what to do.
    """


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def migrate(url: str) -> list[str]:
    """Apply what is missing, one process at a time.

    Returns: the revisions that were applied, in order; empty: it was up to date.
    Guarantees: all or nothing; waits no more than 5 s for a lock of a table that is in use.
    """
    engine = sqlalchemy.create_engine(
        sqlalchemy_url(url),
        connect_args={"options": "-c statement_timeout=15min"},
    )
    try:
        with engine.begin() as connection:
            connection.execute(
                sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_ADVISORY_LOCK))
            )
            connection.execute(sqlalchemy.text("SET LOCAL lock_timeout = '5s'"))
            config = alembic_config()
            config.attributes["connection"] = connection
            before = _current(connection)
            command.upgrade(config, "head")
            applied = ScriptDirectory.from_config(config).iterate_revisions("head", before)
            return [revision.revision for revision in applied][::-1]
    finally:
        engine.dispose()


def _current(connection: sqlalchemy.Connection) -> str:
    """Return the database's revision; "base" for an empty one."""
    return MigrationContext.configure(connection).get_current_revision() or "base"


def sqlalchemy_url(url: str) -> str:
    """Return a libpq URL as SQLAlchemy wants it."""
    return "postgresql+psycopg://" + url.split("://", 1)[1]


def check(url: str) -> None:
    """Raise UnsafeDatabase unless this worker may keep conversations in this database.

    Raises: psycopg.OperationalError: it cannot be reached.
    """
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
        if connection.info.server_version < 150000:
            raise UnsafeDatabase("Parley needs PostgreSQL 15 or newer: upgrade the database")
        for name, is_safe in (
            ("fsync", {"on"}),
            ("full_page_writes", {"on"}),
            ("synchronous_commit", {"on", "remote_apply"}),
        ):
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            if row is None or row[0] not in is_safe:
                raise UnsafeDatabase(
                    f"the database has {name} = {row and row[0]}, which loses answers that were "
                    f"given: set it to on"
                )
        is_there = connection.execute("SELECT to_regclass('parley_schema')").fetchone()
        if is_there is None or is_there[0] is None:
            raise UnsafeDatabase(
                "the database has no Parley schema: run `parley-server migrate` first"
            )
        row = connection.execute("SELECT version, oldest_worker FROM parley_schema").fetchone()
        check_version(*(row or (0, 0)))


def check_version(version: int, oldest_worker: int) -> None:
    """Raise UnsafeDatabase unless this release may work on a schema of this version."""
    if version < SCHEMA_VERSION:
        raise UnsafeDatabase(
            f"the database's schema is version {version} and this release needs {SCHEMA_VERSION}: "
            "run `parley-server migrate` first"
        )
    if oldest_worker > SCHEMA_VERSION:
        raise UnsafeDatabase(
            f"the database's schema is for releases that know version {oldest_worker} and this one "
            f"knows {SCHEMA_VERSION}: run a newer release"
        )
