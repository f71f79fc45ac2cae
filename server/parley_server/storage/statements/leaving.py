"""Statements by which started turns leave their queue, and the parts for others that end them.

What the tables of the queue hold is said in `accepting`.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    Executable,
    FromClause,
    Select,
    Text,
    case,
    delete,
    false,
    func,
    literal_column,
    null,
    select,
    update,
)

from parley_server.core.failures import TURN_ABANDONED_TEXT
from parley_server.core.model import FailureReason, TurnState
from parley_server.storage.schema.tables import (
    conversation,
    queue_due,
    turn,
    turn_queue,
)
from parley_server.storage.statements.counting import ended_attempt, of_attempt
from parley_server.storage.statements.feeding import fed
from parley_server.storage.statements.parts import (
    IN_QUEUE,
    IS_DUE_ROW,
    IS_IT,
    ONE,
    ONE_SMALL,
    OWNER,
    QUEUED,
    TURN,
    ZERO,
    ZERO_SMALL,
    compiled,
    held_conversation,
    is_free,
    literal,
)


def unqueued(held: CTE, ended: FromClause) -> tuple[CTE, ...]:
    """Take a turn that this statement ends out of its queue; the next one is due at once.

    What the conversation's row says of its queue is for `out_of_queue`.

    Args:
        held: the conversation, locked.
        ended: the turn's id, as `id`; no row: nothing has ended.
    """
    removed = (
        delete(turn_queue)
        .where(turn_queue.c.owner_id == OWNER)
        .where(turn_queue.c.turn_id == select(ended.c.id).scalar_subquery())
        .cte("removed")
    )
    has_ended = select(ended.c.id).scalar_subquery().is_not(None)
    length = select(held.c.queue_length).scalar_subquery()
    next_time = (
        select(turn_queue.c.accept_time)
        .where(*IN_QUEUE, turn_queue.c.turn_id != select(ended.c.id).scalar_subquery())
        .order_by(turn_queue.c.position)
        .limit(ONE_SMALL)
        .scalar_subquery()
    )
    next_due = (
        update(queue_due)
        .values(
            due_time=func.now(),
            turns=queue_due.c.turns - ONE_SMALL,
            # One that this statement's snapshot does not show yet: left as it is.
            accept_time=func.coalesce(next_time, queue_due.c.accept_time),
        )
        .where(*IS_DUE_ROW, has_ended, length > ONE_SMALL)
        .cte("next_due")
    )
    none_due = delete(queue_due).where(*IS_DUE_ROW, has_ended, length <= ONE_SMALL).cte("none_due")
    return removed, next_due, none_due


def out_of_queue() -> dict[str, Any]:
    """Return what a conversation's row says once a turn has left its queue."""
    return {
        "queue_length": conversation.c.queue_length - ONE_SMALL,
        "queue_number": conversation.c.queue_number + ONE,
    }


def _ended_without_worker(held: CTE, *where: Any, **values: Any) -> tuple[CTE, Select[Any]]:
    """End a turn of the queue that no worker runs. One row, its id, if it is so.

    Returns: the turn; and the statement.
    """
    ended = (
        update(turn)
        .values(is_started=false(), **values)
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN, turn.c.is_started, *where)
        .where(held.c.queue_length > ZERO_SMALL)
        .returning(
            turn.c.id,
            turn.c.attempt,
            turn.c.error_reason,
            turn.c.end_time,
            *of_attempt(held.c.labels),
        )
        .cte("ended")
    )
    is_open = conversation.c.open_turn_id == ended.c.id
    freed = (
        update(conversation)
        .values(
            open_turn_id=case((is_open, null()), else_=conversation.c.open_turn_id),
            lease_expires_at=case((is_open, null()), else_=conversation.c.lease_expires_at),
            **out_of_queue(),
        )
        .where(*IS_IT)
        .where(ended.c.id == TURN)
        .cte("freed")
    )
    told = fed(
        ended,
        attempt=ended.c.attempt,
        error_reason=ended.c.error_reason,
        end_time=ended.c.end_time,
    )
    return ended, select(ended.c.id).add_cte(freed, told, *unqueued(held, ended))


def _give_up() -> Executable:
    """End a started turn that no worker runs and that has no attempt left, as failed.

    Its last attempt was counted when it failed, unless nothing but its lease has ended it.
    """
    held = held_conversation(has_time=True)
    abandoned = literal(FailureReason.TURN_ABANDONED)
    ended, found = _ended_without_worker(
        held,
        turn.c.user_sequence > ZERO,
        turn.c.state.in_([literal(TurnState.RUNNING), QUEUED]),
        is_free(held),
        state=literal(TurnState.FAILED),
        error_reason=func.coalesce(turn.c.error_reason, abandoned),
        error_text=func.coalesce(
            turn.c.error_text, literal_column(f"'{TURN_ABANDONED_TEXT}'", Text)
        ),
        end_time=func.coalesce(turn.c.end_time, held.c.now),
    )
    return found.add_cte(ended_attempt(ended, ended.c.error_reason == abandoned))


def _cancel_queued() -> Executable:
    """End a turn that has not begun as cancelled, without message and answer."""
    return _ended_without_worker(
        held_conversation(),
        turn.c.state == QUEUED,
        turn.c.user_sequence == ZERO,
        state=literal(TurnState.CANCELLED),
        end_time=func.now(),
    )[1]


GIVE_UP = compiled(_give_up())
"""End a started turn that has no attempt left, and that no worker runs."""
CANCEL_QUEUED = compiled(_cancel_queued())
"""Cancel a started turn that has not begun."""
