"""Bringing a database's schema up to date, and knowing whether a worker may use it."""

from typing import Any

from psycopg import Connection

from parley_server.storage.driver.connection import Statement
from parley_server.storage.driver.connections import Connections
from parley_server.storage.schema import row_security
from parley_server.storage.schema.reaching import (
    SAFE,
    WORKERS_URL,
    UnsafeDatabase,
    check_setting,
    connected,
)

SCHEMA_VERSION = 15
"""The migration that this release's statements need. It also identifies this worker: a migration
that is incompatible with older releases names the oldest compatible one."""

NO_SCHEMA = (0, 0)

_WITHOUT_LIMIT = Statement(
    "SELECT name FROM pg_settings"
    " WHERE name IN ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout')"
    " AND setting = '0' ORDER BY name"
)


def migrate(url: str, setting: str = WORKERS_URL) -> list[str]:
    """Apply what is missing, one process at a time.

    Args:
        setting: where the URL is from, for errors to name it.
    Returns: the revisions that were applied, in order; empty: it was up to date.
    Raises: DatabaseAway; UnsafeDatabase: it cannot be done as this role.
    Guarantees: all or nothing; waits no more than 5 s for a lock of a table that is in use.
    """
    with connected(url, setting) as connection:
        if _versions(connection)[0] >= SCHEMA_VERSION:
            return []
    from parley_server.storage.schema import migrating  # Alembic takes long to import

    return migrating.migrate(url)


def check(url: str, *, has_row_security: bool = False) -> None:
    """Raise UnsafeDatabase unless this worker may keep conversations in this database.

    Args:
        has_row_security: whether this worker's statements say whose they are (decision 0014).
    Raises: DatabaseAway.
    """
    with connected(url) as connection:
        for name in SAFE:
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            check_setting(name, row[0] if row else "")
        check_schema(connection)
        row_security.check(connection, is_on=has_row_security)


async def without_limit(connections: Connections) -> list[str]:
    """Return the time limits that the pool's connections lack.

    A connection pooler may drop the settings that a connection asks for at its start.
    """
    return [row[0] for row in await connections.read(_WITHOUT_LIMIT, {})]


def _versions(connection: Connection[tuple[Any, ...]]) -> tuple[int, int]:
    """Return the schema's version, and the oldest worker it is for."""
    found = connection.execute("SELECT to_regclass('parley_schema')").fetchone()
    if found is None or found[0] is None:
        return NO_SCHEMA
    row = connection.execute("SELECT version, oldest_worker FROM parley_schema").fetchone()
    return (row[0], row[1]) if row else NO_SCHEMA


def check_schema(connection: Connection[tuple[Any, ...]]) -> None:
    """Raise UnsafeDatabase unless a database has a schema that this release may work on."""
    versions = _versions(connection)
    if versions == NO_SCHEMA:
        raise UnsafeDatabase("the database has no Parley schema: run `parley-server migrate` first")
    check_version(*versions)


def check_version(version: int, oldest_worker: int) -> None:
    """Raise UnsafeDatabase unless this release may work on a schema of this version."""
    if version < SCHEMA_VERSION:
        raise UnsafeDatabase(
            f"the database's schema is version {version}, but this release needs {SCHEMA_VERSION}: "
            "run `parley-server migrate` first"
        )
    if oldest_worker > SCHEMA_VERSION:
        raise UnsafeDatabase(
            f"the database's schema needs a release that knows version {oldest_worker}, but this "
            f"one knows only {SCHEMA_VERSION}: run a newer release"
        )
