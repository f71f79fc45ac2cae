"""Statements that keep a lease, and that end a turn."""

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Executable,
    Integer,
    LargeBinary,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    null,
    select,
    true,
    update,
)

from parley_server.core.model import Role, TurnState
from parley_server.storage.schema.tables import conversation, message, turn, turn_event
from parley_server.storage.statements.counting import ended_attempt, of_attempt
from parley_server.storage.statements.feeding import fed
from parley_server.storage.statements.parts import (
    CONTENT,
    CONVERSATION,
    FENCE,
    LEASE_END,
    ONE,
    OWNER,
    PREVIEW,
    TURN,
    compiled,
    events_gone,
    held_conversation,
    literal,
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


def _ended(held: CTE, *where: Any, **values: Any) -> CTE:
    """Close the turn, if the lease is still this attempt's."""
    return (
        update(turn)
        .values(end_time=func.now(), **values)
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN)
        .where(held.c.fence == FENCE, held.c.open_turn_id == turn.c.id, *where)
        .returning(turn.c.id, turn.c.response_sequence, turn.c.attempt, *of_attempt(held.c.labels))
        .cte("ended")
    )


def _freed(ended: CTE, **values: Any) -> CTE:
    """Drop the lease."""
    return (
        update(conversation)
        .values(open_turn_id=null(), lease_expires_at=null(), **values)
        .where(conversation.c.owner_id == OWNER, conversation.c.id == CONVERSATION)
        .where(ended.c.id == conversation.c.open_turn_id)
        .cte("freed")
    )


def _finish(*, has_events: bool) -> Executable:
    """Store the answer, close the turn, drop the lease. One row, its sequence, if it was ours."""
    held = held_conversation()
    ended = _ended(
        held,
        state=bindparam("state", type_=Text),
        response_sequence=held.c.last_sequence + ONE,
        context_first_sequence=bindparam("context_first", type_=BigInteger),
        context_message_count=bindparam("context_count", type_=Integer),
        context_omitted_count=bindparam("context_omitted", type_=BigInteger),
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
    freed = _freed(ended, last_sequence=ended.c.response_sequence, preview=PREVIEW)
    counted = ended_attempt(ended, is_answered=True, has_usage=True)
    found = select(ended.c.response_sequence).add_cte(
        answered, freed, counted, fed(ended, attempt=ended.c.attempt)
    )
    return found.add_cte(events_gone(ended)) if has_events else found


def _fail() -> Executable:
    """Close the turn as failed and drop the lease, unless the turn is to be stopped.

    One row if the lease is ours: whether the turn is to be stopped. Then nothing was changed: what
    was said has to be stored as its answer. The turn's row decides, once it is locked.
    """
    held = held_conversation()
    reason = bindparam("reason", type_=Text)
    ended = _ended(
        held,
        turn.c.cancel_requested_time.is_(None),
        state=literal(TurnState.FAILED),
        error_reason=reason,
        error_text=bindparam("text", type_=Text),
    )
    return (
        select(ended.c.id.is_(None))
        .select_from(held.outerjoin(ended, true()))
        .where(held.c.fence == FENCE, held.c.open_turn_id == TURN)
        .add_cte(
            _freed(ended),
            ended_attempt(ended, has_usage=True),
            fed(ended, attempt=ended.c.attempt, error_reason=reason),
        )
    )


def _request_cancel() -> Executable:
    return (
        update(turn)
        .values(cancel_requested_time=func.now())
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN)
        .where(turn.c.state == literal(TurnState.RUNNING))
        .returning(turn.c.id)
    )


def _forget_events() -> Executable:
    """Remove the events of the turn that began at a sequence and was never answered."""
    return (
        delete(turn_event)
        .where(turn_event.c.owner_id == OWNER, turn_event.c.turn_id == turn.c.id)
        .where(turn.c.owner_id == OWNER, turn.c.conversation_id == CONVERSATION)
        .where(turn.c.user_sequence == bindparam("began_at", type_=BigInteger))
        .where(turn.c.response_sequence.is_(None))
        .returning(turn_event.c.index)
    )


RENEW = compiled(_renew())
"""Move the lease's end, and return whether the turn is to be stopped."""
FINISH = compiled(_finish(has_events=False))
"""Write the answer, end the turn, and free the conversation, under the fence."""
FINISH_WITH_EVENTS = compiled(_finish(has_events=True))
"""The same, and remove the pieces that were stored for those who followed the turn."""
FAIL = compiled(_fail())
"""End the attempt as failed, unless the turn is to be stopped; return which of the two."""
REQUEST_CANCEL = compiled(_request_cancel())
"""Record that a turn is to be stopped."""
FORGET_EVENTS = compiled(_forget_events())
"""Remove the stored pieces of turns that can no longer be followed."""
