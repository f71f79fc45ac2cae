"""How many turns an owner may open a minute: counted within the statement that opens one.

Claims that are carried out at the same moment do not see each other's turns. So an owner may get
past the limit by as many turns as claims can be under way at once, and by no more: a claim that
begins after that sees them all. A lock on the owner instead would have all its conversations
wait for the one that is busy (decision 0014).
"""

from typing import Any

from sqlalchemy import (
    CTE,
    Integer,
    Interval,
    Uuid,
    bindparam,
    func,
    literal_column,
    select,
)

from parley_server.storage.schema.tables import turn
from parley_server.storage.statements.parts import OWNER

_MAX_TURNS = bindparam("max_turns", type_=Integer)
_MINUTE = literal_column("interval '1 minute'", Interval)
_FIRST_ID = literal_column(
    "rpad(lpad(to_hex((extract(epoch FROM now() - interval '2 minutes') * 1000)::bigint),"
    " 12, '0'), 32, '0')::uuid",
    Uuid,
)
"""The least UUIDv7 of two minutes ago: it begins with that time in ms."""


def recent_turns() -> CTE:
    """One row, `until` when the owner has to wait, if it has opened `max_turns` within a minute.

    Ids rise with time, so the key leads to the newest turns. Workers make them, whose clocks may be
    a minute late; which of those turns count is decided by the database's clock.
    """
    return (
        select((turn.c.create_time + _MINUTE).label("until"))
        .where(turn.c.owner_id == OWNER, turn.c.id >= _FIRST_ID)
        .where(turn.c.create_time > func.now() - _MINUTE)
        .order_by(turn.c.id.desc())
        .offset(_MAX_TURNS - literal_column("1", Integer))
        .limit(literal_column("1", Integer))
        .cte("crowd")
    )


def is_below_limit(of: CTE) -> Any:
    return select(of.c.until).scalar_subquery().is_(None)


def wait(of: CTE) -> Any:
    """How long the owner has to wait; null: it need not."""
    return select(of.c.until - func.now()).scalar_subquery()
