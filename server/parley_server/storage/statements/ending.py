"""Statements that keep a lease, and that end a turn."""

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Executable,
    Integer,
    LargeBinary,
    Select,
    Text,
    bindparam,
    cast,
    delete,
    false,
    func,
    insert,
    null,
    select,
    true,
    update,
)

from parley_server.core.model import Role, TurnState
from parley_server.storage.schema.tables import (
    conversation,
    message,
    queue_due,
    turn,
    turn_event,
    turn_step,
    turn_wait,
)
from parley_server.storage.statements.counting import ended_attempt, of_attempt
from parley_server.storage.statements.feeding import fed
from parley_server.storage.statements.leaving import out_of_queue, unqueued
from parley_server.storage.statements.parts import (
    CONTENT,
    CONVERSATION,
    FENCE,
    FORGOTTEN_WAIT,
    IS_IT,
    IS_THERE,
    LEASE_END,
    ONE,
    ONE_SMALL,
    OWNER,
    PREVIEW,
    TURN,
    compiled,
    events_gone,
    held_conversation,
    literal,
    steps_gone,
    waits_gone,
)


def _renew() -> Executable:
    """Move the lease's end. One row, whether the turn is to be stopped, if the lease is ours."""
    is_to_stop = (
        select(turn.c.cancel_requested_time.is_not(None))
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN)
        .scalar_subquery()
    )
    return (
        update(conversation)
        .values(lease_expires_at=LEASE_END)
        .where(conversation.c.owner_id == OWNER, conversation.c.id == CONVERSATION)
        .where(conversation.c.fence == FENCE, conversation.c.open_turn_id == TURN)
        .returning(is_to_stop)
    )


def _ended_turn(held: CTE, *where: Any, **values: Any) -> CTE:
    """Close the turn, if the lease is still this attempt's."""
    return (
        update(turn)
        .values(end_time=func.now(), **values)
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN)
        .where(held.c.fence == FENCE, held.c.open_turn_id == turn.c.id, *where)
        .returning(turn.c.id, turn.c.response_sequence, turn.c.attempt, *of_attempt(held.c.labels))
        .cte("ended")
    )


def _left(held: CTE, ended: CTE, *, is_started: bool) -> tuple[CTE, ...]:
    return unqueued(held, ended) if is_started else ()


def _freed(ended: CTE, **values: Any) -> CTE:
    """Drop the lease."""
    return (
        update(conversation)
        .values(open_turn_id=null(), lease_expires_at=null(), **values)
        .where(conversation.c.owner_id == OWNER, conversation.c.id == CONVERSATION)
        .where(ended.c.id == conversation.c.open_turn_id)
        .cte("freed")
    )


def _answered(*, is_started: bool) -> CTE:
    """Count the answer's sequence and drop the lease, if it is still this attempt's.

    The row is changed at once and not locked before: the conversation alone decides whose it is.

    Returns: the answer's sequence; the labels; how many started turns there were before.
    """
    length = conversation.c.queue_length
    return (
        update(conversation)
        .values(
            last_sequence=conversation.c.last_sequence + ONE,
            preview=PREVIEW,
            open_turn_id=null(),
            lease_expires_at=null(),
            **(out_of_queue() if is_started else {}),
        )
        .where(*IS_IT, IS_THERE)
        .where(conversation.c.fence == FENCE, conversation.c.open_turn_id == TURN)
        .returning(
            conversation.c.last_sequence,
            conversation.c.labels,
            (length + ONE_SMALL if is_started else length).label("queue_length"),
        )
        .cte("freed")
    )


def _finish(*, has_more: bool, is_started: bool = False) -> Executable:
    """Store the answer, close the turn, drop the lease.

    One row if it was ours: the answer's sequence, and how many started turns there are.

    Args:
        has_more: whether events, steps or a wait were stored for it, which go.
        is_started: the turn leaves its conversation's queue.
    """
    freed = _answered(is_started=is_started)
    ended = (
        update(turn)
        .values(
            **_no_longer_started(is_started),
            state=bindparam("state", type_=Text),
            response_sequence=freed.c.last_sequence,
            context_first_sequence=bindparam("context_first", type_=BigInteger),
            context_message_count=bindparam("context_count", type_=Integer),
            context_omitted_count=bindparam("context_omitted", type_=BigInteger),
            instructions_digest=cast(
                bindparam("instructions_digest", type_=LargeBinary), LargeBinary
            ),
            end_time=func.now(),
        )
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN)
        .returning(turn.c.id, turn.c.response_sequence, turn.c.attempt, *of_attempt(freed.c.labels))
        .cte("ended")
    )
    answered = (
        insert(message)
        .from_select(
            [
                "owner_id",
                "conversation_id",
                "sequence",
                "turn_id",
                "role",
                "content",
                "tool_calls",
                "usage",
                "model",
                "finish_reason",
                "opaque_state",
            ],
            select(
                OWNER,
                CONVERSATION,
                ended.c.response_sequence,
                ended.c.id,
                literal(Role.ASSISTANT),
                CONTENT,
                bindparam("tool_calls", type_=Text),
                bindparam("usage", type_=Text),
                bindparam("model", type_=Text),
                bindparam("finish_reason", type_=Text),
                cast(bindparam("opaque_state", type_=LargeBinary), LargeBinary),
            ),
        )
        .cte("answered")
    )
    counted = ended_attempt(ended, is_answered=True, has_usage=True)
    found = (
        select(ended.c.response_sequence, freed.c.queue_length)
        .select_from(ended.join(freed, true()))
        .add_cte(answered, counted, fed(ended, attempt=ended.c.attempt))
        .add_cte(*_left(freed, ended, is_started=is_started))
    )
    if not has_more:
        return found
    return found.add_cte(events_gone(ended), steps_gone(ended), *waits_gone(ended))


def _fail(*, is_started: bool = False) -> Executable:
    """Close the turn as failed and drop the lease, unless the turn is to be stopped.

    One row if the lease is ours: whether the turn is to be stopped. Then nothing was changed: what
    was said has to be stored as its answer. The turn's row decides, once it is locked.
    """
    held = held_conversation()
    reason = bindparam("reason", type_=Text)
    ended = _ended_turn(
        held,
        turn.c.cancel_requested_time.is_(None),
        **_no_longer_started(is_started),
        state=literal(TurnState.FAILED),
        error_reason=reason,
        error_text=bindparam("text", type_=Text),
    )
    freed = _freed(ended, **(out_of_queue() if is_started else {}))
    left = _left(held, ended, is_started=is_started)
    told = fed(ended, attempt=ended.c.attempt, error_reason=reason)
    return _failing(held, ended).add_cte(freed, ended_attempt(ended, has_usage=True), told, *left)


def _fail_for_now() -> Executable:
    """End the attempt at a started turn, which is to be run again; else as `_fail`."""
    held = held_conversation()
    ended = _ended_turn(
        held,
        turn.c.cancel_requested_time.is_(None),
        state=literal(TurnState.QUEUED),
        error_reason=bindparam("reason", type_=Text),
        error_text=bindparam("text", type_=Text),
    )
    due = (
        update(queue_due)
        .values(due_time=func.now())
        .where(queue_due.c.owner_id == OWNER, queue_due.c.conversation_id == CONVERSATION)
        .where(ended.c.id == TURN)
        .cte("due")
    )
    counted = ended_attempt(ended, has_usage=True)
    return _failing(held, ended).add_cte(_freed(ended), counted, due)


def _failing(held: CTE, ended: CTE) -> Select[Any]:
    """Return whether the turn is to be stopped, and how many started turns there are."""
    return (
        select(ended.c.id.is_(None), held.c.queue_length)
        .select_from(held.outerjoin(ended, true()))
        .where(held.c.fence == FENCE, held.c.open_turn_id == TURN)
    )


def _no_longer_started(is_started: bool) -> dict[str, Any]:
    return {"is_started": false()} if is_started else {}


def _request_cancel() -> Executable:
    return (
        update(turn)
        .values(cancel_requested_time=func.now())
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN)
        .where(turn.c.state == literal(TurnState.RUNNING))
        .returning(turn.c.id)
    )


def _forget_events() -> Executable:
    """Remove what is stored beside the turn that began at a sequence and was never answered."""
    began_at = bindparam("began_at", type_=BigInteger)
    steps = (
        delete(turn_step)
        .where(turn_step.c.owner_id == OWNER, turn_step.c.turn_id == turn.c.id)
        .where(turn.c.owner_id == OWNER, turn.c.conversation_id == CONVERSATION)
        .where(turn.c.user_sequence == began_at, turn.c.response_sequence.is_(None))
        .cte("steps_gone")
    )
    wait = (
        update(turn_wait)
        .values(FORGOTTEN_WAIT)
        .where(turn_wait.c.owner_id == OWNER, turn_wait.c.turn_id == turn.c.id)
        .where(turn.c.owner_id == OWNER, turn.c.conversation_id == CONVERSATION)
        .where(turn.c.user_sequence == began_at, turn.c.response_sequence.is_(None))
        .cte("wait_gone")
    )
    return (
        delete(turn_event)
        .where(turn_event.c.owner_id == OWNER, turn_event.c.turn_id == turn.c.id)
        .where(turn.c.owner_id == OWNER, turn.c.conversation_id == CONVERSATION)
        .where(turn.c.user_sequence == began_at, turn.c.response_sequence.is_(None))
        .returning(turn_event.c.index)
        .add_cte(steps, wait)
    )


RENEW = compiled(_renew())
"""Move the lease's end, and return whether the turn is to be stopped."""
FINISH = compiled(_finish(has_more=False))
"""Write the answer, end the turn, and free the conversation, under the fence."""
FINISH_WITH_EVENTS = compiled(_finish(has_more=True))
"""The same, and remove its steps, and the pieces stored for those who followed it."""
FINISH_STARTED = compiled(_finish(has_more=True, is_started=True))
"""The same for a turn that was started: it leaves its queue, and the next one is due."""
FAIL = compiled(_fail())
"""End the attempt as failed, unless the turn is to be stopped; return which of the two."""
FAIL_STARTED = compiled(_fail(is_started=True))
"""The same for a turn that was started: it leaves its queue, and the next one is due."""
FAIL_FOR_NOW = compiled(_fail_for_now())
"""End an attempt at a started turn that is to be run again, unless the turn is to be stopped."""
REQUEST_CANCEL = compiled(_request_cancel())
"""Record that a turn is to be stopped."""
FORGET_EVENTS = compiled(_forget_events())
"""Remove what is stored beside turns that can no longer be followed or run again."""
