"""Statements that read conversations themselves, without what was said in them."""

from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    DateTime,
    Executable,
    FromClause,
    Integer,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from parley_server.storage.schema.tables import conversation, conversation_label
from parley_server.storage.statements.parts import (
    IS_IT,
    IS_THERE,
    LIMIT,
    OWNER,
    compiled,
    is_open,
)

LOOKED_AT = 1001
"""How many conversations with a label one page looks at. One with fewer is listed on one walk."""

_ONE = literal_column("1", Integer)
_LABELS = bindparam("labels", type_=Text)
_AFTER = tuple_(
    func.coalesce(
        bindparam("after_time", type_=DateTime(timezone=True)),
        literal_column("'infinity'::timestamptz"),
    ),
    func.coalesce(
        bindparam("after_id", type_=Uuid),
        literal_column("'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid"),
    ),
)
_SINCE = func.coalesce(
    bindparam("updated_after", type_=DateTime(timezone=True)),
    literal_column("'epoch'::timestamptz"),
)
"""Deleted conversations are at this end of the index, and behind it."""


def conversation_columns(
    *, with_instructions: bool, of: FromClause = conversation
) -> tuple[ColumnElement[Any], ...]:
    """Return what `rows.conversation` reads.

    Args:
        of: the conversation, or a part of the statement that returns `stored_columns`.
    """
    return (
        of.c.id,
        of.c.title,
        of.c.create_time,
        of.c.update_time,
        of.c.last_sequence,
        of.c.preview,
        case((is_open(of), of.c.open_turn_id)).label("open_turn_id"),
        of.c.labels,
        (of.c.instructions if with_instructions else null()).label("instructions"),
        of.c.revision,
        of.c.forked_from_id,
        of.c.forked_from_sequence,
        of.c.agent,
    )


def stored_columns() -> tuple[ColumnElement[Any], ...]:
    """Return what a statement that changes a conversation returns of it for `conversation_columns`.

    Whether its turn is open depends on the time, for which a sharded database lets no RETURNING ask
    (decision 0039).
    """
    names = (
        "id",
        "title",
        "create_time",
        "update_time",
        "last_sequence",
        "preview",
        "open_turn_id",
        "lease_expires_at",
        "labels",
        "instructions",
        "revision",
        "forked_from_id",
        "forked_from_sequence",
        "agent",
    )
    return tuple(conversation.c[name] for name in names)


def _in_list(time: Any, identity: Any) -> tuple[Any, ...]:
    """Which rows are on a page, in the order of lists."""
    return (time > _SINCE, tuple_(time, identity) < _AFTER)


def _conversations() -> Executable:
    time, identity = conversation.c.update_time, conversation.c.id
    return (
        select(*conversation_columns(with_instructions=False))
        # A worker of the release before may have had a turn in one that is deleted.
        .where(conversation.c.owner_id == OWNER, IS_THERE, *_in_list(time, identity))
        .order_by(time.desc(), identity.desc())
        .limit(LIMIT)
    )


def _conversations_by_labels() -> Executable:
    """Walk the index of a label that few conversations have, if one is; look for the others.

    The walk ends with the page, or after LOOKED_AT conversations, of which the last one is returned
    whether it matches or not, so that the next page begins there.
    """
    wanted = (
        func.json_each_text(cast(_LABELS, JSON))
        .table_valued(column("key", Text), column("value", Text))
        .render_derived(name="wanted")
    )
    some = conversation_label.alias("some")
    # A row for a label that many conversations have.
    common = (
        select(_ONE.label("one"))
        .where(some.c.owner_id == OWNER)
        .where(some.c.key == wanted.c.key, some.c.value == wanted.c.value)
        .offset(literal_column(str(LOOKED_AT - 1), Integer))
        .limit(_ONE)
        .lateral("common")
    )
    # Joined, so that each part reads a table of the owner's (decision 0039).
    rarest = (
        select(wanted.c.key, wanted.c.value)
        .select_from(wanted.outerjoin(common, true()))
        .order_by(common.c.one.nulls_first())
        .limit(_ONE)
        .cte("rarest")
    )

    listed = conversation_label.alias("listed")
    order = listed.c.update_time.desc(), listed.c.conversation_id.desc()
    walked = (
        select(
            listed.c.update_time,
            listed.c.conversation_id,
            # By ROWS: before 16, the default frame reads one more, which might have the same place.
            func.row_number().over(order_by=order, rows=(None, 0)).label("number"),
        )
        .where(listed.c.owner_id == OWNER)
        .where(listed.c.key == select(rarest.c.key).scalar_subquery())
        .where(listed.c.value == select(rarest.c.value).scalar_subquery())
        .where(*_in_list(listed.c.update_time, listed.c.conversation_id))
        .order_by(*order)
        .limit(literal_column(str(LOOKED_AT), Integer))
        .subquery("walked")
    )
    is_last = walked.c.number == literal_column(str(LOOKED_AT), Integer)
    found = (
        select(*conversation_columns(with_instructions=False))
        .where(conversation.c.owner_id == OWNER, conversation.c.id == walked.c.conversation_id)
        .where(IS_THERE)
        .where(cast(conversation.c.labels, JSONB).contains(cast(_LABELS, JSONB)))
        # One at a time, in the order of the walk, which may end early: never all of the table.
        .limit(_ONE)
        .lateral("found")
    )
    return (
        select(walked.c.update_time, walked.c.conversation_id, is_last.label("is_last"), *found.c)
        .select_from(walked.outerjoin(found, true()))
        .where(or_(found.c.id.is_not(None), is_last))
        .order_by(walked.c.update_time.desc(), walked.c.conversation_id.desc())
        .limit(LIMIT)
    )


GET_CONVERSATION = compiled(
    select(*conversation_columns(with_instructions=True)).where(*IS_IT, IS_THERE)
)
"""Read one conversation, without its messages."""
CONVERSATIONS = compiled(_conversations())
"""Read a page of an owner's conversations, most recently active first."""
CONVERSATIONS_BY_LABELS = compiled(_conversations_by_labels())
"""Read a page of an owner's conversations that have all of some labels, and where it ends."""
