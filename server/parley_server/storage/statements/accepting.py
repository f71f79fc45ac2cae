"""Statements by which a started turn comes into its conversation's queue, to be run by any worker.

`turn_queue` has a row for each started turn until it has ended, `queue_due` one for each
conversation with such rows, and when to look at it. The conversation's row says how many there are,
so that a claim, which has it locked, knows that others were first. Whatever changes the rows raises
`queue_number` under that lock: a statement whose snapshot shows the number that it has locked sees
the rows as they are.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    Executable,
    FromClause,
    Integer,
    bindparam,
    case,
    func,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.postgresql import insert

from parley_server.core.model import FailureReason, TurnState
from parley_server.storage.schema.tables import (
    conversation,
    queue_due,
    turn,
    turn_queue,
)
from parley_server.storage.statements.feeding import FEED, fed
from parley_server.storage.statements.limiting import limits
from parley_server.storage.statements.parts import (
    AGENT,
    CONTENT,
    CONVERSATION,
    EMPTY,
    EXPECTED,
    FINGERPRINT,
    IS_IT,
    ONE,
    ONE_SMALL,
    OWNER,
    QUEUED,
    REQUEST,
    TENANT,
    TOOLS,
    TURN,
    USER,
    ZERO,
    ZERO_SMALL,
    compiled,
    given_to,
    held_conversation,
    is_free,
    literal,
    noted_owner,
    one_row,
    spent_attempts,
)


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


def _accept(*, is_new: bool, is_limited: bool) -> Executable:
    """Store a turn to be begun later. One row: `rows.Accepted`; none: no such conversation.

    Args:
        is_new: the conversation is made for it. It has no title, which says what was said, until
            a turn begins.
        is_limited: whether the owner's limits are looked at; `rows.Limited` follows.

    `max_queued` is null where the owner's queue is known to have room: it is not counted then.
    """
    max_queued = bindparam("max_queued", type_=Integer)
    queued = (
        select(func.sum(queue_due.c.turns).label("length"))
        .where(queue_due.c.owner_id == OWNER, max_queued.is_not(None))
        .cte("queued_turns")
    )
    length = select(queued).scalar_subquery()
    has_room = [func.coalesce(length < max_queued, true())]
    columns: tuple[Any, ...] = ()
    source: FromClause = one_row() if is_new else held_conversation()
    if is_limited:
        agent = AGENT.label("agent") if is_new else given_to(AGENT, source)
        limit = limits(select(agent).select_from(source))
        has_room.append(limit.are_kept())
        columns = limit.columns()
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
                QUEUED,
                ZERO_SMALL,
                ZERO,
                true(),
            )
            .select_from(source)
            .where(*has_room),
        )
        # Its id as well: the statement may be sent twice.
        .on_conflict_do_nothing()
        .returning(turn.c.id)
        .cte("opened")
    )
    found = select(
        select(opened.c.id).scalar_subquery().label("id"),
        length.label("queued"),
        func.now().label("create_time"),
        (ZERO if is_new else source.c.last_sequence).label("last_sequence"),
        (ZERO if is_new else source.c.fence).label("fence"),
        *columns,
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
                    EMPTY,
                    ZERO,
                    EMPTY,
                    ZERO,
                    ONE_SMALL,
                    ONE,
                ).select_from(opened),
            )
            .cte("created")
        )
        return found.select_from(source).add_cte(
            created, noted_owner(opened), *_waiting(opened, ONE)
        )
    noted = update(conversation).values(_in_queue()).where(*IS_IT, opened.c.id == TURN).cte("noted")
    position = select(source.c.queue_number + ONE).scalar_subquery()
    return found.select_from(source).add_cte(noted, *_waiting(opened, position))


def _requeue() -> Executable:
    """Queue a turn that has failed or was abandoned for another attempt, in front of all others.

    One row, its id, if it is the newest, not to be stopped, and has an attempt left. Of an
    abandoned one it is not written down that it was: the next attempt counts that. Its worker
    writes nothing any more.
    """
    held = held_conversation()
    is_failed = turn.c.state == literal(TurnState.FAILED)
    requeued = (
        update(turn)
        .values(state=case((is_failed, QUEUED), else_=turn.c.state), is_started=true())
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
        update(conversation)
        # A late worker would end the turn as one that is in no queue.
        .values(fence=conversation.c.fence + ONE, **_in_queue())
        .where(*IS_IT, requeued.c.id == TURN)
        .cte("noted")
    )
    told = fed(
        requeued,
        requeued.c.state == literal(TurnState.RUNNING),
        attempt=requeued.c.attempt,
        error_reason=literal(FailureReason.TURN_ABANDONED),
        end_time=func.coalesce(requeued.c.lease_expires_at, func.now()),
    )
    return select(requeued.c.id).add_cte(noted, told, *_waiting(requeued, ZERO))


ACCEPT = compiled(_accept(is_new=False, is_limited=False))
"""Store a turn to be run later, in a conversation that is there, unless the queue is full."""
ACCEPT_LIMITED = compiled(_accept(is_new=False, is_limited=True))
"""The same, if the owner has not reached a limit."""
ACCEPT_NEW = compiled(_accept(is_new=True, is_limited=False))
"""Store a turn to be run later, in a conversation that this statement creates."""
ACCEPT_NEW_LIMITED = compiled(_accept(is_new=True, is_limited=True))
"""The same, if the owner has not reached a limit."""
REQUEUE = compiled(_requeue())
"""Queue a turn that failed for another attempt, if it is the newest and has one left."""
