"""What statements are made of: parameters, constants, and the conversation's row, locked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    Interval,
    LargeBinary,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    column,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from parley_server.core.failures import TURN_ABANDONED_TEXT
from parley_server.core.model import UNCOUNTED, FailureReason, TurnState
from parley_server.storage.schema.tables import (
    conversation,
    conversation_label,
    owner,
    queue_due,
    turn,
    turn_event,
    turn_queue,
    turn_step,
    turn_wait,
    wait_due,
)

_PARAMETER = re.compile(r"\$(\d+)::(TIMESTAMP WITH TIME ZONE|[A-Z]+)")
_CAST = re.compile(r"CAST\((\$\d+) AS (BYTEA|INTERVAL|BOOLEAN)\)")
_DIALECT = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement to be rendered."""

    text: str
    """With named parameters, `:owner`."""
    types: Mapping[str, str]
    """Of its parameters, by name, in the order of their first use."""


def compiled(statement: Executable) -> Compiled:
    """Return the statement as Postgres takes it, but for the names of its parameters."""
    made = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
    names = tuple(made.positiontup or ())
    if unnamed := [name for name in names if name[-1].isdigit()]:
        raise AssertionError(f"parameters without a name, {unnamed}, in {made}")
    types: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        name, type_ = names[int(found[1]) - 1], found[2].lower().replace("varchar", "text")
        if types.setdefault(name, type_) != type_:
            raise AssertionError(f"{name} is {types[name]} and {type_} in {made}")
        return f":{name}"

    return Compiled(_PARAMETER.sub(named, _CAST.sub(r"\1::\2", str(made))), types)


# The parameters, by name. Every statement has `owner`.
OWNER = bindparam("owner", type_=Uuid)
CONVERSATION = bindparam("conversation", type_=Uuid)
TURN = bindparam("turn", type_=Uuid)
REQUEST = bindparam("request", type_=Text)
FINGERPRINT = cast(bindparam("fingerprint", type_=LargeBinary), LargeBinary)
AGENT = bindparam("agent", type_=Text)
CONTENT = bindparam("content", type_=Text)
TITLE = bindparam("title", type_=Text)
PREVIEW = bindparam("preview", type_=Text)
TENANT = bindparam("tenant", type_=Text)
USER = bindparam("user", type_=Text)
TOOLS = bindparam("tools", type_=Text)
EXPECTED = bindparam("expected", type_=BigInteger)
FENCE = bindparam("fence", type_=BigInteger)
LIMIT = bindparam("limit", type_=Integer)
MAX_BYTES = bindparam("max_bytes", type_=BigInteger)

ATTEMPT = bindparam("attempt", type_=Integer)

IS_IT = (conversation.c.owner_id == OWNER, conversation.c.id == CONVERSATION)
IS_THERE = conversation.c.delete_time.is_(None)
"""Of a conversation, that it is not deleted."""

IN_QUEUE = (turn_queue.c.owner_id == OWNER, turn_queue.c.conversation_id == CONVERSATION)
"""Of started turns, that they are the conversation's."""
IS_DUE_ROW = (queue_due.c.owner_id == OWNER, queue_due.c.conversation_id == CONVERSATION)
"""Of where to look for started turns, that it is the conversation."""
NEVER: ColumnElement[datetime] = literal_column("'9999-12-31'::timestamptz")

LEASE_END = func.now() + cast(bindparam("lease", type_=Interval), Interval)

# Constants are written into the statement: a parameter each would be sent with every call.
ONE = literal_column("1::bigint", BigInteger)
ZERO = literal_column("0::bigint", BigInteger)
ONE_SMALL = literal_column("1", Integer)
NOT_EVEN_ONE = literal_column("-1", Integer)
"""Of attempts that count: the present one will not, although it may fail."""
ZERO_SMALL = literal_column("0", Integer)


MAX_ATTEMPTS_KEPT = literal_column("20", Integer)
"""Of so many attempts of a turn it is kept when they began and how they ended."""

FORGOTTEN_WAIT: dict[str, Any] = {
    name: null() for name in ("calls", "content", "tool_calls", "usage", "model", "tools")
}
"""What a turn waited for, once it is of no use any more."""
ANSWERED_WAIT = {name: value for name, value in FORGOTTEN_WAIT.items() if name != "tools"}
"""The same of a turn that is answered. A rehearsal offers the caller's tools again."""


def literal(of: StrEnum) -> ColumnElement[str]:
    """Return a value of an enum as a constant in the statement."""
    return literal_column(f"'{of.value}'::text", Text)


QUEUED = literal(TurnState.QUEUED)
EMPTY = literal_column("''", Text)


def spent_attempts() -> ColumnElement[int]:
    """How many attempts of a turn that has ended without an answer count, the last one included.

    Of an abandoned turn no reason is stored yet, and its attempt counts, unless it has stored a
    step. `rows.turn` says the same.
    """
    is_uncounted = turn.c.error_reason.in_([literal(reason) for reason in UNCOUNTED])
    last = case((is_uncounted, ZERO_SMALL), else_=ONE_SMALL)
    return func.greatest(turn.c.spent_attempts + last, ZERO_SMALL, type_=Integer)


def attempts_with(end_time: Any, reason: Any) -> ColumnElement[Any]:
    """Return a turn's attempts, the present one behind the others, which has ended so.

    Args:
        end_time: when; null: unknown.
        reason: why it failed; null: it did not.

    What is new is made in a query of its own: a sharded database lets no UPDATE give columns to a
    function whose result depends on settings, as times in JSON do (decision 0039).
    """
    known = func.coalesce(turn.c.attempts, literal_column("'[]'::jsonb", JSONB))
    is_full = func.jsonb_array_length(known) >= MAX_ATTEMPTS_KEPT
    ended = func.jsonb_build_array(
        func.jsonb_build_object(
            literal_column("'number'", Text),
            turn.c.attempt,
            literal_column("'start_time'", Text),
            turn.c.attempt_time,
            literal_column("'end_time'", Text),
            end_time,
            literal_column("'reason'", Text),
            reason,
        )
    )
    kept = case((is_full, known.op("-")(ZERO_SMALL)), else_=known)
    return kept.op("||", return_type=JSONB)(select(ended).correlate(turn).scalar_subquery())


def held_conversation(*, skip_locked: bool = False, has_time: bool = False) -> CTE:
    """Lock the conversation and read it as it is once the lock is had; no row: there is none.

    Its WHERE names keys only, and that it is not deleted, which is asked again under the lock.

    Args:
        skip_locked: no row either if another statement holds it.
        has_time: with the time, as `now`: a sharded database lets no CASE or COALESCE of an UPDATE
            ask for it (decision 0039).
    """
    return (
        select(
            conversation.c.last_sequence,
            conversation.c.fence,
            conversation.c.open_turn_id,
            conversation.c.lease_expires_at,
            conversation.c.update_time,
            conversation.c.instructions,
            conversation.c.agent,
            conversation.c.labels,
            conversation.c.queue_length,
            conversation.c.queue_number,
            *((func.now().label("now"),) if has_time else ()),
        )
        .where(*IS_IT, IS_THERE)
        .with_for_update(key_share=True, skip_locked=skip_locked)
        .cte("held")
    )


def given_to(named: Any, held: FromClause) -> ColumnElement[str]:
    """Return whom a turn is given to: whom its caller names, else its conversation's agent.

    Args:
        named: empty: nobody.
    """
    return func.coalesce(func.nullif(named, EMPTY), held.c.agent, EMPTY, type_=Text).label("agent")


def one_row() -> FromClause:
    """One row, always, from the owner's own shard.

    An INSERT that selects from no table is not sent to one shard, but carried out piece by piece
    (decision 0022).
    """
    return select(func.count()).select_from(conversation).where(*IS_IT).subquery("one_row")


def labelled(of: FromClause, labels: Any, update_time: Any) -> CTE:
    """Write a conversation's labels for lists, or move them to where it is in lists now.

    Args:
        of: a row for each conversation: one, or none.
        labels: in that row, as JSON; null: none.

    Whatever this statement's snapshot shows of them: the conversation's row, which is locked, says
    which labels there are.
    """
    pairs = (
        func.json_each_text(cast(labels, JSON))
        .table_valued(column("key", Text), column("value", Text))
        .lateral("pairs")
    )
    written = insert(conversation_label).from_select(
        ["owner_id", "conversation_id", "key", "value", "update_time"],
        select(OWNER, CONVERSATION, pairs.c.key, pairs.c.value, update_time).select_from(
            of.join(pairs, true())
        ),
    )
    return written.on_conflict_do_update(
        index_elements=["owner_id", "conversation_id", "key"],
        set_={"value": written.excluded.value, "update_time": written.excluded.update_time},
    ).cte("labelled")


def noted_owner(of: FromClause) -> CTE:
    """Note who has conversations, for retention. For an owner that is known, one look at an index.

    Args:
        of: a row if a conversation is made.
    """
    return (
        insert(owner)
        .from_select(["owner_id"], select(OWNER).select_from(of))
        .on_conflict_do_nothing(index_elements=["owner_id"])
        .cte("noted")
    )


def abandoned(end_time: Any) -> dict[str, Any]:
    """Return what is written of a turn whose worker went away, or its conversation."""
    return {
        "state": literal(TurnState.FAILED),
        "error_reason": literal(FailureReason.TURN_ABANDONED),
        "error_text": literal_column(f"'{TURN_ABANDONED_TEXT}'", Text),
        "end_time": end_time,
    }


def is_open(of: Any) -> ColumnElement[bool]:
    """Say whether a turn of a conversation holds a valid lease, or waits for its caller.

    One that waits has no lease, and is the conversation's open turn.
    """
    has_lease = or_(of.c.lease_expires_at.is_(None), of.c.lease_expires_at > func.now())
    return and_(of.c.open_turn_id.is_not(None), has_lease)


def is_free(held: CTE) -> Any:
    """No turn of it holds a valid lease, or waits for its caller: then this is null."""
    return or_(held.c.open_turn_id.is_(None), held.c.lease_expires_at <= func.now())


def is_next(held: CTE) -> Any:
    """Say whether it is free, and no started turn waits for it or is to be run again."""
    return and_(is_free(held), held.c.queue_length == ZERO_SMALL)


def is_idle(held: CTE) -> Any:
    """Say whether no turn of it is open, not even an abandoned one, and no started turn waits."""
    return and_(held.c.open_turn_id.is_(None), held.c.queue_length == ZERO_SMALL)


def is_any(value: ColumnElement[Any], found: Select[Any]) -> ColumnElement[bool]:
    """Say that a key is one of some that were found.

    As an array: with it the index is used, whatever the planner thinks how many there are. A join
    could read all rows of the owner.
    """
    return value == func.any(func.array(found.scalar_subquery()))


def byte_size(of: Any) -> ColumnElement[int]:
    """Bytes of a message's text and tool calls, known without reading them."""
    return func.octet_length(of.content) + func.coalesce(func.octet_length(of.tool_calls), ZERO)


def steps_gone(of: CTE) -> CTE:
    """Remove the steps of a turn that another part of the statement has answered."""
    return (
        delete(turn_step)
        .where(turn_step.c.owner_id == OWNER, turn_step.c.turn_id == TURN)
        .where(of.c.id == turn_step.c.turn_id)
        .cte("steps_gone")
    )


def waits_gone(of: CTE) -> tuple[CTE, CTE]:
    """Remove what a turn waited for that another part of the statement has ended.

    What tells a repeated call from another one stays for as long as the turn.
    """
    said_gone = (
        update(turn_wait)
        .values(ANSWERED_WAIT)
        .where(turn_wait.c.owner_id == OWNER, turn_wait.c.turn_id == TURN)
        .where(of.c.id == turn_wait.c.turn_id)
        .cte("wait_gone")
    )
    due_gone = (
        delete(wait_due)
        .where(wait_due.c.owner_id == OWNER, wait_due.c.turn_id == TURN)
        .where(of.c.id == wait_due.c.turn_id)
        .cte("wait_due_gone")
    )
    return said_gone, due_gone


def events_gone(of: CTE) -> CTE:
    """Remove the events of a turn that another part of the statement has ended or retaken."""
    return (
        delete(turn_event)
        .where(turn_event.c.owner_id == OWNER, turn_event.c.turn_id == TURN)
        .where(of.c.id == turn_event.c.turn_id)
        .cte("events_gone")
    )
