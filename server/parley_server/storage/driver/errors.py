"""The one place that turns driver errors into domain errors, by SQLSTATE.

Not one word of the driver's is passed on: its messages, and the exceptions they hang on, hold what
was said. What is logged is the exception's type and its SQLSTATE.
"""

from dataclasses import dataclass

import psycopg

from parley_server.core.errors import StoreOutcomeUnknown, StoreUnavailable
from parley_server.storage.driver.pool import NoConnection

READ_ONLY = "25006"
"""read_only_sql_transaction: a standby, or a database that is set to be read only"""
STATEMENT_TIMEOUT = "57014"
"""query_canceled: statement_timeout"""
NOT_CARRIED_OUT = frozenset(
    {
        "55P03",  # lock_not_available: lock_timeout
        STATEMENT_TIMEOUT,
        "40P01",  # deadlock_detected
        "40001",  # serialization_failure
        "25P03",  # idle_in_transaction_session_timeout: the worker was frozen between statements
        READ_ONLY,
        "53100",  # disk_full
        "53200",  # out_of_memory
        "53300",  # too_many_connections
        "57P03",  # cannot_connect_now: starting up or shutting down
    }
)
"""The database said that it did not do it, and that it may later."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a driver error means for the store."""

    error: StoreUnavailable
    is_lost: bool = False
    """Whether the connection is not good for its work any more, and hardly its siblings."""
    is_passing: bool = True
    """Whether the same statement may go better soon."""


def meaning_of(error: BaseException) -> Meaning | None:
    """Return what a driver error means for the store, or None: it is a defect, not an outage.

    An error without SQLSTATE, or of class 08 or 57P0x, is a connection that ended: whether the
    statement was carried out is then unknown.
    """
    if isinstance(error, NoConnection):
        return Meaning(StoreUnavailable(), is_passing=False)  # it has waited for one already
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate
    if state in NOT_CARRIED_OUT:
        return Meaning(
            StoreUnavailable(),
            is_lost=state == READ_ONLY,
            is_passing=state != STATEMENT_TIMEOUT,  # it would be as slow again
        )
    is_ended = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if (state is None and is_ended) or (state or "").startswith(("08", "57P")):
        return Meaning(StoreOutcomeUnknown(), is_lost=True)
    return None
