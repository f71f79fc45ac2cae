"""Statements about turns that wait for their caller (decision 0031).

Such a turn is its conversation's open turn, and the conversation has no lease: nothing takes it
over because of the time. Whatever begins or ends a wait raises the fence, so a statement that names
the fence at which a turn was looked at finds it as it was, or does nothing.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    Boolean,
    Executable,
    Interval,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    column,
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

from parley_server.core.model import StepKind, TurnState
from parley_server.storage.schema.tables import (
    conversation,
    message,
    queue_due,
    turn,
    turn_step,
    turn_wait,
    wait_due,
)
from parley_server.storage.statements.counting import ended_attempt
from parley_server.storage.statements.feeding import fed
from parley_server.storage.statements.parts import (
    CONTENT,
    CONVERSATION,
    FENCE,
    IS_IT,
    LEASE_END,
    LIMIT,
    NEVER,
    NOT_EVEN_ONE,
    ONE,
    ONE_SMALL,
    OWNER,
    TOOLS,
    TURN,
    ZERO_SMALL,
    attempts_with,
    compiled,
    events_gone,
    held_conversation,
    labelled,
    literal,
)
from parley_server.storage.statements.reading import turn_as_read

_DIGESTS = bindparam("digests", type_=Text)
_WAITING = literal(TurnState.WAITING)
_IS_DUE_ROW = (wait_due.c.owner_id == OWNER, wait_due.c.turn_id == TURN)
_IS_WAIT = (turn_wait.c.owner_id == OWNER, turn_wait.c.turn_id == TURN)


def _as_seen(held: CTE) -> tuple[Any, ...]:
    """Say that the open turn's lease, or its wait, is the one that the caller knows of."""
    return held.c.fence == FENCE, held.c.open_turn_id == TURN


def _taken(of: CTE, **values: Any) -> CTE:
    """Take the lease, with the next fence, for a turn that another part has changed."""
    return (
        update(conversation)
        .values(fence=conversation.c.fence + ONE, lease_expires_at=LEASE_END, **values)
        .where(*IS_IT, of.c.id == TURN)
        .returning(conversation.c.labels)
        .cte("taken")
    )


def _queue_due_at(time: Any, of: CTE) -> CTE:
    """Have the conversation's queue, if there is one, looked at then."""
    return (
        update(queue_due)
        .values(due_time=time)
        .where(queue_due.c.owner_id == OWNER, queue_due.c.conversation_id == CONVERSATION)
        .where(of.c.id == TURN)
        .cte("queue_looked_at")
    )


def _wait() -> Executable:
    """End an attempt: its turn waits, unless it is to be stopped.

    One row if the lease is ours: whether the turn is to be stopped. Then nothing was changed.
    """
    held = held_conversation()
    ended = (
        update(turn)
        .values(
            state=_WAITING,
            # From here on the attempt counts as counted, whatever ends the turn.
            is_counted=true(),
            attempts=attempts_with(func.now(), null()),
            # It has not failed: its conversation may be deleted and brought back again and again.
            spent_attempts=NOT_EVEN_ONE,
            abandoned_attempts=ZERO_SMALL,
        )
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN, *_as_seen(held))
        .where(turn.c.cancel_requested_time.is_(None))
        .returning(
            turn.c.id,
            turn.c.attempt,
            turn.c.agent,
            false().label("is_counted"),
            held.c.labels.label("labels"),
        )
        .cte("ended")
    )
    let_go = (
        update(conversation)
        .values(fence=conversation.c.fence + ONE, lease_expires_at=null())
        .where(*IS_IT, ended.c.id == TURN)
        .cte("let_go")
    )
    end_time = func.now() + cast(bindparam("waiting", type_=Interval), Interval)
    row = {
        "end_time": end_time,
        "calls": bindparam("calls", type_=Text),
        "content": CONTENT,
        "tool_calls": bindparam("tool_calls", type_=Text),
        "usage": bindparam("usage", type_=Text),
        "model": bindparam("model", type_=Text),
        "tools": TOOLS,
    }
    written = insert(turn_wait).from_select(
        ["owner_id", "turn_id", "digests", *row],
        select(OWNER, ended.c.id, literal_column("'{}'", Text), *row.values()).select_from(ended),
    )
    waits = written.on_conflict_do_update(
        index_elements=["owner_id", "turn_id"],
        set_={**{name: written.excluded[name] for name in row}, "ended_by": null()},
    ).cte("waits")
    due = insert(wait_due).from_select(
        ["owner_id", "turn_id", "conversation_id", "due_time"],
        select(OWNER, ended.c.id, CONVERSATION, end_time).select_from(ended),
    )
    is_due = due.on_conflict_do_update(
        index_elements=["owner_id", "turn_id"], set_={"due_time": due.excluded.due_time}
    ).cte("is_due")
    return (
        select(ended.c.id.is_(None))
        .select_from(held.outerjoin(ended, true()))
        .where(*_as_seen(held))
        .add_cte(
            let_go,
            waits,
            is_due,
            _queue_due_at(NEVER, ended),
            ended_attempt(ended, is_waiting=True, has_usage=True),
            fed(ended, attempt=ended.c.attempt, is_waiting=True),
        )
    )


def _given(held: CTE) -> tuple[CTE, CTE]:
    """Store what was given, if the turn waits as it was seen, and was given no more since.

    Returns: the turn's id, as `id`, if so; and its new steps. What the turn was given is compared
    with its row as it is once it is locked; only then the steps that the statement sees are all.
    """
    given = (
        update(turn_wait)
        .values(digests=_DIGESTS)
        .where(*_IS_WAIT, turn_wait.c.digests == bindparam("known_digests", type_=Text))
        .where(*_as_seen(held))
        .returning(turn_wait.c.turn_id.label("id"))
        .cte("given")
    )
    bodies = (
        func.json_array_elements_text(cast(bindparam("bodies", type_=Text), JSON))
        .table_valued(column("body", Text), with_ordinality="place")
        .render_derived(name="bodies")
    )
    last = (
        select(func.coalesce(func.max(turn_step.c.number), ZERO_SMALL))
        .where(turn_step.c.owner_id == OWNER, turn_step.c.turn_id == TURN)
        .scalar_subquery()
    )
    stored = (
        plain_insert(turn_step)
        .from_select(
            ["owner_id", "turn_id", "number", "kind", "body"],
            select(
                OWNER, TURN, last + bodies.c.place, literal(StepKind.GIVEN), bodies.c.body
            ).select_from(given.join(bodies, true())),
        )
        .cte("stored")
    )
    return given, stored


def _give() -> Executable:
    """Store what was given for some of the calls. One row, if the turn waits as it was seen."""
    given, stored = _given(held_conversation())
    return select(given.c.id).add_cte(stored)


def _lease(of: CTE, held: CTE) -> Select[Any]:
    return select(
        of.c.attempt, held.c.fence + ONE, held.c.instructions, of.c.is_started
    ).select_from(held.join(of, true()))


def _resume() -> Executable:
    """Store what was given for the last calls, and take the lease for a new attempt.

    One row, if the turn waits as it was seen: its attempt and fence.
    """
    held = held_conversation()
    given, stored = _given(held)
    retaken = (
        update(turn)
        .values(
            state=literal(TurnState.RUNNING),
            attempt=turn.c.attempt + ONE_SMALL,
            attempt_time=func.now(),
            is_counted=false(),
            spent_attempts=ZERO_SMALL,
            abandoned_attempts=ZERO_SMALL,
        )
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN, turn.c.id == given.c.id)
        .returning(turn.c.id, turn.c.attempt, turn.c.is_started)
        .cte("retaken")
    )
    taken = _taken(retaken, update_time=func.now())
    none_due = delete(wait_due).where(*_IS_DUE_ROW, retaken.c.id == TURN).cte("none_due")
    return _lease(retaken, held).add_cte(
        stored,
        labelled(taken, taken.c.labels, func.now()),
        none_due,
        events_gone(retaken),
        _queue_due_at(LEASE_END, retaken),
    )


def _end_wait() -> Executable:
    """Take the lease of a waiting turn to end it with what it has. One row, if it waits as seen.

    Should the worker go away before that, the turn is due once the lease has passed.
    """
    held = held_conversation(has_time=True)
    is_over = select(turn_wait.c.end_time).where(*_IS_WAIT).scalar_subquery() <= func.now()
    only_if_over = cast(bindparam("only_if_over", type_=Boolean), Boolean)
    retaken = (
        update(turn)
        .values(
            state=literal(TurnState.RUNNING),
            cancel_requested_time=func.coalesce(turn.c.cancel_requested_time, held.c.now),
        )
        .where(turn.c.owner_id == OWNER, turn.c.id == TURN, turn.c.state == _WAITING)
        .where(*_as_seen(held), or_(not_(only_if_over), is_over))
        .returning(turn.c.id, turn.c.attempt, turn.c.is_started)
        .cte("retaken")
    )
    noted = (
        update(turn_wait)
        .values(ended_by=bindparam("why", type_=Text))
        .where(*_IS_WAIT, retaken.c.id == TURN)
        .cte("noted")
    )
    due_again = (
        update(wait_due)
        .values(due_time=LEASE_END)
        .where(*_IS_DUE_ROW, retaken.c.id == TURN)
        .cte("due_again")
    )
    return _lease(retaken, held).add_cte(
        _taken(retaken), noted, due_again, _queue_due_at(LEASE_END, retaken)
    )


def looked_at() -> Select[Any]:
    """Read a turn with its own message, and with the tools with which it waits."""
    asked = message.alias("asked")
    its_own = and_(
        asked.c.owner_id == OWNER,
        asked.c.conversation_id == CONVERSATION,
        asked.c.sequence == turn.c.user_sequence,
    )
    return (
        turn_as_read(turn.c.id == TURN, turn.c.conversation_id == CONVERSATION)
        .outerjoin(asked, its_own)
        .add_columns(asked.c.content.label("asked_content"), turn_wait.c.tools)
    )


WAIT = compiled(_wait())
"""End an attempt whose turn waits for its caller from now on, unless the turn is to be stopped."""
GIVE = compiled(_give())
"""Store what a caller gave for some of the calls that a turn waits for."""
RESUME = compiled(_resume())
"""Store what a caller gave for the last of them, and take the lease for a new attempt."""
END_WAIT = compiled(_end_wait())
"""Take a turn that waits, to close it without another attempt."""
LOOK_AT_WAIT = compiled(looked_at())
"""Read a turn, what it waits for, and what it needs to go on."""
DUE_WAITS = compiled(
    select(wait_due.c.owner_id, wait_due.c.conversation_id, wait_due.c.turn_id)
    .where(wait_due.c.due_time <= func.now())
    .order_by(wait_due.c.due_time)
    .limit(LIMIT)
)
"""Read which turns have waited for too long, of any owner."""
DUE_TURN = compiled(
    turn_as_read(turn.c.id == TURN, turn.c.conversation_id == CONVERSATION).add_columns(
        conversation.c.tenant_id, conversation.c.user_id
    )
)
"""Read a turn that has waited for too long, and whose it is."""
FORGET_WAIT = compiled(
    delete(wait_due)
    .where(*_IS_DUE_ROW, wait_due.c.due_time <= func.now())
    .returning(wait_due.c.turn_id)
)
"""Have a turn that has ended not looked at any more."""
