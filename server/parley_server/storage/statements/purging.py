"""Statements that remove what deleted conversations held, a batch at a time.

Any worker runs them. A batch locks its row of `deletion`, so that no two workers do the same.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    Integer,
    Interval,
    LargeBinary,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    update,
)

from parley_server.core.model import DeletionStage
from parley_server.storage.schema.tables import (
    addition,
    conversation,
    conversation_label,
    creation,
    deletion,
    message,
    queue_due,
    turn,
    turn_event,
    turn_queue,
    turn_step,
    turn_wait,
)
from parley_server.storage.statements.parts import (
    CONVERSATION,
    IN_QUEUE,
    IS_IT,
    LIMIT,
    MAX_BYTES,
    OWNER,
    ZERO,
    byte_size,
    compiled,
    is_any,
    literal,
)

_IS_JOB = (deletion.c.owner_id == OWNER, deletion.c.conversation_id == CONVERSATION)
_EMPTY = literal_column("''", Text)
_NO_BYTES = cast(literal_column("''"), LargeBinary)
_A_WHILE = literal_column("interval '2 minutes'", Interval)
_LOOKED_AT = literal_column("10000", Integer)


def _job(*stages: DeletionStage, read: Sequence[ColumnElement[Any]] = ()) -> CTE:
    """Lock what is due about the conversation. No row: nothing is, or another worker is at it.

    Args:
        read: what is read besides.
    """
    return (
        select(deletion.c.stage, deletion.c.reached, *read)
        .where(*_IS_JOB, deletion.c.stage.in_([literal(stage) for stage in stages]))
        .where(deletion.c.due_time <= func.now())
        .with_for_update(skip_locked=True)
        .cte("job")
    )


def _purge() -> Executable:
    """Remove the next messages and what belongs to their turns. One row, how many, if it was due.

    A turn that has a request id keeps its row, without the digest of what was said, so that a late
    retry finds that its conversation is gone; so does what has created the conversation or added to
    it. With no message left, the deletion is a tombstone.
    """
    kept_for = cast(bindparam("tombstone", type_=Interval), Interval)
    # A sharded database lets no CASE of an UPDATE ask for the time (decision 0039).
    end = (func.now() + kept_for).label("tombstone_end")
    job = _job(DeletionStage.TRASHED, DeletionStage.PURGING, read=[end])
    reached = select(job.c.reached).scalar_subquery()
    size = byte_size(message.c) + func.coalesce(func.octet_length(message.c.opaque_state), ZERO)
    sized = (
        select(
            message.c.sequence,
            func.sum(size).over(order_by=message.c.sequence, rows=(None, 0)).label("total"),
            size.label("size"),
        )
        .where(message.c.owner_id == OWNER, message.c.conversation_id == CONVERSATION)
        .where(message.c.sequence > reached)
        .order_by(message.c.sequence)
        .limit(LIMIT)
        .subquery("sized")
    )
    part = (
        select(func.max(sized.c.sequence).label("up_to"))
        .where(or_(sized.c.total <= MAX_BYTES, sized.c.total == sized.c.size))
        .cte("part")
    )
    up_to = select(part.c.up_to).scalar_subquery()

    def is_in_part(sequence: Any) -> Any:
        return and_(sequence > reached, sequence <= up_to)

    is_first = select(job.c.stage).scalar_subquery() == literal(DeletionStage.TRASHED)
    # Turns that never began have no message: they go with the first part.
    is_turn_in_part = or_(
        is_in_part(turn.c.user_sequence), and_(turn.c.user_sequence == ZERO, is_first)
    )
    of_turn = (turn.c.owner_id == OWNER, turn.c.conversation_id == CONVERSATION)
    messages_gone = (
        delete(message)
        .where(message.c.owner_id == OWNER, message.c.conversation_id == CONVERSATION)
        .where(is_in_part(message.c.sequence))
        .returning(message.c.sequence)
        .cte("messages_gone")
    )
    in_part = select(turn.c.id).where(*of_turn, is_in_part(turn.c.user_sequence))
    of_turns_gone = [
        delete(table)
        .where(table.c.owner_id == OWNER, table.c.turn_id.in_(in_part))
        .cte(f"{table.name}_gone")
        for table in (turn_event, turn_step, turn_wait)
    ]
    # What may still count against the owner's turns of a minute stays as well.
    is_kept = or_(turn.c.request_id.is_not(None), turn.c.create_time > func.now() - _A_WHILE)
    turns_gone = delete(turn).where(*of_turn, is_turn_in_part, not_(is_kept)).cte("turns_gone")
    turns_blanked = (
        update(turn)
        .values(fingerprint=_NO_BYTES, error_text=null(), instructions_digest=null())
        .where(*of_turn, is_turn_in_part, is_kept)
        .cte("turns_blanked")
    )
    creations_blanked = (
        update(creation)
        .values(fingerprint=_NO_BYTES)
        .where(creation.c.owner_id == OWNER, creation.c.conversation_id == CONVERSATION, is_first)
        .cte("creations_blanked")
    )
    # A conversation may have one for each message. None has more of them than messages.
    some = (
        select(addition.c.request_id)
        .where(addition.c.owner_id == OWNER, addition.c.conversation_id == CONVERSATION)
        .where(addition.c.fingerprint != _NO_BYTES)
        .limit(LIMIT)
        .cte("some_additions")
    )
    additions_blanked = (
        update(addition)
        .values(fingerprint=_NO_BYTES)
        .where(addition.c.owner_id == OWNER, is_any(addition.c.request_id, select(some)))
        .where(reached.is_not(None))
        .cte("additions_blanked")
    )
    blanked = (
        update(conversation)
        .values(
            tenant_id=_EMPTY,
            user_id=_EMPTY,
            title=_EMPTY,
            preview=_EMPTY,
            labels=null(),
            instructions=null(),
            agent=null(),
        )
        .where(*IS_IT, is_first)
        .cte("blanked")
    )
    # Of what very many started turns would have said, a part was left when it was deleted.
    some_queued = select(turn_queue.c.turn_id).where(*IN_QUEUE).limit(LIMIT).cte("some_queued")
    queue_gone = (
        delete(turn_queue)
        .where(turn_queue.c.owner_id == OWNER, reached.is_not(None))
        .where(is_any(turn_queue.c.turn_id, select(some_queued)))
        .cte("queue_gone")
    )
    # Of those that it sees: another worker may have been at some of them since the statement began.
    are_last = (
        select(func.count()).select_from(seen).scalar_subquery() < LIMIT
        for seen in (some, some_queued)
    )
    is_over = and_(up_to.is_(None), *are_last)
    kept_until = select(job.c.tombstone_end).scalar_subquery()
    progressed = (
        update(deletion)
        .values(
            stage=case(
                (is_over, literal(DeletionStage.TOMBSTONE)), else_=literal(DeletionStage.PURGING)
            ),
            reached=func.coalesce(up_to, deletion.c.reached),
            due_time=case((is_over, kept_until), else_=deletion.c.due_time),
        )
        .where(*_IS_JOB, reached.is_not(None))
        .returning(deletion.c.stage)
        .cte("progressed")
    )
    count = select(func.count()).select_from(messages_gone).scalar_subquery()
    return select(progressed.c.stage, count).add_cte(
        *of_turns_gone,
        turns_gone,
        turns_blanked,
        creations_blanked,
        additions_blanked,
        queue_gone,
        blanked,
    )


def _forget() -> Executable:
    """Remove the next turns and additions of a tombstone; with the last ones all that is left.

    One row, whether that was all, if it was due.
    """
    job = _job(DeletionStage.TOMBSTONE)
    is_due = select(job.c.reached).scalar_subquery().is_not(None)
    some = (
        select(turn.c.id)
        .where(turn.c.owner_id == OWNER, turn.c.conversation_id == CONVERSATION)
        .order_by(turn.c.user_sequence)
        .limit(LIMIT)
        .cte("some_turns")
    )
    turns_gone = (
        delete(turn)
        .where(turn.c.owner_id == OWNER, turn.c.id.in_(select(some.c.id)), is_due)
        .cte("turns_gone")
    )
    some_additions = (
        select(addition.c.request_id)
        .where(addition.c.owner_id == OWNER, addition.c.conversation_id == CONVERSATION)
        .limit(LIMIT)
        .cte("some_additions")
    )
    additions_gone = (
        delete(addition)
        .where(addition.c.owner_id == OWNER, is_due)
        .where(is_any(addition.c.request_id, select(some_additions)))
        .cte("additions_gone")
    )
    # Of those that it sees, not of those that it removes: what another worker has removed since the
    # statement began is seen still, and says nothing about those behind it.
    is_last = and_(
        is_due,
        *(
            select(func.count()).select_from(seen).scalar_subquery() < LIMIT
            for seen in (some, some_additions)
        ),
    )
    of_conversation = {
        conversation: conversation.c.id,
        # A worker of the release before may have gone on with the conversation.
        message: message.c.conversation_id,
        conversation_label: conversation_label.c.conversation_id,
        creation: creation.c.conversation_id,
        turn_queue: turn_queue.c.conversation_id,
        queue_due: queue_due.c.conversation_id,
        deletion: deletion.c.conversation_id,
    }
    gone = [
        delete(table)
        .where(table.c.owner_id == OWNER, key == CONVERSATION, is_last)
        .cte(f"{table.name}_gone")
        for table, key in of_conversation.items()
    ]
    return (
        select(is_last.label("is_last")).select_from(job).add_cte(turns_gone, additions_gone, *gone)
    )


def _due() -> Executable:
    """Read what is due, of any owner: each owner's longest due one first.

    Else all others' would wait for one owner's thousand. Ten thousand are looked at, the longest
    due ones: a look takes milliseconds, however many there are.
    """
    oldest = (
        select(
            deletion.c.owner_id,
            deletion.c.conversation_id,
            deletion.c.stage,
            deletion.c.due_time,
        )
        .where(deletion.c.due_time <= func.now())
        .order_by(deletion.c.due_time)
        .limit(_LOOKED_AT)
        .subquery("oldest")
    )
    rank = func.row_number().over(
        partition_by=oldest.c.owner_id, order_by=(oldest.c.due_time, oldest.c.conversation_id)
    )
    return (
        select(oldest.c.owner_id, oldest.c.conversation_id, oldest.c.stage)
        .order_by(rank, oldest.c.due_time)
        .limit(LIMIT)
    )


DUE_DELETIONS = compiled(_due())
"""Read which deleted conversations something is due about, each owner's first ones first."""
PURGE = compiled(_purge())
"""Remove the next messages of a deleted conversation."""
FORGET = compiled(_forget())
"""Remove what a deleted conversation had left behind: its ids."""
