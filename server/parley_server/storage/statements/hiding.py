"""Statements that delete conversations, one or many: hidden from every call, open turns closed."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    ColumnElement,
    Executable,
    Integer,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    delete,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy import insert as plain_insert

from parley_server.core.model import DeletionStage, TurnState
from parley_server.storage.schema.tables import (
    conversation,
    conversation_label,
    deletion,
    queue_due,
    turn,
    turn_event,
    turn_queue,
    wait_due,
)
from parley_server.storage.statements.counting import failed_attempts
from parley_server.storage.statements.parts import (
    IS_THERE,
    LIMIT,
    NEVER,
    ONE,
    OWNER,
    ZERO,
    abandoned,
    compiled,
    is_any,
    literal,
)

FROM = bindparam("from_id", type_=Uuid)
"""The lowest id to look at. Callers may have chosen any, the nil UUID as well."""
START = cast(
    bindparam("start", type_=conversation.c.create_time.type), conversation.c.create_time.type
)
_NOWHERE: ColumnElement[datetime] = literal_column("'epoch'::timestamptz")
"""Where lists do not look."""
_STAGE = bindparam("stage", type_=Text)
QUEUE_PART = literal_column("500", Integer)
"""Of so many started turns a statement removes what they would have said: 256 KiB each, or more."""


def named_ids() -> Select[Any]:
    """Return the ids that the statement was given, as a JSON array."""
    texts = func.json_array_elements_text(cast(bindparam("ids", type_=Text), JSON))
    return select(cast(texts.column_valued("named"), Uuid))


def hidden(held: CTE, stage: Any, due_time: Any) -> Select[Any]:
    """Take conversations from every reader's and every worker's sight.

    Args:
        held: what `held_columns` reads of conversations that are there, which the transaction has
            locked before, FOR UPDATE: pieces of an answer that are being stored are there then.
    Returns: a row for each, the turn that was open and when it goes for good. Open turns are
        closed, so that they can be tried again if the conversation is brought back. Started
        turns that have not begun are cancelled, and what they would say goes.
    """
    ids, open_turns = select(held.c.id), select(held.c.open_turn_id)
    gone = (
        update(conversation)
        .values(
            delete_time=func.now(),
            update_time=_NOWHERE,
            # Whatever the worker that runs the turn still writes comes too late.
            fence=conversation.c.fence + ONE,
            open_turn_id=null(),
            lease_expires_at=null(),
            queue_length=literal_column("0"),
            queue_number=conversation.c.queue_number + ONE,
        )
        .where(conversation.c.owner_id == OWNER, is_any(conversation.c.id, ids))
        .cte("gone")
    )
    closed = (
        update(turn)
        .values({**abandoned(func.now()), "is_started": false()})
        .where(turn.c.owner_id == OWNER, is_any(turn.c.id, open_turns))
        .returning(turn.c.agent, turn.c.is_counted, turn.c.conversation_id)
        .cte("closed")
    )
    events_gone = (
        delete(turn_event)
        .where(turn_event.c.owner_id == OWNER, is_any(turn_event.c.turn_id, open_turns))
        .cte("events_gone")
    )
    none_waits = (
        delete(wait_due)
        .where(wait_due.c.owner_id == OWNER, is_any(wait_due.c.turn_id, open_turns))
        .cte("none_waits")
    )
    unlisted = (
        delete(conversation_label)
        .where(conversation_label.c.owner_id == OWNER)
        .where(is_any(conversation_label.c.conversation_id, ids))
        .cte("unlisted")
    )
    due = (
        plain_insert(deletion)
        .from_select(
            ["owner_id", "conversation_id", "stage", "due_time", "update_time"],
            select(OWNER, held.c.id, stage, due_time, held.c.update_time),
        )
        .returning(deletion.c.conversation_id, deletion.c.due_time)
        .cte("due")
    )
    return (
        select(held.c.id, held.c.open_turn_id, due.c.due_time)
        .select_from(held.join(due, held.c.id == due.c.conversation_id))
        .add_cte(gone, closed, failed_attempts(closed, held), events_gone, none_waits, unlisted)
        .add_cte(*_queues_gone(ids, select(held.c.now).limit(ONE)))
    )


def _queues_gone(conversations: Select[Any], now: Select[Any]) -> tuple[CTE, ...]:
    """End the started turns of some conversations that no worker runs, and remove their queues.

    Of very many turns, what the others would have said goes later.
    """
    waiting = (
        select(turn_queue.c.turn_id)
        .where(turn_queue.c.owner_id == OWNER)
        .where(is_any(turn_queue.c.conversation_id, conversations))
        .cte("waiting")
    )
    some_gone = (
        delete(turn_queue)
        .where(turn_queue.c.owner_id == OWNER)
        .where(is_any(turn_queue.c.turn_id, select(waiting.c.turn_id).limit(QUEUE_PART)))
        .cte("some_gone")
    )
    none_due = (
        delete(queue_due)
        .where(queue_due.c.owner_id == OWNER)
        .where(is_any(queue_due.c.conversation_id, conversations))
        .cte("none_due")
    )
    # One that had begun before has failed, as it was left.
    never_began = turn.c.user_sequence == ZERO
    never_run = (
        update(turn)
        .values(
            state=case(
                (never_began, literal(TurnState.CANCELLED)), else_=literal(TurnState.FAILED)
            ),
            end_time=func.coalesce(turn.c.end_time, now.scalar_subquery()),
            is_started=false(),
        )
        .where(turn.c.owner_id == OWNER, turn.c.state == literal(TurnState.QUEUED))
        .where(is_any(turn.c.id, select(waiting.c.turn_id)))
        .cte("never_run")
    )
    return some_gone, none_due, never_run


def held_columns() -> Select[Any]:
    """Read what `hidden` needs to know of conversations that are there."""
    return select(
        conversation.c.id,
        conversation.c.open_turn_id,
        conversation.c.update_time,
        conversation.c.labels,
        # A sharded database lets no COALESCE of an UPDATE ask for it (decision 0039).
        func.now().label("now"),
    ).where(conversation.c.owner_id == OWNER, IS_THERE)


def _are_named() -> tuple[ColumnElement[bool], ...]:
    return (conversation.c.owner_id == OWNER, is_any(conversation.c.id, named_ids()))


def _hide() -> Executable:
    held = held_columns().where(is_any(conversation.c.id, named_ids())).cte("held")
    is_erasing = literal(DeletionStage.ERASING) == _STAGE
    gone = hidden(held, _STAGE, case((is_erasing, NEVER), else_=func.now()))
    return gone.with_only_columns(held.c.id, held.c.open_turn_id)


def stage_of(id_: ColumnElement[Any]) -> ColumnElement[str]:
    """Return what is done next about a conversation; null: it is not deleted, or there is none."""
    return (
        select(deletion.c.stage)
        .where(deletion.c.owner_id == OWNER, deletion.c.conversation_id == id_)
        .scalar_subquery()
    )


def _to_hide() -> Executable:
    """Read the next conversations of an owner, in one snapshot. A row for each.

    Its id, and whether an erasure of what was there at the start still has to hide it, or to take
    over its deletion. What is neither stays so. A fork of what goes is due whenever it was made:
    its messages were there.
    """
    part = (
        select(conversation.c.id, conversation.c.create_time, conversation.c.forked_from_id)
        .where(conversation.c.owner_id == OWNER, conversation.c.id >= FROM)
        .order_by(conversation.c.id)
        .limit(LIMIT)
        .cte("part")
    )
    erasing = literal(DeletionStage.ERASING)
    goes = or_(
        part.c.create_time <= START,
        stage_of(part.c.forked_from_id).is_not_distinct_from(erasing),
    )
    is_due = and_(goes, stage_of(part.c.id).is_distinct_from(erasing))
    return select(part.c.id, is_due.label("is_due")).order_by(part.c.id)


def _adopt() -> Executable:
    """Have conversations that were deleted before go with all the others, ids and all.

    Rows are locked in order, as every batch does, so that no two wait for each other.
    """
    due = (
        select(deletion.c.conversation_id)
        .where(deletion.c.owner_id == OWNER, is_any(deletion.c.conversation_id, named_ids()))
        .order_by(deletion.c.conversation_id)
        .with_for_update(key_share=True)
        .cte("due")
    )
    return (
        update(deletion)
        .values(stage=literal(DeletionStage.ERASING), due_time=NEVER)
        .where(deletion.c.owner_id == OWNER)
        .where(is_any(deletion.c.conversation_id, select(due.c.conversation_id)))
        .returning(deletion.c.conversation_id)
    )


TO_HIDE = compiled(_to_hide())
"""Read which of an owner's next conversations an erasure has to hide."""
LOCK_CONVERSATIONS = compiled(
    select(conversation.c.id)
    .where(*_are_named(), IS_THERE)
    .order_by(conversation.c.id)
    .with_for_update()
)
"""Lock conversations, so that what follows in the transaction sees all that was done before."""
HIDE_CONVERSATIONS = compiled(_hide())
"""Hide conversations from every call, and end their open turns."""
ADOPT_DELETIONS = compiled(_adopt())
"""Have an erasure remove conversations that were deleted before."""
