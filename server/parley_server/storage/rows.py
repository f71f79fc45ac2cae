"""Rows to values, and values to what a row holds."""

import json
from collections.abc import Sequence

from parley_server.core.errors import AttemptsExhausted
from parley_server.core.failures import TURN_ABANDONED_TEXT
from parley_server.core.model import (
    UNCOUNTED,
    Answer,
    Context,
    Conversation,
    FailureReason,
    FinishReason,
    Message,
    Role,
    StoredEvent,
    Text,
    ToolCall,
    Turn,
    TurnState,
    Usage,
    WindowMessage,
)
from parley_server.storage.driver.connection import Row

_ROLES = {role.value: role for role in Role}
_FINISH_REASONS = {reason.value: reason for reason in FinishReason}


def tool_calls_text(tool_calls: tuple[ToolCall, ...]) -> str | None:
    if not tool_calls:
        return None
    return json.dumps([call._asdict() for call in tool_calls], ensure_ascii=False)


def usage_text(usage: Usage | None) -> str | None:
    return None if usage is None else json.dumps(usage._asdict())


def window_messages(found: Sequence[Row]) -> list[WindowMessage]:
    """Rows of WINDOW. There are many in each turn."""
    return [
        WindowMessage(
            sequence,
            _ROLES[role],
            content,
            () if tool_calls is None else _tool_calls(tool_calls),
            None if finish_reason is None else _FINISH_REASONS[finish_reason],
            opaque_state,
        )
        for sequence, role, content, tool_calls, finish_reason, opaque_state in found
    ]


def message(row: Row) -> Message:
    """Return the message in a row of HISTORY_COLUMNS."""
    sequence, role, content, tool_calls, turn_id, create_time, usage, model, finish_reason = row
    return Message(
        sequence,
        _ROLES[role],
        content,
        _tool_calls(tool_calls),
        turn_id,
        create_time,
        _usage(usage),
        model or "",
        _finish_reason(finish_reason),
    )


def conversation(row: Row) -> Conversation:
    return Conversation(*row)


def turn(row: Row, max_attempts: int) -> Turn:
    """Return the turn in a row of TURN_BY_…; an overrun lease is reported as abandoned.

    Args:
        max_attempts: how many attempts in a row may fail; beyond, this is what is reported.
    """
    (
        turn_id,
        conversation_id,
        request_id,
        fingerprint,
        agent,
        state,
        attempt,
        user_sequence,
        response_sequence,
        error_reason,
        error_text,
        create_time,
        end_time,
        context_first,
        context_count,
        context_omitted,
        is_cancel_requested,
        spent_attempts,
        abandoned_attempts,
        last_sequence,
        fence,
        lease_end_time,
        is_leased,
        *answer,
    ) = row
    if state == TurnState.RUNNING and not is_leased:
        state, end_time = TurnState.FAILED, lease_end_time
        error_reason, error_text = FailureReason.TURN_ABANDONED, TURN_ABANDONED_TEXT
    if state == TurnState.FAILED:
        spent_attempts += error_reason not in UNCOUNTED
        abandoned_attempts += error_reason == FailureReason.TURN_ABANDONED
        if spent_attempts >= max_attempts and not is_cancel_requested:
            error_reason = FailureReason.ATTEMPTS_EXHAUSTED
            error_text = str(AttemptsExhausted(turn_id, spent_attempts))
    is_answered = response_sequence is not None
    return Turn(
        id=turn_id,
        conversation_id=conversation_id,
        request_id=request_id,
        fingerprint=fingerprint,
        agent=agent,
        state=TurnState(state),
        attempt=attempt,
        user_sequence=user_sequence,
        response_sequence=response_sequence,
        error_reason=None if error_reason is None else FailureReason(error_reason),
        error_text=error_text or "",
        create_time=create_time,
        end_time=end_time,
        context=Context(context_first, context_count, context_omitted) if is_answered else None,
        answer=_answer(*answer) if is_answered else None,
        is_newest=last_sequence == (response_sequence or user_sequence),
        fence=fence,
        is_cancel_requested=is_cancel_requested,
        spent_attempts=spent_attempts,
        abandoned_attempts=abandoned_attempts,
    )


def stored_event(row: Row) -> StoredEvent:
    index, text, tool_call = row
    event = ToolCall(**json.loads(tool_call)) if text is None else Text(text)
    return StoredEvent(index, event)


def events_text(events: list[StoredEvent]) -> str:
    """Return events as the JSON that APPEND takes."""
    records = [
        {"index": stored.index, "text": stored.event.text}
        if isinstance(stored.event, Text)
        else {"index": stored.index, "tool_call": json.dumps(stored.event._asdict())}
        for stored in events
    ]
    return json.dumps(records, ensure_ascii=False)


def _answer(
    content: str, tool_calls: str | None, usage: str | None, model: str, finish_reason: str
) -> Answer:
    return Answer(
        text=content,
        tool_calls=_tool_calls(tool_calls),
        usage=_usage(usage),
        model=model,
        finish_reason=FinishReason(finish_reason),
    )


def _tool_calls(text: str | None) -> tuple[ToolCall, ...]:
    return () if text is None else tuple(ToolCall(**call) for call in json.loads(text))


def _finish_reason(value: str | None) -> FinishReason | None:
    return None if value is None else _FINISH_REASONS[value]


def _usage(text: str | None) -> Usage | None:
    return None if text is None else Usage(**json.loads(text))
