"""Finding out at start whether a pooler gives each transaction another server, and what is lost.

It is found by what it does, not by its name: two connections that are open at once have the same
process of Postgres behind them.
"""

from typing import Any

from psycopg import Connection
from psycopg.errors import InvalidSqlStatementName, OperationalError

from parley_server.storage.schema.reaching import UnsafeDatabase, connected

_ROUNDS = 10
"""Others use the pooler as well, and may take the process that is looked for."""
_PID = "SELECT pg_backend_pid()"
_POOLER = "PARLEY_DATABASE_URL leads through a connection pooler in transaction mode, which loses"


def check(url: str, *, is_prepared: bool, listens: bool) -> None:
    """Raise UnsafeDatabase if a pooler would lose what this worker is set to use.

    Args:
        is_prepared: whether it prepares statements.
        listens: whether it waits for notifications.
    Raises: DatabaseAway.
    """
    if not (is_prepared or listens):
        return
    with connected(url) as one:
        if _pid(one) == one.info.backend_pid:
            return  # as Postgres itself has said when it was connected to: nothing is in between
        with connected(url) as other:
            if not _share(one, other):
                return
            if listens:
                raise UnsafeDatabase(
                    f"{_POOLER} notifications: set PARLEY_NOTIFY=poll, or go by session mode"
                )
            if not _keeps_prepared(one, other):
                raise UnsafeDatabase(
                    f"{_POOLER} prepared statements: set PARLEY_DB_PREPARE=0, or go by session mode"
                )


def _pid(connection: Connection[tuple[Any, ...]]) -> int:
    """Return the process of Postgres that answers."""
    row = connection.execute(_PID, prepare=False).fetchone()
    return int(row[0]) if row else 0


def _share(one: Connection[tuple[Any, ...]], other: Connection[tuple[Any, ...]]) -> bool:
    """Whether a process answers both connections."""
    seen: tuple[set[int], set[int]] = (set(), set())
    for _ in range(_ROUNDS):
        seen[0].add(_pid(one))
        seen[1].add(_pid(other))
        if seen[0] & seen[1]:
            return True
    return False


def _keeps_prepared(one: Connection[tuple[Any, ...]], other: Connection[tuple[Any, ...]]) -> bool:
    """Whether a prepared statement is there after another connection has taken the process."""
    for _ in range(_ROUNDS):
        try:
            row = one.execute(_PID, prepare=True).fetchone()
            with other.transaction():
                if row is not None and row[0] == _pid(other):
                    one.execute(_PID, prepare=True)
                    return True
        except (InvalidSqlStatementName, OperationalError):
            return False
    return True
