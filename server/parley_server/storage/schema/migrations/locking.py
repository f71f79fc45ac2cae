"""Locking tables that are in use, for migrations."""

import time

from alembic import op
from sqlalchemy.exc import OperationalError

from parley_server.storage.schema.migrating import LOCK_TIMEOUT

TRIES = 20
TRY_MS = 200
"""Less than Postgres' deadlock_timeout, so that no statement of a turn is ended for a deadlock."""
PAUSE_S = 0.05


def lock_tables(*names: str) -> None:
    """Lock tables until the migration's end, whatever order statements under way lock them in.

    Each try waits a moment and then lets go of all that it has, so that turns go on in between.

    Raises: OperationalError, lock_not_available: a table is in use for longer than about 5 s.
    """
    connection = op.get_bind()
    for left in reversed(range(TRIES)):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{TRY_MS}ms'")
                connection.exec_driver_sql(f"LOCK TABLE {', '.join(names)}")
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        except OperationalError:
            if not left:
                raise
            time.sleep(PAUSE_S)
        else:
            return
