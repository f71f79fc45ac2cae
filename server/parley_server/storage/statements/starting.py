"""Statements by which workers find started turns that are due, and begin them.

What the tables of the queue hold is said in `accepting`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    Interval,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import insert as plain_insert

from parley_server.core.model import FailureReason, Role, TurnState
from parley_server.storage.schema.tables import (
    conversation,
    message,
    queue_due,
    turn,
    turn_queue,
    wait_due,
)
from parley_server.storage.statements.counting import overrun
from parley_server.storage.statements.feeding import fed
from parley_server.storage.statements.leaving import out_of_queue, unqueued
from parley_server.storage.statements.parts import (
    CONVERSATION,
    EMPTY,
    IN_QUEUE,
    IS_DUE_ROW,
    IS_IT,
    LEASE_END,
    LIMIT,
    NEVER,
    ONE,
    ONE_SMALL,
    OWNER,
    QUEUED,
    ZERO,
    ZERO_SMALL,
    compiled,
    given_to,
    held_conversation,
    is_free,
    labelled,
    literal,
)

_SOON = literal_column("interval '5 seconds'", Interval)
"""How long others leave a conversation alone at which a worker is."""
MISMATCH_TEXT = (
    "the conversation had another last sequence than expected when the turn was to begin"
)


def _due() -> Executable:
    """Read which conversations may have a turn to begin: each owner's longest due one first.

    A subquery for each owner would read less where one has very many that are due; but it would
    be recursive, which a sharded database cannot carry out for all owners.
    """
    rank = func.row_number().over(
        partition_by=queue_due.c.owner_id,
        order_by=(queue_due.c.due_time, queue_due.c.conversation_id),
    )
    due = (
        select(
            queue_due.c.owner_id,
            queue_due.c.conversation_id,
            queue_due.c.due_time,
            rank.label("rank"),
        )
        .where(queue_due.c.due_time <= func.now())
        .subquery("due")
    )
    return (
        select(due.c.owner_id, due.c.conversation_id)
        .order_by(due.c.rank, due.c.due_time)
        .limit(LIMIT)
    )


def _begin() -> Executable:
    """Open the first turn of a queue, if its conversation is free. One row: `rows.BeginRow`.

    No row: another statement holds the conversation, or it is gone. Where its expected_sequence
    does not hold, the turn fails instead, and leaves the queue. A turn that had begun before is
    left as it is, to be looked at in detail.
    """
    held = held_conversation(skip_locked=True)
    seen = (
        select(
            conversation.c.queue_number,
            conversation.c.tenant_id,
            conversation.c.user_id,
            # A sharded database allows none of these in a CASE of an UPDATE (decision 0039).
            func.now().label("now"),
            LEASE_END.label("lease_end"),
            (func.now() + _SOON).label("soon"),
        )
        .where(*IS_IT)
        .cte("seen")
    )
    head = (
        select(
            turn_queue.c.turn_id,
            turn_queue.c.message,
            turn_queue.c.expected_sequence,
            turn_queue.c.tenant,
            turn_queue.c.tools,
        )
        .where(*IN_QUEUE)
        .order_by(turn_queue.c.position)
        .limit(ONE_SMALL)
        .cte("head")
    )
    is_current = held.c.queue_number == seen.c.queue_number
    fits = or_(head.c.expected_sequence.is_(None), head.c.expected_sequence == held.c.last_sequence)

    def if_fits(then: Any, otherwise: Any) -> Any:
        return case((fits, then), else_=otherwise)

    tried = (
        update(turn)
        .values(
            state=if_fits(literal(TurnState.RUNNING), literal(TurnState.FAILED)),
            attempt=if_fits(ONE_SMALL, ZERO_SMALL),
            attempt_time=if_fits(seen.c.now, null()),
            user_sequence=if_fits(held.c.last_sequence + ONE, ZERO),
            is_started=fits,
            agent=if_fits(given_to(turn.c.agent, held), turn.c.agent),
            error_reason=if_fits(null(), literal(FailureReason.SEQUENCE_MISMATCH)),
            error_text=if_fits(null(), literal_column(f"'{MISMATCH_TEXT}'", Text)),
            end_time=if_fits(null(), seen.c.now),
        )
        .where(turn.c.owner_id == OWNER)
        # A scalar subquery uses the primary key; a join would scan every turn of the owner.
        .where(turn.c.id == select(head.c.turn_id).scalar_subquery())
        .where(turn.c.id == head.c.turn_id)
        .where(turn.c.state == QUEUED, turn.c.user_sequence == ZERO)
        .where(is_free(held), is_current)
        .returning(turn.c.id, turn.c.user_sequence, turn.c.agent, turn.c.request_id)
        .cte("tried")
    )
    begun = (
        select(tried.c.id, tried.c.user_sequence).where(tried.c.user_sequence > ZERO).cte("begun")
    )
    refused = select(tried.c.id).where(tried.c.user_sequence == ZERO).cte("refused")
    said = (
        plain_insert(message)
        .from_select(
            ["owner_id", "conversation_id", "sequence", "turn_id", "role", "content"],
            select(
                OWNER,
                CONVERSATION,
                begun.c.user_sequence,
                begun.c.id,
                literal(Role.USER),
                head.c.message,
            ).select_from(begun.join(head, true())),
        )
        .cte("said")
    )
    is_first = and_(conversation.c.last_sequence == ZERO, conversation.c.title == EMPTY)
    text = select(head.c.message).scalar_subquery()
    taken = (
        update(conversation)
        .values(
            title=case(
                (is_first, func.left(text, bindparam("title_characters", type_=Integer))),
                else_=conversation.c.title,
            ),
            last_sequence=begun.c.user_sequence,
            fence=conversation.c.fence + ONE,
            preview=func.left(text, bindparam("preview_characters", type_=Integer)),
            open_turn_id=begun.c.id,
            lease_expires_at=LEASE_END,
            update_time=func.now(),
        )
        .where(*IS_IT)
        .where(begun.c.id.is_not(None))
        .returning(conversation.c.labels)
        .cte("taken")
    )
    let_go = (
        update(conversation)
        .values(out_of_queue())
        .where(*IS_IT)
        .where(select(refused.c.id).scalar_subquery().is_not(None))
        .cte("let_go")
    )
    feed = select(head.c.tenant).scalar_subquery()
    is_begun = select(begun.c.id).scalar_subquery().is_not(None)
    # One that waits for its caller has no lease: what ends its wait makes the queue due.
    waits = and_(held.c.open_turn_id.is_not(None), held.c.lease_expires_at.is_(None))
    due_time: ColumnElement[datetime] = case(
        (waits, NEVER),
        (held.c.lease_expires_at > seen.c.now, held.c.lease_expires_at),
        (is_begun, seen.c.lease_end),
        else_=seen.c.soon,
    )
    later = (
        update(queue_due)
        .values(due_time=due_time)
        .where(*IS_DUE_ROW, is_current)
        .where(select(refused.c.id).scalar_subquery().is_(None))
        .cte("later")
    )
    return (
        select(
            is_current.label("is_current"),
            is_free(held).label("is_free"),
            held.c.fence,
            held.c.open_turn_id,
            held.c.instructions,
            seen.c.tenant_id,
            seen.c.user_id,
            head.c.turn_id,
            head.c.message,
            head.c.tools,
            tried.c.user_sequence,
            tried.c.agent,
            tried.c.request_id,
        )
        .select_from(held.join(seen, true()).outerjoin(head, true()).outerjoin(tried, true()))
        .add_cte(
            said,
            labelled(taken, taken.c.labels, func.now()),
            let_go,
            later,
            *overrun(held, begun.c.id != turn.c.id, feed=feed),
            fed(
                refused,
                attempt=ZERO_SMALL,
                error_reason=literal(FailureReason.SEQUENCE_MISMATCH),
                feed=feed,
                name="refused_fed",
            ),
            *unqueued(held, refused),
        )
    )


def _backlog() -> Executable:
    # A queue whose first turn waits for its caller is nothing that more workers would help with.
    some = (
        select(queue_due.c.turns, queue_due.c.accept_time)
        .where(queue_due.c.due_time < NEVER)
        .order_by(queue_due.c.due_time)
        .limit(LIMIT)
        .subquery("some")
    )
    waiting = select(wait_due.c.turn_id).limit(LIMIT).subquery("waiting")
    return select(
        func.coalesce(func.sum(some.c.turns), ZERO),
        func.coalesce(func.extract("epoch", func.now() - func.min(some.c.accept_time)), ZERO),
        select(func.count()).select_from(waiting).scalar_subquery(),
    )


DUE_QUEUES = compiled(_due())
"""Read where a started turn may begin, of any owner, each owner's first ones first."""
BEGIN = compiled(_begin())
"""Open the first turn of a conversation's queue, and take its lease; or say why not."""
WAKE_QUEUE = compiled(
    update(queue_due)
    .values(due_time=func.now())
    .where(*IS_DUE_ROW)
    .returning(queue_due.c.conversation_id)
)
"""Have a conversation's queue looked at now."""
QUEUE_HEAD = compiled(
    select(turn_queue.c.turn_id, turn_queue.c.accept_time, queue_due.c.due_time)
    .join(
        queue_due,
        and_(
            queue_due.c.owner_id == OWNER,
            queue_due.c.conversation_id == turn_queue.c.conversation_id,
        ),
    )
    .where(*IN_QUEUE)
    .order_by(turn_queue.c.position)
    .limit(ONE_SMALL)
)
"""Read which turn of a conversation's queue is the first."""
BACKLOG = compiled(_backlog())
"""Read what is left of all owners: started turns, without those behind one that waits, seconds
since the oldest, and turns that wait."""
