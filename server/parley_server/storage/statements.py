"""Every statement Parley runs, built with SQLAlchemy and compiled once, when this module is loaded.

Three rules hold for all of them, learned under load from many connections (decision 0004):

- Whoever touches a conversation and a turn locks the conversation first, and tests conditions on
  the row it locked. A NOT EXISTS beside an UPDATE is re-checked with an old snapshot.
- Every part filters on the one owner, so that a sharded database sends it to one shard.
- Time is `now()`, the database's. A lease counts from its statement's start.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Executable,
    Integer,
    Interval,
    LargeBinary,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from parley_server.core.model import FailureReason, Role, TurnState
from parley_server.storage.tables import conversation, message, schema_version, turn

TURN_ABANDONED_TEXT = "the worker that ran the turn went away"

_DIALECT = PGDialect_psycopg(paramstyle="pyformat")  # type: ignore[no-untyped-call]


def _compiled(statement: Executable) -> str:
    """Return the statement as SQL with psycopg's named placeholders.

    psycopg keeps what it parses of a statement of up to 4,096 characters; a longer one is parsed
    again at every call, so none of them may be.
    """
    sql = str(statement.compile(dialect=_DIALECT))  # type: ignore[attr-defined]
    if len(sql) > 4096 or "_1)s" in sql:
        raise AssertionError(f"too long for psycopg's cache, or an unnamed parameter:\n{sql}")
    return sql


# The parameters, by name. Every statement has `owner`.
_OWNER = bindparam("owner", type_=Uuid)
_CONVERSATION = bindparam("conversation", type_=Uuid)
_TURN = bindparam("turn", type_=Uuid)
_REQUEST = bindparam("request", type_=Text)
_FINGERPRINT = bindparam("fingerprint", type_=LargeBinary)
_AGENT = bindparam("agent", type_=Text)
_CONTENT = bindparam("content", type_=Text)
_TITLE = bindparam("title", type_=Text)
_PREVIEW = bindparam("preview", type_=Text)
_TENANT = bindparam("tenant", type_=Text)
_USER = bindparam("user", type_=Text)
_EXPECTED = bindparam("expected", type_=BigInteger)
_FENCE = bindparam("fence", type_=BigInteger)
_LIMIT = bindparam("limit", type_=Integer)
_MAX_BYTES = bindparam("max_bytes", type_=BigInteger)

_LEASE_END = func.now() + bindparam("lease", type_=Interval)

# Constants are written into the statement: a parameter each would be sent with every call.
_ONE = literal_column("1::bigint", BigInteger)
_ZERO = literal_column("0::bigint", BigInteger)


def _word(word: StrEnum) -> ColumnElement[str]:
    return literal_column(f"'{word.value}'::text", Text)


def _held() -> CTE:
    """Lock the conversation and read it as it is once the lock is had: keys only in its WHERE."""
    return (
        select(
            conversation.c.last_sequence,
            conversation.c.fence,
            conversation.c.open_turn_id,
            conversation.c.lease_expires_at,
            conversation.c.update_time,
        )
        .where(conversation.c.owner_id == _OWNER, conversation.c.id == _CONVERSATION)
        .with_for_update(key_share=True)
        .cte("held")
    )


def _is_free(held: CTE) -> Any:
    return or_(held.c.open_turn_id.is_(None), held.c.lease_expires_at <= func.now())


def _overrun(held: CTE, won: CTE) -> CTE:
    """Write down that the turn whose lease passed was abandoned, if another turn is opened now."""
    return (
        update(turn)
        .values(
            state=_word(TurnState.FAILED),
            error_reason=_word(FailureReason.TURN_ABANDONED),
            error_text=literal_column(f"'{TURN_ABANDONED_TEXT}'", Text),
            end_time=held.c.lease_expires_at,
        )
        .where(turn.c.owner_id == _OWNER, turn.c.id == held.c.open_turn_id)
        .where(won.c.id != turn.c.id)
        .cte("overrun")
    )


def _user_message(sequence: Any, won: CTE) -> CTE:
    return (
        plain_insert(message)
        .from_select(
            ["owner_id", "conversation_id", "sequence", "turn_id", "role", "content"],
            select(
                _OWNER,
                _CONVERSATION,
                sequence,
                won.c.id,
                _word(Role.USER),
                _CONTENT,
            ),
        )
        .cte("said")
    )


def _new_turn(sequence: Any) -> Select[Any]:
    """A turn's row, without what it is selected from."""
    return select(
        _OWNER,
        _TURN,
        _CONVERSATION,
        _REQUEST,
        _FINGERPRINT,
        _AGENT,
        _word(TurnState.RUNNING),
        literal_column("1", Integer),
        sequence,
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
]


def _claim() -> Executable:
    """Open a turn on an existing conversation, or say why not.

    One row: the new turn's sequence, or null; then, of the conversation as it was locked,
    last_sequence, fence, open_turn_id, lease_expires_at, update_time, is_free.
    No row: no such conversation.
    """
    held = _held()
    opened = (
        insert(turn)
        .from_select(
            _NEW_TURN_COLUMNS,
            _new_turn(held.c.last_sequence + _ONE)
            .select_from(held)
            .where(
                _is_free(held),
                or_(_EXPECTED.is_(None), held.c.last_sequence == _EXPECTED),
            ),
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "request_id"])
        .returning(turn.c.id, turn.c.user_sequence)
        .cte("opened")
    )
    taken = (
        update(conversation)
        .values(
            last_sequence=opened.c.user_sequence,
            fence=conversation.c.fence + _ONE,
            preview=_PREVIEW,
            open_turn_id=opened.c.id,
            lease_expires_at=_LEASE_END,
            update_time=func.now(),
        )
        .where(conversation.c.owner_id == _OWNER, conversation.c.id == _CONVERSATION)
        .where(opened.c.id == _TURN)
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
            _is_free(held),
        )
        .select_from(held.outerjoin(opened, true()))
        .add_cte(_overrun(held, opened), _user_message(opened.c.user_sequence, opened), taken)
    )


def _claim_new() -> Executable:
    """Open a turn on a conversation made for it. One row, unless somebody has the request id."""
    opened = (
        insert(turn)
        .from_select(_NEW_TURN_COLUMNS, _new_turn(_ONE))
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
                _OWNER,
                _CONVERSATION,
                _TENANT,
                _USER,
                _TITLE,
                _ONE,
                _PREVIEW,
                _ONE,
                opened.c.id,
                _LEASE_END,
            ),
        )
        .cte("created")
    )
    return select(opened.c.id).add_cte(created, _user_message(_ONE, opened))


def _create() -> Executable:
    """Make an empty conversation unless there is one. A claim follows in the transaction."""
    return (
        insert(conversation)
        .values(
            owner_id=_OWNER,
            id=_CONVERSATION,
            tenant_id=_TENANT,
            user_id=_USER,
            title=_TITLE,
            last_sequence=_ZERO,
            preview=literal_column("''", Text),
            fence=_ZERO,
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "id"])
    )


def _reclaim() -> Executable:
    """Take the lease for a new attempt of a failed or abandoned turn that is still the newest.

    One row (attempt, fence) if it was taken.
    """
    held = _held()
    retaken = (
        update(turn)
        .values(
            state=_word(TurnState.RUNNING),
            attempt=turn.c.attempt + literal_column("1", Integer),
            error_reason=null(),
            error_text=null(),
            end_time=null(),
        )
        .where(turn.c.owner_id == _OWNER, turn.c.id == _TURN)
        .where(
            or_(turn.c.state == _word(TurnState.RUNNING), turn.c.state == _word(TurnState.FAILED))
        )
        .where(turn.c.user_sequence == held.c.last_sequence, _is_free(held))
        .returning(turn.c.id, turn.c.attempt)
        .cte("retaken")
    )
    taken = (
        update(conversation)
        .values(
            fence=conversation.c.fence + _ONE,
            open_turn_id=retaken.c.id,
            lease_expires_at=_LEASE_END,
            update_time=func.now(),
        )
        .where(conversation.c.owner_id == _OWNER, conversation.c.id == _CONVERSATION)
        .where(retaken.c.id == _TURN)
        .cte("taken")
    )
    return select(retaken.c.attempt, held.c.fence + _ONE).select_from(held, retaken).add_cte(taken)


def _renew() -> Executable:
    return (
        update(conversation)
        .values(lease_expires_at=_LEASE_END)
        .where(conversation.c.owner_id == _OWNER, conversation.c.id == _CONVERSATION)
        .where(conversation.c.fence == _FENCE, conversation.c.open_turn_id == _TURN)
        .returning(conversation.c.fence)
    )


def _ended(held: CTE, **values: Any) -> CTE:
    """Close the turn, if the lease is still this attempt's."""
    return (
        update(turn)
        .values(end_time=func.now(), **values)
        .where(turn.c.owner_id == _OWNER, turn.c.id == _TURN)
        .where(held.c.fence == _FENCE, held.c.open_turn_id == turn.c.id)
        .returning(turn.c.id, turn.c.response_sequence)
        .cte("ended")
    )


def _freed(ended: CTE, **values: Any) -> CTE:
    """Drop the lease."""
    return (
        update(conversation)
        .values(open_turn_id=null(), lease_expires_at=null(), **values)
        .where(conversation.c.owner_id == _OWNER, conversation.c.id == _CONVERSATION)
        .where(ended.c.id == conversation.c.open_turn_id)
        .cte("freed")
    )


def _finish() -> Executable:
    """Store the answer, close the turn, drop the lease. One row, its sequence, if it was ours."""
    held = _held()
    ended = _ended(
        held,
        state=bindparam("state", type_=Text),
        response_sequence=held.c.last_sequence + _ONE,
        context_first_sequence=bindparam("context_first", type_=BigInteger),
        context_message_count=bindparam("context_count", type_=Integer),
        context_omitted_count=bindparam("context_omitted", type_=BigInteger),
    )
    answered = (
        plain_insert(message)
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
            ],
            select(
                _OWNER,
                _CONVERSATION,
                ended.c.response_sequence,
                ended.c.id,
                _word(Role.ASSISTANT),
                _CONTENT,
                bindparam("tool_calls", type_=Text),
                bindparam("usage", type_=Text),
                bindparam("model", type_=Text),
                bindparam("finish_reason", type_=Text),
            ),
        )
        .cte("answered")
    )
    freed = _freed(ended, last_sequence=ended.c.response_sequence, preview=_PREVIEW)
    return select(ended.c.response_sequence).add_cte(answered, freed)


def _fail() -> Executable:
    """Close the turn as failed, drop the lease. One row if it was ours."""
    held = _held()
    ended = _ended(
        held,
        state=_word(TurnState.FAILED),
        error_reason=bindparam("reason", type_=Text),
        error_text=bindparam("text", type_=Text),
    )
    return select(ended.c.id).add_cte(_freed(ended))


TURN_COLUMNS = (
    turn.c.id,
    turn.c.conversation_id,
    turn.c.request_id,
    turn.c.fingerprint,
    turn.c.agent,
    turn.c.state,
    turn.c.attempt,
    turn.c.user_sequence,
    turn.c.response_sequence,
    turn.c.error_reason,
    turn.c.error_text,
    turn.c.create_time,
    turn.c.end_time,
    turn.c.context_first_sequence,
    turn.c.context_message_count,
    turn.c.context_omitted_count,
)


def _turn(*where: Any) -> Executable:
    """Read a turn together with its conversation and its answer.

    TURN_COLUMNS; then the conversation's last_sequence, fence, lease_expires_at; whether this turn
    holds a valid lease; then the answer's content, tool_calls, usage, model, finish_reason.
    """
    return (
        select(
            *TURN_COLUMNS,
            conversation.c.last_sequence,
            conversation.c.fence,
            conversation.c.lease_expires_at,
            and_(
                conversation.c.open_turn_id == turn.c.id,
                conversation.c.lease_expires_at > func.now(),
            ).is_(true()),
            message.c.content,
            message.c.tool_calls,
            message.c.usage,
            message.c.model,
            message.c.finish_reason,
        )
        .join(
            conversation,
            and_(conversation.c.owner_id == _OWNER, conversation.c.id == turn.c.conversation_id),
        )
        .outerjoin(
            message,
            and_(
                message.c.owner_id == _OWNER,
                message.c.conversation_id == turn.c.conversation_id,
                message.c.sequence == turn.c.response_sequence,
            ),
        )
        .where(turn.c.owner_id == _OWNER, *where)
    )


def _standing() -> Executable:
    is_held = and_(
        conversation.c.open_turn_id.is_not(None), conversation.c.lease_expires_at > func.now()
    )
    return select(
        conversation.c.last_sequence,
        case((is_held, conversation.c.open_turn_id)),
        conversation.c.update_time,
        conversation.c.lease_expires_at,
    ).where(conversation.c.owner_id == _OWNER, conversation.c.id == _CONVERSATION)


def _size(of: Any) -> ColumnElement[int]:
    """Bytes of a message's text and tool calls, known without reading them."""
    return func.octet_length(of.content) + func.coalesce(func.octet_length(of.tool_calls), _ZERO)


def _window() -> Executable:
    """Read the newest answered messages before a sequence, newest first, while they fit.

    A user message was answered exactly if the message behind it is an answer. Read from the tail
    of the key, row by row, until `limit` of them are found: a window function over an index needs
    no more rows than are asked of it, and the length of a text is known without reading it.
    """
    newest_first = message.c.sequence.desc()
    tail = (
        select(
            message.c.sequence,
            message.c.role,
            message.c.content,
            message.c.tool_calls,
            func.lag(message.c.role).over(order_by=newest_first).label("next_role"),
        )
        .where(message.c.owner_id == _OWNER, message.c.conversation_id == _CONVERSATION)
        .where(message.c.sequence < bindparam("before", type_=BigInteger))
        .order_by(newest_first)
        .limit(bindparam("lookback", type_=Integer))
        .subquery("tail")
    )
    is_answered = or_(tail.c.role != _word(Role.USER), tail.c.next_role == _word(Role.ASSISTANT))
    sized = (
        select(
            tail.c.sequence,
            tail.c.role,
            tail.c.content,
            tail.c.tool_calls,
            is_answered.label("is_answered"),
            func.sum(case((is_answered, _size(tail.c)), else_=_ZERO))
            .over(order_by=tail.c.sequence.desc(), rows=(None, 0))
            .label("total"),
        )
        .order_by(tail.c.sequence.desc())
        .subquery("sized")
    )
    return (
        select(sized.c.sequence, sized.c.role, sized.c.content, sized.c.tool_calls)
        .where(sized.c.is_answered, sized.c.total <= _MAX_BYTES)
        .order_by(sized.c.sequence.desc())
        .limit(_LIMIT)
    )


HISTORY_COLUMNS = (
    message.c.sequence,
    message.c.role,
    message.c.content,
    message.c.tool_calls,
    message.c.turn_id,
    message.c.create_time,
    message.c.usage,
    message.c.model,
    message.c.finish_reason,
)


def _history(*, newest_first: bool) -> Executable:
    """Read a page of messages: the conversation's last_sequence, then HISTORY_COLUMNS.

    No row: no such conversation. One row of nulls: no messages in that range.
    """
    order = message.c.sequence.desc() if newest_first else message.c.sequence.asc()
    size = _size(message.c)
    part = (
        select(
            *HISTORY_COLUMNS,
            func.sum(size).over(order_by=order, rows=(None, 0)).label("total"),
            size.label("size"),
        )
        .where(message.c.owner_id == _OWNER, message.c.conversation_id == _CONVERSATION)
        .where(message.c.sequence > bindparam("above", type_=BigInteger))
        .where(message.c.sequence < bindparam("below", type_=BigInteger))
        .order_by(order)
        .limit(_LIMIT)
        .subquery("part")
    )
    fits = or_(part.c.total <= _MAX_BYTES, part.c.total == part.c.size)
    return (
        select(conversation.c.last_sequence, *(part.c[column.name] for column in HISTORY_COLUMNS))
        .select_from(conversation.outerjoin(part, fits))
        .where(conversation.c.owner_id == _OWNER, conversation.c.id == _CONVERSATION)
        .order_by(part.c.sequence.desc() if newest_first else part.c.sequence.asc())
    )


def _conversations(*where: Any) -> Executable:
    return (
        select(
            conversation.c.id,
            conversation.c.title,
            conversation.c.create_time,
            conversation.c.update_time,
            conversation.c.last_sequence,
            conversation.c.preview,
            case((conversation.c.lease_expires_at > func.now(), conversation.c.open_turn_id)),
        )
        .where(conversation.c.owner_id == _OWNER, *where)
        .order_by(conversation.c.update_time.desc(), conversation.c.id.desc())
        .limit(_LIMIT)
    )


CLAIM = _compiled(_claim())
CLAIM_NEW = _compiled(_claim_new())
CREATE = _compiled(_create())
RECLAIM = _compiled(_reclaim())
RENEW = _compiled(_renew())
FINISH = _compiled(_finish())
FAIL = _compiled(_fail())
TURN_BY_REQUEST = _compiled(_turn(turn.c.request_id == _REQUEST))
TURN_BY_ID = _compiled(_turn(turn.c.id == _TURN, turn.c.conversation_id == _CONVERSATION))
STANDING = _compiled(_standing())
WINDOW = _compiled(_window())
HISTORY_OLDEST_FIRST = _compiled(_history(newest_first=False))
HISTORY_NEWEST_FIRST = _compiled(_history(newest_first=True))
CONVERSATIONS = _compiled(_conversations())
CONVERSATIONS_AFTER = _compiled(
    _conversations(
        tuple_(conversation.c.update_time, conversation.c.id)
        < tuple_(
            bindparam("after_time", type_=DateTime(timezone=True)),
            bindparam("after_id", type_=Uuid),
        )
    )
)
SCHEMA = _compiled(select(schema_version.c.version, schema_version.c.oldest_worker))
