"""The one place that turns driver errors into domain errors, by SQLSTATE.

Not one word of the driver's is passed on: its messages, and the exceptions they hang on, hold what
was said. What is logged is the exception's type and its SQLSTATE.
"""

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from parley_server.core.errors import StoreOutcomeUnknown, StoreUnavailable

NOT_CARRIED_OUT = frozenset(
    {
        "55P03",  # lock_not_available: lock_timeout
        "57014",  # query_canceled: statement_timeout
        "40P01",  # deadlock_detected
        "40001",  # serialization_failure
        "25006",  # read_only_sql_transaction: a standby, during a failover
        "53100",  # disk_full
        "53200",  # out_of_memory
        "53300",  # too_many_connections
        "57P03",  # cannot_connect_now: starting up or shutting down
    }
)
"""The database said that it did not do it, and that it may later."""


def translated(error: BaseException) -> StoreUnavailable | None:
    """Return what a driver error means for the store, or None: it is a defect, not an outage.

    An error without SQLSTATE, or of class 08 or 57P0x, is a connection that ended: whether the
    statement was carried out is then unknown.
    """
    if isinstance(error, PoolTimeout | PoolClosed | TooManyRequests):
        return StoreUnavailable()
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate
    if state in NOT_CARRIED_OUT:
        return StoreUnavailable()
    is_connection_lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if state is None and is_connection_lost:
        return StoreOutcomeUnknown()
    if state is not None and state.startswith(("08", "57P")):
        return StoreOutcomeUnknown()
    return None
