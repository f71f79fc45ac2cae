"""The feed of turns: rows that the statements which end attempts leave, and how they are read.

A row has the id of the transaction that wrote it. Only rows of transactions below the oldest one
that is under way are told: none can appear among them later (decision 0030).
"""

from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    Interval,
    Select,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    tuple_,
    union_all,
    update,
)

from parley_server.storage.schema.tables import conversation, feed_state, turn, turn_feed
from parley_server.storage.statements.parts import LIMIT, OWNER, TENANT, ZERO, compiled, is_any
from parley_server.storage.statements.reading import turn_as_read

FEED = bindparam("feed", type_=Uuid)
"""The feed of the owner's tenant; null: no feed is kept."""
_ONE = literal_column("1", Integer)
_KEEP = cast(bindparam("keep", type_=Interval), Interval)
_HORIZON: ColumnElement[int] = literal_column(
    "pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger
)
"""Each transaction below it is over, and its rows are seen or never will be."""
_NEXT: ColumnElement[int] = literal_column(
    "pg_snapshot_xmax(pg_current_snapshot())::text::bigint", BigInteger
)
_XID: ColumnElement[int] = literal_column("pg_current_xact_id()::text::bigint", BigInteger)


def fed(
    ended: FromClause,
    *where: Any,
    attempt: Any,
    error_reason: Any = None,
    end_time: Any = None,
    feed: Any = FEED,
    is_waiting: bool = False,
    name: str = "fed",
) -> CTE:
    """Leave a row in the feed for an attempt that this statement ends.

    Args:
        ended: its turn's row, with its id; none: the statement has ended no attempt.
        where: what must hold of that row.
        error_reason: of an attempt that failed.
        end_time: when it ended; None: now.
        feed: of the owner's tenant; null: no feed is kept.
        is_waiting: whether it ended because its turn waits for its caller.
        name: of this part, if a statement has more than one.
    """
    row = {
        "owner_id": OWNER,
        "xid": _XID,
        "turn_id": ended.c.id,
        "tenant": feed,
        "attempt": attempt,
        "error_reason": null() if error_reason is None else error_reason,
        "end_time": func.now() if end_time is None else end_time,
    }
    if is_waiting:
        row["is_waiting"] = true()
    found = select(*row.values()).select_from(ended).where(feed.is_not(None), *where)
    return insert(turn_feed).from_select(list(row), found).cte(name)


def _feed(*of: Any) -> Executable:
    """Read what comes behind a place. The state is in each row; with nothing behind, in one.

    Rows at and above the horizon are read as well: something is about to be told.
    """
    place = tuple_(bindparam("after_xid", type_=BigInteger), bindparam("after_turn", type_=Uuid))
    page = (
        select(
            turn_feed.c.owner_id,
            turn_feed.c.xid,
            turn_feed.c.turn_id,
            turn_feed.c.attempt,
            turn_feed.c.error_reason,
            turn_feed.c.end_time,
            turn_feed.c.is_waiting,
        )
        .where(*of, tuple_(turn_feed.c.xid, turn_feed.c.turn_id) > place)
        .where(turn_feed.c.create_time >= select(feed_state.c.begin_time).scalar_subquery())
        .order_by(turn_feed.c.xid, turn_feed.c.turn_id)
        .limit(LIMIT)
        .subquery("page")
    )
    return (
        select(
            feed_state.c.epoch,
            feed_state.c.removed_xid,
            _HORIZON.label("horizon"),
            _NEXT.label("next_xid"),
            page,
        )
        .select_from(feed_state.outerjoin(page, true()))
        .order_by(page.c.xid, page.c.turn_id)
    )


def _fed_turns() -> Select[Any]:
    """Read turns of an owner, and their users, if their conversations have all of some labels."""
    ids = (
        func.json_array_elements_text(cast(bindparam("turns", type_=Text), JSON))
        .table_valued(column("id", Text))
        .render_derived(name="ids")
    )
    wanted = (
        func.json_each_text(cast(bindparam("labels", type_=Text), JSON))
        .table_valued(column("key", Text), column("value", Text))
        .render_derived(name="wanted")
    )
    has = cast(conversation.c.labels, JSON).op("->>", return_type=Text)(wanted.c.key)
    return turn_as_read(
        turn.c.id.in_(select(cast(ids.c.id, Uuid))),
        conversation.c.tenant_id == TENANT,
        ~exists().select_from(wanted).where(has.is_distinct_from(wanted.c.value)),
        with_text=False,
    ).add_columns(conversation.c.user_id)


def _tenants() -> CTE:
    """Find the tenants that have rows, one after the other in their index."""
    first = select(turn_feed.c.tenant).order_by(turn_feed.c.tenant).limit(_ONE).scalar_subquery()
    tenants = select(first.label("tenant")).cte("tenants", recursive=True)
    following = turn_feed.alias("following")
    after = (
        select(following.c.tenant)
        .where(following.c.tenant > tenants.c.tenant)
        .order_by(following.c.tenant)
        .limit(_ONE)
        .scalar_subquery()
    )
    return tenants.union_all(select(after).where(tenants.c.tenant.is_not(None)))


def _end_of_feed(tenants: CTE, *, is_last: bool, older_than: Any, name: str) -> Select[Any]:
    """Lock those rows at one end of each tenant's feed that are older than a time.

    Only so many are looked at as may be removed, and only if the very first of them is older:
    looking must not cost more, the more rows there are. What another worker removes is left to it.
    """

    def from_end(alias: str) -> Any:
        row = turn_feed.alias(f"{name}_{alias}")
        order = row.c.xid.desc() if is_last else row.c.xid
        return row, select().where(row.c.tenant == tenants.c.tenant).order_by(order)

    first, of_first = from_end("first")
    at_end = of_first.add_columns(first.c.create_time).limit(_ONE).correlate(tenants)
    looked_at, of_looked_at = from_end("looked_at")
    some = (
        of_looked_at.add_columns(looked_at.c.xid)
        .limit(LIMIT)
        .correlate(tenants)
        .subquery(f"{name}_some")
    )
    row, of_row = from_end("row")
    bound = (
        row.c.xid >= select(func.min(some.c.xid)).scalar_subquery()
        if is_last
        else row.c.xid <= select(func.max(some.c.xid)).scalar_subquery()
    )
    found = (
        of_row.add_columns(literal_column(f"{row.name}.ctid").label("place"))
        .where(at_end.scalar_subquery() < older_than, bound, row.c.create_time < older_than)
        .limit(LIMIT)
        .with_for_update(skip_locked=True)
        .lateral(name)
    )
    return select(found.c.place).select_from(tenants.join(found, true()))


def _trim() -> Executable:
    """Remove the next rows that are older than they are kept. One row, how many.

    Rows of another server, which are told no more, may have higher transaction ids than this one
    has reached: they are removed from the other end, and say nothing of this server's cursors.
    """
    tenants = _tenants()
    begin_time = select(feed_state.c.begin_time).scalar_subquery()
    oldest = _end_of_feed(tenants, is_last=False, older_than=func.now() - _KEEP, name="oldest")
    strange = _end_of_feed(tenants, is_last=True, older_than=begin_time, name="strange")
    old = union_all(oldest, strange).limit(LIMIT).cte("old")
    gone = (
        delete(turn_feed)
        .where(is_any(literal_column("turn_feed.ctid"), select(old.c.place)))
        .returning(turn_feed.c.xid, turn_feed.c.create_time)
        .cte("gone")
    )
    is_off = literal_column("interval '0'", Interval) == _KEEP
    last_gone = (
        select(func.max(gone.c.xid)).where(gone.c.create_time >= begin_time).scalar_subquery()
    )
    # With no feed kept, all that ends from here on is missing as well.
    reached = case((is_off, _HORIZON), else_=func.coalesce(last_gone, ZERO))
    noted = (
        update(feed_state)
        .values(removed_xid=reached)
        .where(feed_state.c.removed_xid < reached)
        .cte("noted")
    )
    return select(func.count()).select_from(gone).add_cte(noted)


def _settle() -> Executable:
    """Change nothing, in a commit that waits for the disk, and for a synchronous standby.

    What was written before it is there then as well. Of transactions that nobody waited for, a
    crash may forget even the ids, and Postgres gives them out again.
    """
    return update(feed_state).values(removed_xid=feed_state.c.removed_xid)


def _adopt() -> Executable:
    """Begin another epoch if this is not the server that the feed was written on.

    Returned is which one that was; NULL: none, the feed is new.
    """
    system = select(literal_column("system_identifier", BigInteger)).select_from(
        func.pg_control_system()
    )
    before = feed_state.alias("before")
    return (
        update(feed_state)
        .values(
            epoch=bindparam("epoch", type_=Uuid),
            system_identifier=system.scalar_subquery(),
            begin_time=func.now(),
            removed_xid=ZERO,
        )
        .where(feed_state.c.system_identifier.is_distinct_from(system.scalar_subquery()))
        # A subquery sees the row as it was before the update.
        .returning(select(before.c.system_identifier).scalar_subquery())
    )


FEED_OF_OWNER = compiled(_feed(turn_feed.c.owner_id == OWNER))
"""Read what comes next in the feed of an owner, and how far it is safe to tell."""
FEED_OF_TENANT = compiled(_feed(turn_feed.c.tenant == FEED))
"""Read what comes next in the feed of a tenant, and how far it is safe to tell."""
FED_TURNS = compiled(_fed_turns())
"""Read turns that the feed has told of, as they stand now."""
TRIM_FEED = compiled(_trim())
"""Remove rows of the feed that are older than they are kept, of any owner."""
SETTLE_FEED = compiled(_settle())
"""Have what was read of the feed outlive a crash of the database."""
ADOPT_FEED = compiled(_adopt())
"""Begin the feed anew on another server than the one that it was written on."""
