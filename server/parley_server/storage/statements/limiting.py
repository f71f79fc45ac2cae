"""What an owner may do: looked at within the statement that opens a turn.

Turns a minute and tokens a day share one variant of each claim; a limit that is not set is null.

Claims that are carried out at the same moment do not see each other's turns. So an owner may get
past the limit by as many turns as claims can be under way at once, and by no more: a claim that
begins after that sees them all. A lock on the owner instead would have all its conversations
wait for the one that is busy (decision 0014).

Tokens are counted when an attempt ends. So an owner may get past its budget by what the turns use
that are open then, one for each conversation (decision 0026).
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    DateTime,
    Integer,
    Interval,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)

from parley_server.storage.schema.tables import turn, usage_day
from parley_server.storage.statements.counting import TODAY
from parley_server.storage.statements.parts import OWNER

_MAX_TURNS = bindparam("max_turns", type_=Integer)
_MAX_TOKENS = bindparam("max_tokens", type_=BigInteger)
_MINUTE = literal_column("interval '1 minute'", Interval)
_FIRST_ID = literal_column(
    "rpad(lpad(to_hex((extract(epoch FROM now() - interval '2 minutes') * 1000)::bigint),"
    " 12, '0'), 32, '0')::uuid",
    Uuid,
)
"""The least UUIDv7 of two minutes ago: it begins with that time in ms."""


def crowd() -> CTE:
    """One row, `until` when the owner has to wait, if it has opened `max_turns` within a minute.

    Ids rise with time, so the key leads to the newest turns. Workers make them, whose clocks may be
    a minute late; which of those turns count is decided by the database's clock.
    """
    return (
        select((turn.c.create_time + _MINUTE).label("until"))
        .where(turn.c.owner_id == OWNER, turn.c.id >= _FIRST_ID)
        .where(turn.c.create_time > func.now() - _MINUTE, _MAX_TURNS.is_not(None))
        .order_by(turn.c.id.desc())
        .offset(_MAX_TURNS - literal_column("1", Integer))
        .limit(literal_column("1", Integer))
        .cte("crowd")
    )


def budget() -> CTE:
    """One row, how many tokens the owner has `used` today, if these are `max_tokens` or more.

    `until`: when the day is over. Turns that are open have used nothing yet.
    """
    used = func.sum(usage_day.c.input_tokens + usage_day.c.output_tokens)
    tomorrow = TODAY + literal_column("1", Integer)
    return (
        select(
            cast(used, BigInteger).label("used"),
            func.timezone(literal_column("'UTC'", Text), cast(tomorrow, DateTime)).label("until"),
        )
        .where(usage_day.c.owner_id == OWNER, usage_day.c.day == TODAY, _MAX_TOKENS.is_not(None))
        .having(used >= _MAX_TOKENS)
        .cte("budget")
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """The parts of a claim that say whether the owner may open another turn."""

    crowd: CTE
    budget: CTE

    def are_kept(self) -> Any:
        """Neither limit is reached."""
        return and_(_one(self.crowd.c.until).is_(None), _one(self.budget.c.used).is_(None))

    def columns(self) -> tuple[Any, ...]:
        """Return the columns of a `rows.Limited`: null for a limit that is not reached."""
        return (
            (_one(self.crowd.c.until) - func.now()).label("wait"),
            _one(self.budget.c.used).label("used_tokens"),
            (_one(self.budget.c.until) - func.now()).label("day_left"),
        )


def limits() -> Limits:
    return Limits(crowd(), budget())


def _one(of: Any) -> Any:
    """Return the value of a part's one row, as such; null: it has none."""
    return select(of).scalar_subquery()
