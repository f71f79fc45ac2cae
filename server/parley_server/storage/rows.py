"""Rows to values, and values to what a row holds."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID

from parley_server.core.errors import AttemptsExhausted
from parley_server.core.failures import TURN_ABANDONED_TEXT
from parley_server.core.model import (
    UNCOUNTED,
    Answer,
    CallerTool,
    Context,
    Conversation,
    FailureReason,
    FinishReason,
    ForkedFrom,
    Lease,
    Message,
    NewMessage,
    PendingCall,
    PendingKind,
    Role,
    Step,
    StepKind,
    StoredEvent,
    Text,
    ToolCall,
    Turn,
    TurnState,
    Usage,
    Wait,
    WaitEnd,
    WindowMessage,
)
from parley_server.storage.driver.connection import Row

SLICE = 64
"""How many rows become values before others have their turn."""

T = TypeVar("T")

# For each turn; json would make an encoder for it.
_USAGE = "{" + ", ".join(f'"{name}": %d' for name in Usage._fields) + "}"
_ROLES = {role.value: role for role in Role}
_FINISH_REASONS = {reason.value: reason for reason in FinishReason}


class Limited(NamedTuple):
    """Which limits the owner has reached; of one that it has not, null."""

    wait: timedelta | None = None
    """How long to wait, if it has opened as many turns within a minute as it may."""
    used_tokens: int | None = None
    """Of today, if these are as many as may be used a day."""
    day_left: timedelta | None = None
    """Until the day is over in UTC, if used_tokens or agent_used_tokens is set."""
    agent_used_tokens: int | None = None
    """Of today, with the turn's agent, if these are as many as may be used a day."""
    agent_max_tokens: int | None = None
    agent: str | None = None
    """Its name. Both: if agent_used_tokens is set."""


class ClaimRow(NamedTuple):
    """A row of CLAIM, and the first part of one that is limited: the conversation, locked."""

    user_sequence: int | None
    """Of the turn that was opened; None: none was."""
    last_sequence: int
    fence: int
    open_turn_id: UUID | None
    lease_expires_at: datetime | None
    update_time: datetime
    is_free: bool
    """Whether a turn can be opened: none is open, and no started turn comes first."""
    queue_length: int
    instructions: str | None
    agent: str | None
    """Whom the turn was given to; None: none was opened."""

    @property
    def is_abandoned(self) -> bool:
        """Whether no turn was opened, and another statement may: the open one was abandoned."""
        return self.user_sequence is None and self.is_free and self.open_turn_id is not None


class Accepted(NamedTuple):
    """A row of ACCEPT, and the first part of one of ACCEPT_LIMITED."""

    id: UUID | None
    """None: a turn has the request id, or a limit is reached."""
    queued: int | None
    """How many started turns the owner had before; None: none, or they were not counted."""
    create_time: datetime
    # Of its conversation
    last_sequence: int
    fence: int


class BeginRow(NamedTuple):
    """A row of BEGIN."""

    is_current: bool
    """Whether the statement saw the queue as it is."""
    is_free: bool
    fence: int
    open_turn_id: UUID | None
    instructions: str | None
    tenant: str
    user: str
    turn_id: UUID | None
    message: str | None
    tools: str | None
    user_sequence: int | None
    """Of the turn that was opened; 0: it has failed instead; None: none was."""
    agent: str | None
    request_id: str | None


class ListedRow(NamedTuple):
    """A row of CONVERSATIONS_BY_LABELS."""

    update_time: datetime
    id: UUID
    is_last: bool
    """Whether the page ends here, although more conversations may match."""
    conversation: Row
    """What `conversation` reads; of one that does not match, nulls."""


class TurnRow(NamedTuple):
    """A row of the statements that read turns."""

    id: UUID
    conversation_id: UUID
    request_id: str | None
    fingerprint: bytes
    agent: str
    state: str
    attempt: int
    user_sequence: int
    response_sequence: int | None
    error_reason: str | None
    error_text: str | None
    create_time: datetime
    end_time: datetime | None
    context_first_sequence: int | None
    context_message_count: int | None
    context_omitted_count: int | None
    is_cancel_requested: bool
    spent_attempts: int
    abandoned_attempts: int
    is_started: bool
    # Of its conversation
    last_sequence: int
    fence: int
    lease_expires_at: datetime | None
    is_leased: bool
    """Whether this turn holds a valid lease."""
    instructions: str | None
    """None as well: this is not its open turn."""
    # Of its answer, if it has one
    content: str | None
    tool_calls: str | None
    usage: str | None
    model: str | None
    finish_reason: str | None
    # Of its wait, if it ever waited
    digests: str | None
    wait_end_time: datetime | None
    ended_by: str | None
    calls: str | None
    """None as well: it has ended, and what it waited for is forgotten."""
    wait_content: str | None
    wait_tool_calls: str | None
    wait_usage: str | None
    wait_model: str | None


class AdditionRow(NamedTuple):
    """A row of ADD_MESSAGES: where messages were added, and the conversation as it was locked."""

    first_sequence: int | None
    """None: none were."""
    last_added: int | None
    last_sequence: int
    open_turn_id: UUID | None
    lease_expires_at: datetime | None
    update_time: datetime
    is_free: bool
    clash: int | None
    """The first of the messages that names a turn of the conversation, from 0."""
    now: datetime


class ForkRow(NamedTuple):
    """What a row of FORK begins with: the source. The rest is the fork, or nulls: none was made."""

    last_sequence: int
    up_to: int
    is_whole: bool
    """Whether the fork would end where a turn does, in the source."""


def tool_calls_text(tool_calls: tuple[ToolCall, ...]) -> str | None:
    if not tool_calls:
        return None
    return json.dumps([call._asdict() for call in tool_calls], ensure_ascii=False)


def pending_text(calls: Sequence[PendingCall]) -> str:
    return json.dumps([call._asdict() for call in calls], ensure_ascii=False)


def digests_text(digests: Mapping[str, str]) -> str:
    """Return digests as they are stored, and compared: in one form."""
    return json.dumps(digests, sort_keys=True, separators=(",", ":"))


def tools_text(tools: Sequence[CallerTool]) -> str | None:
    if not tools:
        return None
    return json.dumps([tool._asdict() for tool in tools], ensure_ascii=False)


def tools(text: str | None) -> tuple[CallerTool, ...]:
    """Return a caller's tools from their column."""
    return () if text is None else tuple(CallerTool(**tool) for tool in json.loads(text))


def usage_text(usage: Usage | None) -> str | None:
    return None if usage is None else _USAGE % usage


def messages_text(messages: Sequence[NewMessage]) -> str:
    """Return messages as the JSON that ADD_MESSAGES takes."""
    records = [
        {
            "number": number,
            "turn_id": str(message.turn_id),
            "role": message.role.value,
            "content": message.content,
            "tool_calls": tool_calls_text(message.tool_calls),
            "usage": usage_text(message.usage),
            "model": message.model or None,
            "finish_reason": message.finish_reason and message.finish_reason.value,
            "create_time": message.create_time and message.create_time.isoformat(),
        }
        for number, message in enumerate(messages)
    ]
    return json.dumps(records, ensure_ascii=False)


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
            has_turn,
        )
        for sequence, role, content, tool_calls, finish_reason, opaque_state, has_turn, _ in found
    ]


async def in_slices(found: Sequence[Row], made: Callable[[Row], T]) -> list[T]:
    """Make values of a page's rows, so that the loop never waits for more than a few of them."""
    values: list[T] = []
    for start in range(0, len(found), SLICE):
        if start:
            await asyncio.sleep(0)
        values += map(made, found[start : start + SLICE])
    return values


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
    """Return the conversation in a row of `conversation_columns`."""
    labels, instructions, revision, forked_from_id, forked_from_sequence, agent = row[-6:]
    known = {} if labels is None else json.loads(labels)
    source = None if forked_from_id is None else ForkedFrom(forked_from_id, forked_from_sequence)
    return Conversation(*row[:-6], known, instructions or "", revision, source, agent or "")  # type: ignore[call-arg]  # of 7


def labels_text(labels: Mapping[str, str]) -> str | None:
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False) if labels else None


def turn(row: Row, max_attempts: int) -> Turn:
    """Return a turn; an overrun lease is reported as abandoned.

    Args:
        row: a TurnRow.
        max_attempts: how many attempts in a row may fail; beyond, this is what is reported.
    """
    found = TurnRow(*row)
    state, end_time = TurnState(found.state), found.end_time
    reason = None if found.error_reason is None else FailureReason(found.error_reason)
    text = found.error_text or ""
    spent_attempts, abandoned_attempts = found.spent_attempts, found.abandoned_attempts
    if state is TurnState.RUNNING and not found.is_leased:
        state, end_time = TurnState.FAILED, found.lease_expires_at
        reason, text = FailureReason.TURN_ABANDONED, TURN_ABANDONED_TEXT
    if state is TurnState.FAILED or (state is TurnState.QUEUED and found.attempt):
        spent_attempts = max(0, spent_attempts + (reason not in UNCOUNTED))
        is_abandoned = reason is FailureReason.TURN_ABANDONED
        abandoned_attempts = abandoned_attempts + 1 if is_abandoned else 0
        if spent_attempts >= max_attempts and not found.is_cancel_requested and found.attempt:
            state, reason = TurnState.FAILED, FailureReason.ATTEMPTS_EXHAUSTED
            text = str(AttemptsExhausted(found.id, spent_attempts))
        elif found.is_started:
            state, reason, text, end_time = TurnState.QUEUED, None, "", None
    return Turn(
        id=found.id,
        conversation_id=found.conversation_id,
        request_id=found.request_id,
        fingerprint=found.fingerprint,
        agent=found.agent,
        state=state,
        attempt=found.attempt,
        user_sequence=found.user_sequence,
        response_sequence=found.response_sequence,
        error_reason=reason,
        error_text=text,
        create_time=found.create_time,
        end_time=end_time,
        context=_context(found),
        answer=_answer(found),
        is_newest=found.last_sequence == (found.response_sequence or found.user_sequence) > 0,
        fence=found.fence,
        is_cancel_requested=found.is_cancel_requested,
        spent_attempts=spent_attempts,
        abandoned_attempts=abandoned_attempts,
        instructions=found.instructions or "",
        last_sequence=found.last_sequence,
        wait=wait(row) if state is TurnState.WAITING else None,
        is_started=found.is_started,
    )


def wait(row: Row) -> Wait | None:
    """Return what a turn waits for, or has waited for, from a TurnRow; None: it never did."""
    found = TurnRow(*row)
    if found.digests is None or found.wait_end_time is None:
        return None
    answer = Answer(
        text=found.wait_content or "",
        tool_calls=_tool_calls(found.wait_tool_calls),
        usage=_usage(found.wait_usage),
        model=found.wait_model or "",
        finish_reason=FinishReason.ACTION_REQUIRED,
    )
    calls = [] if found.calls is None else json.loads(found.calls)
    return Wait(
        answer,
        tuple(PendingCall(**{**call, "kind": PendingKind(call["kind"])}) for call in calls),
        found.wait_end_time,
        json.loads(found.digests),
        None if found.ended_by is None else WaitEnd(found.ended_by),
    )


def lease(row: Row, of: Turn) -> Lease:
    """Return the lease that was taken of a turn."""
    attempt, fence, instructions, is_started = row
    return Lease(
        of.conversation_id,
        of.id,
        attempt,
        fence,
        of.user_sequence,
        # What one waits for says nothing of the attempts before.
        is_taken_over=of.abandoned_attempts > 0 and of.state is not TurnState.WAITING,
        instructions=instructions or "",
        is_started=is_started,
        agent=of.agent,
    )


def _context(found: TurnRow) -> Context | None:
    if found.response_sequence is None:
        return None
    return Context(
        found.context_first_sequence or 0,
        found.context_message_count or 0,
        found.context_omitted_count or 0,
    )


def _answer(found: TurnRow) -> Answer | None:
    if found.response_sequence is None:
        return None
    return Answer(
        text=found.content or "",
        tool_calls=_tool_calls(found.tool_calls),
        usage=_usage(found.usage),
        model=found.model or "",
        finish_reason=_FINISH_REASONS[found.finish_reason or ""],
    )


def stored_event(row: Row) -> StoredEvent:
    index, text, tool_call = row
    event = ToolCall(**json.loads(tool_call)) if text is None else Text(text)
    return StoredEvent(index, event)


def step(row: Row) -> Step:
    number, kind, body = row
    return Step(number, StepKind(kind), body)


def events_text(events: list[StoredEvent]) -> str:
    """Return events as the JSON that APPEND takes."""
    records = [
        {"index": stored.index, "text": stored.event.text}
        if isinstance(stored.event, Text)
        else {"index": stored.index, "tool_call": json.dumps(stored.event._asdict())}
        for stored in events
    ]
    return json.dumps(records, ensure_ascii=False)


def _tool_calls(text: str | None) -> tuple[ToolCall, ...]:
    return () if text is None else tuple(ToolCall(**call) for call in json.loads(text))


def _finish_reason(value: str | None) -> FinishReason | None:
    return None if value is None else _FINISH_REASONS[value]


def _usage(text: str | None) -> Usage | None:
    return None if text is None else Usage(**json.loads(text))
