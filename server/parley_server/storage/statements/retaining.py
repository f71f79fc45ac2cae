"""Statements of retention: which conversations have become too old."""

from typing import Any

from sqlalchemy import (
    Executable,
    Interval,
    Select,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    update,
)

from parley_server.storage.schema.tables import conversation, owner
from parley_server.storage.statements.hiding import FROM
from parley_server.storage.statements.parts import (
    IS_THERE,
    LIMIT,
    OWNER,
    ZERO_SMALL,
    compiled,
    is_any,
)

_EVERY = cast(bindparam("every", type_=Interval), Interval)
_AGE = cast(bindparam("age", type_=Interval), Interval)
_IS_DUE = owner.c.look_time <= func.now() - _EVERY
_IS_UNUSED = and_(
    or_(conversation.c.open_turn_id.is_(None), conversation.c.lease_expires_at <= func.now()),
    conversation.c.queue_length == ZERO_SMALL,
)
"""A turn that runs, or waits for its caller, is left to end, and so are started turns."""


def _due_owners() -> Executable:
    return select(owner.c.owner_id).where(_IS_DUE).order_by(owner.c.look_time).limit(LIMIT)


def _take_owner() -> Executable:
    return (
        update(owner)
        .values(look_time=func.now())
        .where(owner.c.owner_id == OWNER, _IS_DUE)
        .returning(owner.c.owner_id)
    )


def _expired(*where: Any) -> Select[Any]:
    """Read and lock conversations that are there; those that another worker has are left to it."""
    return (
        select(conversation.c.id)
        .where(conversation.c.owner_id == OWNER, IS_THERE, _IS_UNUSED, *where)
        .with_for_update(skip_locked=True)
    )


def _idle() -> Executable:
    """Read the conversations that were idle for longest, from the old end of the lists' index."""
    return (
        _expired(
            conversation.c.update_time > literal_column("'epoch'::timestamptz"),
            conversation.c.update_time <= func.now() - _AGE,
        )
        .order_by(conversation.c.update_time, conversation.c.id)
        .limit(LIMIT)
    )


def _aged() -> Executable:
    """Look through the next conversations for those that were created too long ago.

    A row for each that was looked at: its id, and whether it is too old, and locked.
    """
    part = (
        select(conversation.c.id, conversation.c.create_time)
        .where(conversation.c.owner_id == OWNER, conversation.c.id >= FROM)
        .order_by(conversation.c.id)
        .limit(LIMIT)
        .cte("part")
    )
    old = select(part.c.id).where(part.c.create_time <= func.now() - _AGE)
    locked = _expired(is_any(conversation.c.id, old)).cte("locked")
    return (
        select(part.c.id, locked.c.id.is_not(None).label("is_old"))
        .select_from(part.outerjoin(locked, and_(part.c.id == locked.c.id)))
        .order_by(part.c.id)
    )


DUE_OWNERS = compiled(_due_owners())
"""Read which owners retention has to look at, of all."""
TAKE_OWNER = compiled(_take_owner())
"""Note that retention looks at an owner now, unless another worker has done so."""
IDLE_CONVERSATIONS = compiled(_idle())
"""Read and lock an owner's conversations that were idle for too long."""
AGED_CONVERSATIONS = compiled(_aged())
"""Read which of an owner's next conversations were created too long ago, and lock them."""
