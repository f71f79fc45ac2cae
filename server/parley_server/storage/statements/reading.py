"""Statements that read messages and turns."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    LargeBinary,
    Select,
    Subquery,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
)

from parley_server.core.model import NO_TURN, Role
from parley_server.storage.schema.tables import conversation, message, turn, turn_event, turn_wait
from parley_server.storage.statements.parts import (
    ATTEMPT,
    CONVERSATION,
    IS_IT,
    IS_THERE,
    LIMIT,
    MAX_BYTES,
    OWNER,
    REQUEST,
    TURN,
    ZERO,
    byte_size,
    compiled,
    is_open,
    literal,
)

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
    turn.c.cancel_requested_time.is_not(None).label("is_cancel_requested"),
    turn.c.spent_attempts,
    turn.c.abandoned_attempts,
    turn.c.is_started,
)


def turn_as_read(*where: Any, with_text: bool = True) -> Select[Any]:
    """Read a turn together with its conversation and its answer: `rows.TurnRow`.

    Args:
        with_text: False: content is empty, and tool_calls are null.
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
            )
            .is_(true())
            .label("is_leased"),
            case((conversation.c.open_turn_id == turn.c.id, conversation.c.instructions)).label(
                "instructions"
            ),
            message.c.content if with_text else literal_column("''", Text).label("content"),
            message.c.tool_calls if with_text else null().label("tool_calls"),
            message.c.usage,
            message.c.model,
            message.c.finish_reason,
            turn_wait.c.digests,
            turn_wait.c.end_time.label("wait_end_time"),
            turn_wait.c.ended_by,
            turn_wait.c.calls,
            (turn_wait.c.content if with_text else literal_column("''", Text)).label(
                "wait_content"
            ),
            (turn_wait.c.tool_calls if with_text else null()).label("wait_tool_calls"),
            turn_wait.c.usage.label("wait_usage"),
            turn_wait.c.model.label("wait_model"),
        )
        .join(
            conversation,
            and_(
                conversation.c.owner_id == OWNER,
                conversation.c.id == turn.c.conversation_id,
                IS_THERE,
            ),
        )
        .outerjoin(
            message,
            and_(
                message.c.owner_id == OWNER,
                message.c.conversation_id == turn.c.conversation_id,
                message.c.sequence == turn.c.response_sequence,
            ),
        )
        .outerjoin(turn_wait, and_(turn_wait.c.owner_id == OWNER, turn_wait.c.turn_id == turn.c.id))
        .where(turn.c.owner_id == OWNER, *where)
    )


def _standing() -> Executable:
    return select(
        conversation.c.last_sequence,
        case((is_open(conversation), conversation.c.open_turn_id)).label("open_turn_id"),
        conversation.c.update_time,
        conversation.c.lease_expires_at,
    ).where(*IS_IT, IS_THERE)


_NEWEST_FIRST = message.c.sequence.desc()
_MAX_BYTES_WITH_STATES = bindparam("max_bytes_with_states", type_=BigInteger)


def _tail(*more: ColumnElement[Any], limit: ColumnElement[int]) -> Subquery:
    """Read messages before a sequence, newest first, with what windows need of each, and more."""
    has_turn = message.c.turn_id != literal_column(f"'{NO_TURN}'::uuid", Uuid)
    return (
        select(
            message.c.sequence,
            message.c.role,
            message.c.content,
            message.c.tool_calls,
            message.c.finish_reason,
            message.c.opaque_state,
            has_turn.label("has_turn"),
            *more,
        )
        .where(message.c.owner_id == OWNER, message.c.conversation_id == CONVERSATION)
        .where(message.c.sequence < bindparam("before", type_=BigInteger))
        .order_by(_NEWEST_FIRST)
        .limit(limit)
        .subquery("tail")
    )


def _window() -> Executable:
    """Read the newest messages before a sequence while they fit, and the first that does not.

    Of that one there is no text. Read from the tail of the key, row by row, until `limit` of them
    are found: a window function over an index needs no more rows than are asked of it, and the
    length of a text is known without reading it. Which of them were answered the rows say.

    Whether a message fits depends on what was said alone. Opaque states go along, from the newest
    on, while they fit beside it.
    """
    size = byte_size(message.c)
    state_size = func.octet_length(message.c.opaque_state)

    def so_far(of: Any) -> Any:
        return func.sum(of).over(order_by=_NEWEST_FIRST, rows=(None, 0))

    tail = _tail(
        state_size.label("state_size"),
        size.label("size"),
        so_far(size).label("total"),
        so_far(func.coalesce(state_size, ZERO)).label("total_of_states"),
        limit=LIMIT,
    )
    fits = tail.c.total <= MAX_BYTES
    state_fits = tail.c.total + tail.c.total_of_states <= MAX_BYTES
    return (
        select(
            tail.c.sequence,
            tail.c.role,
            case((fits, tail.c.content)).label("content"),
            case((fits, tail.c.tool_calls)).label("tool_calls"),
            tail.c.finish_reason,
            case((state_fits, tail.c.opaque_state)).label("opaque_state"),
            tail.c.has_turn,
            tail.c.state_size,
        )
        .where(tail.c.total - tail.c.size <= MAX_BYTES)
        .order_by(tail.c.sequence.desc())
    )


def _answered_window(*, has_states: bool) -> Executable:
    """Read the newest messages before a sequence that are shown, newest first, while they fit.

    A user's message was answered exactly if the message behind it is the answer of the same turn;
    one that was appended without a turn is read in any case. Read from the tail of the key as
    `_window`, and no further back than `lookback` messages.

    Args:
        has_states: False: none goes along.
    """
    turn_of_answer = case((message.c.role == literal(Role.ASSISTANT), message.c.turn_id))
    tail = _tail(
        message.c.turn_id,
        func.lag(turn_of_answer).over(order_by=_NEWEST_FIRST).label("turn_answered_next"),
        limit=bindparam("lookback", type_=Integer),
    )
    is_shown = or_(
        tail.c.role != literal(Role.USER),
        not_(tail.c.has_turn),
        tail.c.turn_answered_next == tail.c.turn_id,
    )
    size = case((is_shown, byte_size(tail.c)), else_=ZERO)
    state_size = func.coalesce(func.octet_length(tail.c.opaque_state), ZERO)

    def so_far(of: Any) -> Any:
        return func.sum(of).over(order_by=tail.c.sequence.desc(), rows=(None, 0))

    sized = (
        select(
            tail.c.sequence,
            tail.c.role,
            tail.c.content,
            tail.c.tool_calls,
            tail.c.finish_reason,
            tail.c.opaque_state,
            tail.c.has_turn,
            is_shown.label("is_shown"),
            so_far(size).label("total"),
            so_far(state_size).label("total_of_states"),
        )
        .order_by(tail.c.sequence.desc())
        .subquery("sized")
    )
    return (
        select(
            sized.c.sequence,
            sized.c.role,
            sized.c.content,
            sized.c.tool_calls,
            sized.c.finish_reason,
            case(
                (
                    sized.c.total + sized.c.total_of_states <= _MAX_BYTES_WITH_STATES,
                    sized.c.opaque_state,
                )
            )
            if has_states
            else cast(null(), LargeBinary).label("opaque_state"),
            sized.c.has_turn,
            null().label("state_size"),
        )
        .where(sized.c.is_shown, sized.c.total <= MAX_BYTES)
        .order_by(sized.c.sequence.desc())
        .limit(LIMIT)
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
    size = byte_size(message.c)
    part = (
        select(
            *HISTORY_COLUMNS,
            func.sum(size).over(order_by=order, rows=(None, 0)).label("total"),
            size.label("size"),
        )
        .where(message.c.owner_id == OWNER, message.c.conversation_id == CONVERSATION)
        .where(message.c.sequence > bindparam("above", type_=BigInteger))
        .where(message.c.sequence < bindparam("below", type_=BigInteger))
        .order_by(order)
        .limit(LIMIT)
        .subquery("part")
    )
    fits = or_(part.c.total <= MAX_BYTES, part.c.total == part.c.size)
    return (
        select(conversation.c.last_sequence, *(part.c[column.name] for column in HISTORY_COLUMNS))
        .select_from(conversation.outerjoin(part, fits))
        .where(*IS_IT, IS_THERE)
        .order_by(part.c.sequence.desc() if newest_first else part.c.sequence.asc())
    )


def _events() -> Executable:
    """Read stored events of an attempt behind an index: index, text, tool_call."""
    size = func.coalesce(func.octet_length(turn_event.c.text), ZERO) + func.coalesce(
        func.octet_length(turn_event.c.tool_call), ZERO
    )
    part = (
        select(
            turn_event.c.index,
            turn_event.c.text,
            turn_event.c.tool_call,
            (func.sum(size).over(order_by=turn_event.c.index, rows=(None, 0)) - size).label(
                "before"
            ),
        )
        .where(turn_event.c.owner_id == OWNER, turn_event.c.turn_id == TURN)
        .where(turn_event.c.attempt == ATTEMPT)
        .where(turn_event.c.index > bindparam("after_index", type_=BigInteger))
        .order_by(turn_event.c.index)
        .limit(LIMIT)
        .subquery("part")
    )
    return (
        select(part.c.index, part.c.text, part.c.tool_call)
        .where(part.c.before < MAX_BYTES)
        .order_by(part.c.index)
    )


def _turns_since() -> Select[Any]:
    since = bindparam("since", type_=BigInteger)
    begun = turn.alias("begun")
    newest = (
        select(func.max(begun.c.user_sequence))
        .where(
            begun.c.owner_id == OWNER,
            begun.c.conversation_id == CONVERSATION,
            begun.c.user_sequence <= since,
            begun.c.user_sequence > ZERO,
        )
        .scalar_subquery()
    )
    return (
        turn_as_read(
            turn.c.conversation_id == CONVERSATION,
            turn.c.user_sequence >= func.coalesce(newest, since),
            turn.c.user_sequence > ZERO,
            with_text=False,
        )
        .order_by(turn.c.user_sequence)
        .limit(LIMIT)
    )


TURN_BY_REQUEST = compiled(turn_as_read(turn.c.request_id == REQUEST))
"""Read the turn of a request id, as it stands now."""
TURN_BY_ID = compiled(turn_as_read(turn.c.id == TURN, turn.c.conversation_id == CONVERSATION))
"""Read a turn by its id, as it stands now."""
DELETED_BY_REQUEST = compiled(
    select(turn.c.conversation_id)
    .join(
        conversation,
        and_(conversation.c.owner_id == OWNER, conversation.c.id == turn.c.conversation_id),
    )
    .where(turn.c.owner_id == OWNER, turn.c.request_id == REQUEST, ~IS_THERE)
)
"""Read which deleted conversation a request id was used in."""
TURNS_SINCE = compiled(_turns_since())
"""Read the newest turn that had begun by a sequence, and those behind it."""
STANDING = compiled(_standing())
"""Read how a conversation stands: its length, its open turn, its fence."""
WINDOW = compiled(_window())
"""Read the newest messages that fit what the agent is shown, answered or not."""
ANSWERED_WINDOW = compiled(_answered_window(has_states=True))
"""Read the newest messages that fit what the agent is shown, but for unanswered ones."""
ANSWERED_WINDOW_WITHOUT_STATES = compiled(_answered_window(has_states=False))
"""The same without what providers want back."""
EVENTS = compiled(_events())
"""Read the stored pieces of an attempt behind an index."""
HISTORY_OLDEST_FIRST = compiled(_history(newest_first=False))
"""Read a page of messages, oldest first, with the conversation's length."""
HISTORY_NEWEST_FIRST = compiled(_history(newest_first=True))
"""Read a page of messages, newest first, with the conversation's length."""
