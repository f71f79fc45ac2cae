"""The ledger of what attempts used: a row for each owner, day, agent and set of labels, in slots.

A statement that ends an attempt counts it, in a part of itself: so each is counted once, by
whatever ended it, and one that had lost its lease is not counted again (decision 0026). The row is
the last that the statement locks.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Date,
    FromClause,
    Select,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from parley_server.core.model import FailureReason
from parley_server.storage.schema.tables import turn, usage_day
from parley_server.storage.statements.feeding import FEED, fed
from parley_server.storage.statements.parts import (
    CONVERSATION,
    ONE,
    OWNER,
    ZERO,
    abandoned,
    literal,
)

TODAY: ColumnElement[Any] = literal_column("(now() AT TIME ZONE 'UTC')::date", Date)
TOKENS = ("input_tokens", "output_tokens", "cached_input_tokens", "model_requests")
"""What an attempt may have used; each is a parameter of the statements that know it."""
_KEY = ("owner_id", "day", "agent", "labels_digest", "slot")


def of_attempt(labels: Any) -> tuple[ColumnElement[Any], ...]:
    """Return what an UPDATE that ends an attempt returns for it to be counted.

    Args:
        labels: its conversation's, of the row that the statement has locked.
    """
    return turn.c.agent, turn.c.is_counted, labels.label("labels")


def ended_attempt(
    ended: FromClause,
    *where: Any,
    is_answered: bool = False,
    is_waiting: bool = False,
    has_usage: bool = False,
) -> CTE:
    """Count an attempt that this statement ends.

    Args:
        ended: its row, with what `of_attempt` says; none: the statement has ended no attempt.
        where: what must hold of that row.
        is_answered: whether the turn is answered with it; else the attempt has failed,
        is_waiting: unless the turn waits for its caller.
        has_usage: whether parameters say what it used; else that is unknown, and counts as none.
    """

    def once() -> ColumnElement[int]:
        return case((ended.c.is_counted, ZERO), else_=ONE)

    counts: dict[str, Any] = {"attempts": once()}
    if is_answered:
        counts["turns"] = ONE
    elif not is_waiting:
        counts["failed_attempts"] = once()
    if has_usage:
        counts |= {name: bindparam(name, type_=BigInteger) for name in TOKENS}
    rows = (
        select(
            OWNER,
            TODAY,
            ended.c.agent,
            _digest(ended.c.labels),
            _slot(CONVERSATION),
            ended.c.labels,
            *counts.values(),
        )
        .select_from(ended)
        .where(*where)
    )
    return _counted(rows, counts)


def failed_attempts(ended: CTE, held: CTE) -> CTE:
    """Count attempts of many conversations that this statement ends as failed.

    Args:
        ended: rows of turns: agent, is_counted, conversation_id.
        held: their conversations: id, labels.
    """
    key = (ended.c.agent, _digest(held.c.labels), _slot(ended.c.conversation_id))
    once = func.sum(case((ended.c.is_counted, ZERO), else_=ONE))
    # One row is not updated twice by a statement; those of several are locked in the same order.
    rows = (
        select(OWNER, TODAY, *key, held.c.labels, once, once)
        .select_from(ended.join(held, held.c.id == ended.c.conversation_id))
        .group_by(*key, held.c.labels)
        .order_by(*key)
    )
    return _counted(rows, ("attempts", "failed_attempts"))


def _digest(labels: Any) -> ColumnElement[Any]:
    return cast(func.md5(func.coalesce(labels, literal_column("''", Text))), Uuid)


def _slot(conversation_id: Any) -> ColumnElement[Any]:
    last_byte = func.get_byte(func.uuid_send(conversation_id), literal_column("15"))
    return last_byte.op("&")(literal_column("15"))


def _counted(rows: Select[Any], counts: Iterable[str]) -> CTE:
    counted = insert(usage_day).from_select([*_KEY, "labels", *counts], rows)
    return counted.on_conflict_do_update(
        index_elements=_KEY,
        set_={name: usage_day.c[name] + counted.excluded[name] for name in counts},
    ).cte("counted")


def overrun(held: CTE, *where: Any, feed: Any = FEED) -> tuple[CTE, CTE, CTE]:
    """Write down that the turn whose lease passed was abandoned, if another part takes its place.

    Args:
        where: what holds only then, of that part's row.
        feed: of the owner's tenant.
    Returns: the parts that say so, that count its attempt, and that leave it in the feed.
    """
    overran = (
        update(turn)
        .values(abandoned(held.c.lease_expires_at))
        # A scalar subquery uses the primary key; a join would scan every turn of the owner.
        .where(turn.c.owner_id == OWNER)
        .where(turn.c.id == select(held.c.open_turn_id).scalar_subquery())
        .where(*where)
        .returning(turn.c.id, turn.c.attempt, turn.c.end_time, *of_attempt(held.c.labels))
        .cte("overrun")
    )
    told = fed(
        overran,
        attempt=overran.c.attempt,
        error_reason=literal(FailureReason.TURN_ABANDONED),
        end_time=overran.c.end_time,
        feed=feed,
    )
    return overran, ended_attempt(overran), told
