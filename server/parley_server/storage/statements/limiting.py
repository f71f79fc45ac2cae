"""What an owner may do: looked at within the statement that opens a turn.

Turns a minute, tokens a day, and tokens a day with one agent share one variant of each claim; a
limit that is not set is null.

Claims that are carried out at the same moment do not see each other's turns. So an owner may get
past the limit by as many turns as claims can be under way at once, and by no more: a claim that
begins after that sees them all. A lock on the owner instead would have all its conversations
wait for the one that is busy (decision 0014).

Tokens are counted when an attempt ends. So an owner may get past its budget by what the turns use
that are open then, one for each conversation (decision 0026). The same holds for the budget of an
agent. Which one that is may be the conversation's choice: so all budgets go along (decision 0033).
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    Integer,
    Interval,
    Select,
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
from parley_server.storage.statements.parts import EMPTY, OWNER

_MAX_TURNS = bindparam("max_turns", type_=Integer)
_MAX_TOKENS = bindparam("max_tokens", type_=BigInteger)
_AGENT_BUDGETS = bindparam("agent_budgets", type_=Text)
"""A JSON object: tokens a day by agent, of those that have a budget."""
_DEFAULT_AGENT = bindparam("default_agent", type_=Text)
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


_USED: ColumnElement[int] = cast(
    func.sum(usage_day.c.input_tokens + usage_day.c.output_tokens), BigInteger
)
_IS_TODAYS = (usage_day.c.owner_id == OWNER, usage_day.c.day == TODAY)
_MIDNIGHT = func.timezone(
    literal_column("'UTC'", Text), cast(TODAY + literal_column("1", Integer), DateTime)
)


def budget() -> CTE:
    """One row, how many tokens the owner has `used` today, if these are `max_tokens` or more.

    `until`: when the day is over. Turns that are open have used nothing yet.
    """
    return (
        select(_USED.label("used"), _MIDNIGHT.label("until"))
        .where(*_IS_TODAYS, _MAX_TOKENS.is_not(None))
        .having(_USED >= _MAX_TOKENS)
        .cte("budget")
    )


def agent_budget(agent: Select[Any]) -> CTE:
    """One row, how many tokens the owner has `used` today with an agent, if it may use no more.

    `most`: its budget, `agent`: its name; `until`: as of `budget`. Turns that were given to the
    default agent count as those that name it.
    """
    chosen = agent.cte("chosen")
    name = _named(chosen.c.agent)
    most = cast(cast(_AGENT_BUDGETS, JSON).op("->>")(name), BigInteger)
    allowed = select(name.label("agent"), most.label("most")).select_from(chosen).cte("allowed")
    return (
        select(
            _USED.label("used"),
            _one(allowed.c.most).label("most"),
            _one(allowed.c.agent).label("agent"),
            _MIDNIGHT.label("until"),
        )
        .where(*_IS_TODAYS, _AGENT_BUDGETS.is_not(None))
        .where(_named(usage_day.c.agent) == _one(allowed.c.agent))
        .having(_one(allowed.c.most) <= _USED)
        .cte("agent_budget")
    )


def _named(agent: Any) -> ColumnElement[str]:
    return func.coalesce(func.nullif(agent, EMPTY), _DEFAULT_AGENT, type_=Text)


@dataclass(frozen=True, slots=True)
class Limits:
    """The parts of a claim that say whether the owner may open another turn."""

    crowd: CTE
    budget: CTE
    agent_budget: CTE

    def are_kept(self) -> Any:
        """No limit is reached."""
        return and_(
            _one(self.crowd.c.until).is_(None),
            _one(self.budget.c.used).is_(None),
            _one(self.agent_budget.c.used).is_(None),
        )

    def columns(self) -> tuple[Any, ...]:
        """Return the columns of a `rows.Limited`: null for a limit that is not reached."""
        return (
            (_one(self.crowd.c.until) - func.now()).label("wait"),
            _one(self.budget.c.used).label("used_tokens"),
            (
                func.coalesce(
                    _one(self.budget.c.until),
                    _one(self.agent_budget.c.until),
                    type_=DateTime(timezone=True),
                )
                - func.now()
            ).label("day_left"),
            _one(self.agent_budget.c.used).label("agent_used_tokens"),
            _one(self.agent_budget.c.most).label("agent_max_tokens"),
            _one(self.agent_budget.c.agent).label("agent"),
        )


def limits(agent: Select[Any]) -> Limits:
    """Return the limits of an owner.

    Args:
        agent: one row, whom the turn is given to, as `agent`; empty: the default agent.
    """
    return Limits(crowd(), budget(), agent_budget(agent))


def _one(of: Any) -> Any:
    """Return the value of a part's one row, as such; null: it has none."""
    return select(of).scalar_subquery()
