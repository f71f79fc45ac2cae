"""Statements that read conversations themselves, without what was said in them."""

from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    DateTime,
    Executable,
    Integer,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    null,
    select,
    tuple_,
)

from parley_server.storage.schema.tables import conversation, conversation_label
from parley_server.storage.statements.parts import (
    IS_IT,
    IS_THERE,
    LIMIT,
    OWNER,
    compiled,
    is_open,
)

MANY = 1000
"""How many conversations make a label a common one."""

_ONE = literal_column("1", Integer)
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


def conversation_columns(*, with_instructions: bool) -> tuple[ColumnElement[Any], ...]:
    """Return what `rows.conversation` reads."""
    return (
        conversation.c.id,
        conversation.c.title,
        conversation.c.create_time,
        conversation.c.update_time,
        conversation.c.last_sequence,
        conversation.c.preview,
        case((is_open(conversation), conversation.c.open_turn_id)).label("open_turn_id"),
        conversation.c.labels,
        (conversation.c.instructions if with_instructions else null()).label("instructions"),
        conversation.c.revision,
        conversation.c.forked_from_id,
        conversation.c.forked_from_sequence,
    )


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

    Of a rare label all conversations are soon seen. A common one fills a page soon, unless the
    labels asked for are common each and rare together.
    """
    wanted = (
        func.json_each_text(cast(bindparam("labels", type_=Text), JSON))
        .table_valued(column("key", Text), column("value", Text))
        .render_derived(name="wanted")
    )
    some = conversation_label.alias("some")
    is_common = (
        select(_ONE)
        .where(some.c.owner_id == OWNER)
        .where(some.c.key == wanted.c.key, some.c.value == wanted.c.value)
        .offset(literal_column(str(MANY), Integer))
        .limit(_ONE)
        .scalar_subquery()
    )
    rarest = (
        select(wanted.c.key, wanted.c.value)
        .order_by(is_common.nulls_first())
        .limit(_ONE)
        .cte("rarest")
    )

    walked, other = conversation_label.alias("walked"), conversation_label.alias("other")
    lacking = (
        select(_ONE)
        .select_from(
            wanted.outerjoin(
                other,
                and_(
                    other.c.owner_id == OWNER,
                    other.c.conversation_id == walked.c.conversation_id,
                    other.c.key == wanted.c.key,
                    other.c.value == wanted.c.value,
                ),
            )
        )
        .where(other.c.key.is_(None))
        .correlate(walked)
        .exists()
    )
    page = (
        select(walked.c.conversation_id, walked.c.update_time)
        .where(walked.c.owner_id == OWNER)
        .where(walked.c.key == select(rarest.c.key).scalar_subquery())
        .where(walked.c.value == select(rarest.c.value).scalar_subquery())
        .where(*_in_list(walked.c.update_time, walked.c.conversation_id), ~lacking)
        .order_by(walked.c.update_time.desc(), walked.c.conversation_id.desc())
        .limit(LIMIT)
        .subquery("page")
    )
    return (
        select(*conversation_columns(with_instructions=False))
        .select_from(
            page.join(
                conversation,
                and_(
                    conversation.c.owner_id == OWNER,
                    conversation.c.id == page.c.conversation_id,
                    IS_THERE,
                ),
            )
        )
        .order_by(page.c.update_time.desc(), page.c.conversation_id.desc())
    )


GET_CONVERSATION = compiled(
    select(*conversation_columns(with_instructions=True)).where(*IS_IT, IS_THERE)
)
"""Read one conversation, without its messages."""
CONVERSATIONS = compiled(_conversations())
"""Read a page of an owner's conversations, most recently active first."""
CONVERSATIONS_BY_LABELS = compiled(_conversations_by_labels())
"""Read a page of those of an owner's conversations that have all of some labels."""
