"""Statements that open a turn: a claim, a claim again, and taking an abandoned one over."""

from typing import Any

from sqlalchemy import (
    CTE,
    Executable,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
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

from parley_server.core.model import FailureReason, Role, TurnState
from parley_server.storage.schema.tables import conversation, message, turn
from parley_server.storage.statements.counting import ended_attempt, of_attempt, overrun
from parley_server.storage.statements.feeding import fed
from parley_server.storage.statements.limiting import limits
from parley_server.storage.statements.parts import (
    AGENT,
    CONTENT,
    CONVERSATION,
    EXPECTED,
    FINGERPRINT,
    IS_IT,
    LEASE_END,
    ONE,
    ONE_SMALL,
    OWNER,
    PREVIEW,
    REQUEST,
    TENANT,
    TITLE,
    TURN,
    USER,
    ZERO,
    ZERO_SMALL,
    attempts_with,
    compiled,
    events_gone,
    given_to,
    held_conversation,
    is_free,
    is_idle,
    is_next,
    labelled,
    literal,
    noted_owner,
    one_row,
    spent_attempts,
)


def _user_message(sequence: Any, won: CTE) -> CTE:
    return (
        plain_insert(message)
        .from_select(
            ["owner_id", "conversation_id", "sequence", "turn_id", "role", "content"],
            select(
                OWNER,
                CONVERSATION,
                sequence,
                won.c.id,
                literal(Role.USER),
                CONTENT,
            ),
        )
        .cte("said")
    )


def _new_turn(sequence: Any, agent: Any) -> Select[Any]:
    """Return a new turn's row, without what it is selected from."""
    return select(
        OWNER,
        TURN,
        CONVERSATION,
        REQUEST,
        FINGERPRINT,
        agent,
        literal(TurnState.RUNNING),
        literal_column("1", Integer),
        sequence,
        func.now(),
    )


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
    "attempt_time",
]


def _claim(*, is_limited: bool, is_abandoned: bool = False) -> Executable:
    """Open a turn on an existing conversation, or say why not.

    One row, `rows.ClaimRow`, or none: no such conversation.

    Args:
        is_abandoned: also where the lease of an open turn has passed, which ends that turn. Hardly
            any claim needs it, and each would pay for its parts.
    """
    held = held_conversation()
    agent = given_to(AGENT, held)
    limit = limits(select(agent).select_from(held)) if is_limited else None
    opened = (
        insert(turn)
        .from_select(
            _NEW_TURN_COLUMNS,
            _new_turn(held.c.last_sequence + ONE, agent)
            .select_from(held)
            .where(
                is_next(held) if is_abandoned else is_idle(held),
                or_(EXPECTED.is_(None), held.c.last_sequence == EXPECTED),
                *([] if limit is None else [limit.are_kept()]),
            ),
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "request_id"])
        .returning(turn.c.id, turn.c.user_sequence, turn.c.agent)
        .cte("opened")
    )
    is_first = and_(
        conversation.c.last_sequence == ZERO, conversation.c.title == literal_column("''", Text)
    )
    taken = (
        update(conversation)
        .values(
            title=case((is_first, TITLE), else_=conversation.c.title),
            last_sequence=opened.c.user_sequence,
            fence=conversation.c.fence + ONE,
            preview=PREVIEW,
            open_turn_id=opened.c.id,
            lease_expires_at=LEASE_END,
            update_time=func.now(),
        )
        .where(*IS_IT)
        .where(opened.c.id == TURN)
        .returning(conversation.c.labels)
        .cte("taken")
    )
    return (
        select(
            opened.c.user_sequence,
            held.c.last_sequence,
            held.c.fence,
            held.c.open_turn_id,
            held.c.lease_expires_at,
            held.c.update_time,
            is_next(held).label("is_free"),
            held.c.queue_length,
            held.c.instructions,
            opened.c.agent,
            *(() if limit is None else limit.columns()),
        )
        .select_from(held.outerjoin(opened, true()))
        .add_cte(
            *(overrun(held, opened.c.id != turn.c.id) if is_abandoned else ()),
            _user_message(opened.c.user_sequence, opened),
            labelled(taken, taken.c.labels, func.now()),
        )
    )


def _claim_new(*, is_limited: bool) -> Executable:
    """Open a turn on a conversation made for it.

    One row, the turn's id, unless a turn has the request id. Limited, always one: the id, or
    null, and which limit is reached.
    """
    limit = limits(select(AGENT.label("agent")).select_from(one_row())) if is_limited else None
    this_turn = _new_turn(ONE, AGENT).select_from(one_row())
    if limit is not None:
        this_turn = this_turn.where(limit.are_kept())
    opened = (
        insert(turn)
        .from_select(_NEW_TURN_COLUMNS, this_turn)
        .on_conflict_do_nothing(index_elements=["owner_id", "request_id"])
        .returning(turn.c.id)
        .cte("opened")
    )
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
                "open_turn_id",
                "lease_expires_at",
            ],
            select(
                OWNER,
                CONVERSATION,
                TENANT,
                USER,
                TITLE,
                ONE,
                PREVIEW,
                ONE,
                opened.c.id,
                LEASE_END,
            ),
        )
        .cte("created")
    )
    found = select(opened.c.id)
    if limit is not None:
        found = select(found.scalar_subquery(), *limit.columns()).select_from(one_row())
    return found.add_cte(created, _user_message(ONE, opened), noted_owner(opened))


def _create() -> Executable:
    """Make an empty conversation unless there is one. A claim follows in the transaction."""
    return (
        insert(conversation)
        .values(
            owner_id=OWNER,
            id=CONVERSATION,
            tenant_id=TENANT,
            user_id=USER,
            title=TITLE,
            last_sequence=ZERO,
            preview=literal_column("''", Text),
            fence=ZERO,
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "id"])
        .add_cte(noted_owner(one_row()))
    )


def _reclaim(*, is_new_attempt: bool) -> Executable:
    """Take the lease of a turn that is still the newest. One row, its attempt and fence, if taken.

    Args:
        is_new_attempt: True: a failed or abandoned turn that is not to be stopped and that has
            an attempt left, to be run again; its events go. False: an abandoned one, whether or
            not that was written down, or one that was to be stopped, to be ended with what it has.
    """
    held = held_conversation(has_time=not is_new_attempt)
    changes: dict[str, Any] = {
        "state": literal(TurnState.RUNNING),
        "error_reason": null(),
        "error_text": null(),
        "end_time": null(),
    }
    is_abandoned = turn.c.state == literal(TurnState.RUNNING)
    is_failed = turn.c.state == literal(TurnState.FAILED)
    # Its attempt has ended, and it is to be run again.
    is_queued = and_(turn.c.state == literal(TurnState.QUEUED), turn.c.user_sequence > ZERO)
    is_to_stop = turn.c.cancel_requested_time.is_not(None)
    reason = case((is_abandoned, literal(FailureReason.TURN_ABANDONED)), else_=turn.c.error_reason)
    has_died = reason == literal(FailureReason.TURN_ABANDONED)
    changes["attempts"] = attempts_with(case((has_died, null()), else_=turn.c.end_time), reason)
    if is_new_attempt:
        changes |= {
            "attempt": turn.c.attempt + ONE_SMALL,
            "attempt_time": func.now(),
            # The one before is, if it has ended.
            "is_counted": false(),
            "spent_attempts": spent_attempts(),
            "abandoned_attempts": case(
                (is_abandoned, turn.c.abandoned_attempts + ONE_SMALL), else_=ZERO_SMALL
            ),
        }
        is_right = and_(
            or_(is_abandoned, is_failed, is_queued),
            not_(is_to_stop),
            spent_attempts() < bindparam("max_attempts", type_=Integer),
        )
    else:
        # From here on it is to be stopped, even if this worker does not get to ending it.
        changes["cancel_requested_time"] = func.coalesce(turn.c.cancel_requested_time, held.c.now)
        changes["is_counted"] = or_(turn.c.is_counted, is_failed, is_queued)
        # Its conversation was deleted while it ran, and brought back.
        was_abandoned = turn.c.error_reason == literal(FailureReason.TURN_ABANDONED)
        is_right = or_(is_abandoned, is_queued, and_(is_failed, or_(is_to_stop, was_abandoned)))
    retaken = (
        update(turn)
        .values(changes)
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN, is_right)
        .where(turn.c.user_sequence == held.c.last_sequence, is_free(held))
        .returning(
            turn.c.id,
            turn.c.attempt,
            turn.c.abandoned_attempts,
            turn.c.is_started,
            held.c.lease_expires_at,
            *of_attempt(held.c.labels),
        )
        .cte("retaken")
    )
    taken = (
        update(conversation)
        .values(
            fence=conversation.c.fence + ONE,
            open_turn_id=retaken.c.id,
            lease_expires_at=LEASE_END,
            # Lists are ordered by it: ending a turn is no activity.
            **({"update_time": func.now()} if is_new_attempt else {}),
        )
        .where(*IS_IT)
        .where(retaken.c.id == TURN)
        .returning(conversation.c.labels)
        .cte("taken")
    )
    found = select(
        retaken.c.attempt, held.c.fence + ONE, held.c.instructions, retaken.c.is_started
    ).select_from(held, retaken)
    if not is_new_attempt:
        return found.add_cte(taken)
    # The attempt before was counted when it failed, unless nothing but its lease has ended it.
    was_abandoned = retaken.c.abandoned_attempts > ZERO_SMALL
    return found.add_cte(
        labelled(taken, taken.c.labels, func.now()),
        events_gone(retaken),
        ended_attempt(retaken, was_abandoned),
        fed(
            retaken,
            was_abandoned,
            # That of a started turn is to be run again: it has not ended.
            not_(retaken.c.is_started),
            attempt=retaken.c.attempt - ONE_SMALL,
            error_reason=literal(FailureReason.TURN_ABANDONED),
            end_time=func.coalesce(retaken.c.lease_expires_at, func.now()),
        ),
    )


CLAIM = compiled(_claim(is_limited=False))
"""Open a turn in a conversation that is there, and take its lease; or say why not."""
CLAIM_LIMITED = compiled(_claim(is_limited=True))
"""The same, unless the owner has reached its turns of a minute or its tokens of a day."""
CLAIM_ABANDONED = compiled(_claim(is_limited=False, is_abandoned=True))
"""Open a turn in a conversation whose open turn was abandoned, and write that down."""
CLAIM_ABANDONED_LIMITED = compiled(_claim(is_limited=True, is_abandoned=True))
"""The same, unless the owner has reached its turns of a minute or its tokens of a day."""
CLAIM_NEW = compiled(_claim_new(is_limited=False))
"""Open the first turn of a conversation that this statement creates."""
CLAIM_NEW_LIMITED = compiled(_claim_new(is_limited=True))
"""The same, unless the owner has reached its turns of a minute or its tokens of a day."""
CREATE = compiled(_create())
"""Create a conversation under an id of the caller's, unless it is there."""
RECLAIM = compiled(_reclaim(is_new_attempt=True))
"""Take a failed or abandoned turn for a new attempt, if it is the newest and has one left."""
TAKE_OVER = compiled(_reclaim(is_new_attempt=False))
"""Take an abandoned turn that is to be stopped, to close it without another attempt."""
