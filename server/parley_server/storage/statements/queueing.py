"""Statements about turns that are started: accepted now, run later by any worker.

`turn_queue` has a row for each until it has ended, `queue_due` one for each conversation with such
rows, and when to look at it. The conversation's row says how many there are, so that a claim, which
has it locked, knows that others were first. Whatever changes the rows raises `queue_number` under
that lock: a statement whose snapshot shows the number that it has locked sees the rows as they are.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    Interval,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.postgresql import insert

from parley_server.core.failures import TURN_ABANDONED_TEXT
from parley_server.core.model import FailureReason, Role, TurnState
from parley_server.storage.schema.tables import (
    conversation,
    message,
    queue_due,
    turn,
    turn_queue,
)
from parley_server.storage.statements.counting import ended_attempt, of_attempt, overrun
from parley_server.storage.statements.feeding import FEED, fed
from parley_server.storage.statements.limiting import limits
from parley_server.storage.statements.parts import (
    AGENT,
    CONTENT,
    CONVERSATION,
    EXPECTED,
    FINGERPRINT,
    IS_IT,
    LEASE_END,
    LIMIT,
    NEVER,
    ONE,
    ONE_SMALL,
    OWNER,
    REQUEST,
    TENANT,
    TOOLS,
    TURN,
    USER,
    ZERO,
    ZERO_SMALL,
    compiled,
    held_conversation,
    is_free,
    labelled,
    literal,
    one_row,
    spent_attempts,
)

_QUEUED = literal(TurnState.QUEUED)
_EMPTY = literal_column("''", Text)
_SOON = literal_column("interval '5 seconds'", Interval)
"""How long others leave a conversation alone at which a worker is."""
_IN_QUEUE = (turn_queue.c.owner_id == OWNER, turn_queue.c.conversation_id == CONVERSATION)
_IS_DUE_ROW = (queue_due.c.owner_id == OWNER, queue_due.c.conversation_id == CONVERSATION)
MISMATCH_TEXT = (
    "the conversation had another last sequence than expected when the turn was to begin"
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
        .where(*_IN_QUEUE, turn_queue.c.turn_id != select(ended.c.id).scalar_subquery())
        .order_by(turn_queue.c.position)
        .limit(ONE_SMALL)
        .scalar_subquery()
    )
    next_due = (
        update(queue_due)
        .values(
            due_time=func.now(),
            turns=queue_due.c.turns - ONE_SMALL,
            accept_time=func.coalesce(next_time, func.now()),
        )
        .where(*_IS_DUE_ROW, has_ended, length > ONE_SMALL)
        .cte("next_due")
    )
    none_due = delete(queue_due).where(*_IS_DUE_ROW, has_ended, length <= ONE_SMALL).cte("none_due")
    return removed, next_due, none_due


def out_of_queue() -> dict[str, Any]:
    """Return what a conversation's row says once a turn has left its queue."""
    return {
        "queue_length": conversation.c.queue_length - ONE_SMALL,
        "queue_number": conversation.c.queue_number + ONE,
    }


def _in_queue() -> dict[str, Any]:
    return {
        "queue_length": conversation.c.queue_length + ONE_SMALL,
        "queue_number": conversation.c.queue_number + ONE,
    }


def _waiting(accepted: CTE, position: Any) -> tuple[CTE, CTE]:
    """Put a turn into its conversation's queue, which is looked at at once.

    Args:
        accepted: the turn's id, as `id`; no row: none is accepted.
    """
    queued = (
        plain_insert(turn_queue)
        .from_select(
            [
                "owner_id",
                "turn_id",
                "conversation_id",
                "position",
                "message",
                "expected_sequence",
                "tenant",
                "tools",
            ],
            select(
                OWNER, accepted.c.id, CONVERSATION, position, CONTENT, EXPECTED, FEED, TOOLS
            ).select_from(accepted),
        )
        .cte("queued")
    )
    due = insert(queue_due).from_select(
        ["owner_id", "conversation_id", "turns"],
        select(OWNER, CONVERSATION, ONE_SMALL).select_from(accepted),
    )
    return queued, due.on_conflict_do_update(
        index_elements=["owner_id", "conversation_id"],
        set_={"turns": queue_due.c.turns + ONE_SMALL},
    ).cte("due")


_NEW_TURN_COLUMNS = [
    "owner_id",
    "id",
    "conversation_id",
    "request_id",
    "fingerprint",
    "agent",
    "state",
    "attempt",
    "user_sequence",
    "is_started",
]


def _accept(*, is_new: bool) -> Executable:
    """Store a turn to be begun later. One row: `rows.Accepted`; none: no such conversation.

    Args:
        is_new: the conversation is made for it. It has no title, which says what was said, until
            a turn begins.
    """
    limit = limits()
    queued = (
        select(func.coalesce(func.sum(queue_due.c.turns), ZERO))
        .where(queue_due.c.owner_id == OWNER)
        .cte("queued_turns")
    )
    length = select(queued).scalar_subquery()
    source: FromClause = one_row() if is_new else held_conversation()
    opened = (
        insert(turn)
        .from_select(
            _NEW_TURN_COLUMNS,
            select(
                OWNER,
                TURN,
                CONVERSATION,
                REQUEST,
                FINGERPRINT,
                AGENT,
                _QUEUED,
                ZERO_SMALL,
                ZERO,
                true(),
            )
            .select_from(source)
            .where(length < bindparam("max_queued", type_=Integer), limit.are_kept()),
        )
        # Its id as well: the statement may be sent twice.
        .on_conflict_do_nothing()
        .returning(turn.c.id)
        .cte("opened")
    )
    found = select(
        select(opened.c.id).scalar_subquery().label("id"), length.label("queued"), *limit.columns()
    )
    if is_new:
        created = (
            plain_insert(conversation)
            .from_select(
                [
                    "owner_id",
                    "id",
                    "tenant_id",
                    "user_id",
                    "title",
                    "last_sequence",
                    "preview",
                    "fence",
                    "queue_length",
                    "queue_number",
                ],
                select(
                    OWNER,
                    CONVERSATION,
                    TENANT,
                    USER,
                    _EMPTY,
                    ZERO,
                    _EMPTY,
                    ZERO,
                    ONE_SMALL,
                    ONE,
                ).select_from(opened),
            )
            .cte("created")
        )
        return found.add_cte(created, *_waiting(opened, ONE))
    noted = update(conversation).values(_in_queue()).where(*IS_IT, opened.c.id == TURN).cte("noted")
    position = select(source.c.queue_number + ONE).scalar_subquery()
    return found.select_from(source).add_cte(noted, *_waiting(opened, position))


def _requeue() -> Executable:
    """Queue a turn that has failed or was abandoned for another attempt, in front of all others.

    One row, its id, if it is the newest, not to be stopped, and has an attempt left. Of an
    abandoned one it is not written down that it was: the next attempt counts that.
    """
    held = held_conversation()
    is_failed = turn.c.state == literal(TurnState.FAILED)
    requeued = (
        update(turn)
        .values(state=case((is_failed, _QUEUED), else_=turn.c.state), is_started=true())
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN)
        .where(
            or_(is_failed, turn.c.state == literal(TurnState.RUNNING)),
            not_(turn.c.is_started),
            turn.c.cancel_requested_time.is_(None),
            turn.c.user_sequence > ZERO,
            spent_attempts() < bindparam("max_attempts", type_=Integer),
        )
        .where(turn.c.user_sequence == held.c.last_sequence, is_free(held))
        .returning(turn.c.id, turn.c.attempt, turn.c.state, held.c.lease_expires_at)
        .cte("requeued")
    )
    noted = (
        update(conversation).values(_in_queue()).where(*IS_IT, requeued.c.id == TURN).cte("noted")
    )
    told = fed(
        requeued,
        requeued.c.state == literal(TurnState.RUNNING),
        attempt=requeued.c.attempt,
        error_reason=literal(FailureReason.TURN_ABANDONED),
        end_time=func.coalesce(requeued.c.lease_expires_at, func.now()),
    )
    return select(requeued.c.id).add_cte(noted, told, *_waiting(requeued, ZERO))


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
        select(conversation.c.queue_number, conversation.c.tenant_id, conversation.c.user_id)
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
        .where(*_IN_QUEUE)
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
            user_sequence=if_fits(held.c.last_sequence + ONE, ZERO),
            is_started=fits,
            error_reason=if_fits(null(), literal(FailureReason.SEQUENCE_MISMATCH)),
            error_text=if_fits(null(), literal_column(f"'{MISMATCH_TEXT}'", Text)),
            end_time=if_fits(null(), func.now()),
        )
        .where(turn.c.owner_id == OWNER)
        # A scalar subquery uses the primary key; a join would scan every turn of the owner.
        .where(turn.c.id == select(head.c.turn_id).scalar_subquery())
        .where(turn.c.id == head.c.turn_id)
        .where(turn.c.state == _QUEUED, turn.c.user_sequence == ZERO)
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
    is_first = and_(conversation.c.last_sequence == ZERO, conversation.c.title == _EMPTY)
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
        (not_(is_free(held)), held.c.lease_expires_at),
        (is_begun, LEASE_END),
        else_=func.now() + _SOON,
    )
    later = (
        update(queue_due)
        .values(due_time=due_time)
        .where(*_IS_DUE_ROW, is_current)
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
    held = held_conversation()
    abandoned = literal(FailureReason.TURN_ABANDONED)
    ended, found = _ended_without_worker(
        held,
        turn.c.user_sequence > ZERO,
        turn.c.state.in_([literal(TurnState.RUNNING), _QUEUED]),
        is_free(held),
        state=literal(TurnState.FAILED),
        error_reason=func.coalesce(turn.c.error_reason, abandoned),
        error_text=func.coalesce(
            turn.c.error_text, literal_column(f"'{TURN_ABANDONED_TEXT}'", Text)
        ),
        end_time=func.coalesce(turn.c.end_time, func.now()),
    )
    return found.add_cte(ended_attempt(ended, ended.c.error_reason == abandoned))


def _cancel_queued() -> Executable:
    """End a turn that has not begun as cancelled, without message and answer."""
    return _ended_without_worker(
        held_conversation(),
        turn.c.state == _QUEUED,
        turn.c.user_sequence == ZERO,
        state=literal(TurnState.CANCELLED),
        end_time=func.now(),
    )[1]


ACCEPT = compiled(_accept(is_new=False))
"""Store a turn to be run later, in a conversation that is there, unless a limit is reached."""
ACCEPT_NEW = compiled(_accept(is_new=True))
"""The same, in a conversation that this statement creates."""
REQUEUE = compiled(_requeue())
"""Queue a turn that failed for another attempt, if it is the newest and has one left."""
DUE_QUEUES = compiled(_due())
"""Read where a started turn may begin, of any owner, each owner's first ones first."""
BEGIN = compiled(_begin())
"""Open the first turn of a conversation's queue, and take its lease; or say why not."""
GIVE_UP = compiled(_give_up())
"""End a started turn that has no attempt left, and that no worker runs."""
CANCEL_QUEUED = compiled(_cancel_queued())
"""Cancel a started turn that has not begun."""
WAKE_QUEUE = compiled(
    update(queue_due)
    .values(due_time=func.now())
    .where(*_IS_DUE_ROW)
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
    .where(*_IN_QUEUE)
    .order_by(turn_queue.c.position)
    .limit(ONE_SMALL)
)
"""Read which turn of a conversation's queue is the first."""


def _queue_size() -> Executable:
    some = (
        select(queue_due.c.turns, queue_due.c.accept_time)
        .order_by(queue_due.c.due_time)
        .limit(LIMIT)
        .subquery("some")
    )
    return select(
        func.coalesce(func.sum(some.c.turns), ZERO),
        func.coalesce(func.extract("epoch", func.now() - func.min(some.c.accept_time)), ZERO),
    )


QUEUE_SIZE = compiled(_queue_size())
"""Read how many started turns of all owners have not ended, and the seconds since the oldest."""
