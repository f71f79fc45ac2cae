"""Statements that store and read the steps of a turn."""

from sqlalchemy import Executable, Integer, Text, bindparam, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from parley_server.storage.schema.tables import turn, turn_step
from parley_server.storage.statements.parts import (
    FENCE,
    NOT_EVEN_ONE,
    OWNER,
    TURN,
    ZERO_SMALL,
    compiled,
    held_conversation,
)


def _store_step() -> Executable:
    """Store a step while the lease is this attempt's. One row, its fence, if it is.

    A number that is there already was stored by an earlier try whose outcome got lost. The lock is
    the one that RECLAIM takes: a step is stored before a new attempt reads them, or never.

    The attempt will not count against the maximum, and its worker may go away as if for the first
    time.
    """
    held = held_conversation()
    is_ours = (held.c.fence == FENCE, held.c.open_turn_id == TURN)
    stored = (
        insert(turn_step)
        .from_select(
            ["owner_id", "turn_id", "number", "kind", "body"],
            select(
                OWNER,
                TURN,
                bindparam("number", type_=Integer),
                bindparam("kind", type_=Text),
                bindparam("body", type_=Text),
            )
            .select_from(held)
            .where(*is_ours),
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "turn_id", "number"])
        .cte("stored")
    )
    got_on = (
        update(turn)
        .values(spent_attempts=NOT_EVEN_ONE, abandoned_attempts=ZERO_SMALL)
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN, *is_ours)
        .where(or_(turn.c.spent_attempts != NOT_EVEN_ONE, turn.c.abandoned_attempts != ZERO_SMALL))
        .cte("got_on")
    )
    return select(held.c.fence).where(*is_ours).add_cte(stored, got_on)


STORE_STEP = compiled(_store_step())
"""Store a step of an attempt under way, under the fence; the attempt does not count then."""
STEPS = compiled(
    select(turn_step.c.number, turn_step.c.kind, turn_step.c.body)
    .where(turn_step.c.owner_id == OWNER, turn_step.c.turn_id == TURN)
    .order_by(turn_step.c.number)
)
"""Read what a turn's attempts have done so far, for a new one to go on from."""
