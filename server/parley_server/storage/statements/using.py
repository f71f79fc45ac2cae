"""Statements that read what turns used."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    Executable,
    Text,
    bindparam,
    case,
    cast,
    column,
    exists,
    func,
    literal_column,
    select,
)

from parley_server.storage.schema.tables import usage_day
from parley_server.storage.statements.counting import TODAY
from parley_server.storage.statements.parts import LIMIT, OWNER, compiled

_NOTHING = literal_column("''", Text)
_MOST_REQUESTS = literal_column("2147483647", BigInteger)
"""What the contract has room for."""


def _usage() -> Executable:
    """Read the sums, by day and what else is asked for.

    Days without an attempt have no row.
    """
    last = func.coalesce(cast(bindparam("last_day", type_=Date), Date), TODAY)
    first = func.coalesce(
        cast(bindparam("first_day", type_=Date), Date), last - literal_column("30")
    )
    by_agent = cast(bindparam("by_agent", type_=Boolean), Boolean)
    by_label = bindparam("by_label", type_=Text)
    labels = cast(usage_day.c.labels, JSON)
    agent = case((by_agent, usage_day.c.agent), else_=_NOTHING)
    value = func.coalesce(labels.op("->>", return_type=Text)(by_label), _NOTHING)
    wanted = (
        func.json_each_text(cast(bindparam("labels", type_=Text), JSON))
        .table_valued(column("key", Text), column("value", Text))
        .alias("wanted")
    )
    is_missing = labels.op("->>", return_type=Text)(wanted.c.key).is_distinct_from(wanted.c.value)

    def total(name: str) -> Any:
        return cast(func.sum(usage_day.c[name]), BigInteger)

    return (
        select(
            usage_day.c.day,
            agent.label("agent"),
            value.label("label_value"),
            total("input_tokens"),
            total("output_tokens"),
            total("cached_input_tokens"),
            func.least(total("model_requests"), _MOST_REQUESTS),
            total("turns"),
            total("attempts"),
            total("failed_attempts"),
        )
        .where(usage_day.c.owner_id == OWNER)
        .where(usage_day.c.day >= first, usage_day.c.day <= last)
        .where(~exists().select_from(wanted).where(is_missing))
        .group_by(usage_day.c.day, literal_column("2"), literal_column("3"))
        .order_by(usage_day.c.day, literal_column("2"), literal_column("3"))
        .limit(LIMIT)
    )


GET_USAGE = compiled(_usage())
"""Read what an owner's turns used, by day and, if asked for, by agent and label."""
