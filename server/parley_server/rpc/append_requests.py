"""AppendMessagesRequest: messages from elsewhere, each checked as strictly as Parley's own."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.attempts.transcript import (
    MAX_ARGUMENTS_BYTES,
    MAX_MODEL_BYTES,
    MAX_REQUESTS,
    MAX_RESULT_BYTES,
    MAX_TEXT_BYTES,
    MAX_TOKENS,
    MAX_TOOL_CALLS,
)
from parley_server.core.model import (
    NO_TURN,
    FinishReason,
    NewMessage,
    NewMessages,
    OnBusy,
    Role,
    ToolCall,
    Usage,
)
from parley_server.rpc.violations import Violations

MAX_MESSAGES = 1000
MAX_BYTES = 1024 * 1024
"""Of all messages of a call together."""
MAX_ALL_TOOL_CALLS = 10_000
"""Of all messages of a call together: each costs the worker some µs, however short it is."""

Numbered: TypeAlias = tuple[int, conversation_pb2.Message]
Sized: TypeAlias = tuple[int, NewMessage]
InSlices: TypeAlias = Callable[
    [Sequence[Numbered], Callable[[Numbered], Sized]], Awaitable[list[Sized]]
]

_ROLES = {conversation_pb2.Role.Value(f"ROLE_{role.value}"): role for role in Role}
_FINISH_REASONS: dict[int, FinishReason | None] = {
    conversation_pb2.FINISH_REASON_UNSPECIFIED: None,
    **{
        conversation_pb2.FinishReason.Value(f"FINISH_REASON_{reason.value}"): reason
        for reason in FinishReason
        if reason is not FinishReason.ACTION_REQUIRED  # of no stored message
    },
}
_OF_ANSWERS = ("tool_calls", "usage", "model", "finish_reason")


async def append(
    request: pb.AppendMessagesRequest, max_message_bytes: int, in_slices: InSlices
) -> NewMessages:
    """Read an AppendMessagesRequest.

    Args:
        max_message_bytes: how long a user's or a system's message may be, in UTF-8.
        in_slices: makes the messages, a few at a time: 1,000 of them take the loop for long.
    Raises: InvalidRequest.
    """
    violations = Violations()
    conversation_id = violations.required_uuid("conversation_id", request.conversation_id)
    request_id = violations.request_id(request.request_id)
    expected = violations.expected_sequence(request)
    on_busy = violations.on_busy(request.on_busy)
    if on_busy is OnBusy.REPLACE:
        violations.add("on_busy", "UNKNOWN_VALUE", "can be ON_BUSY_REPLACE only for Chat")
    messages: list[NewMessage] = []
    if _are_few(request.messages, violations):

        def made(numbered: Numbered) -> Sized:
            number, message = numbered
            violations.prefix = f"messages[{number}]."
            return _size(message), _message(message, max_message_bytes, violations)

        sized = await in_slices(list(enumerate(request.messages)), made)
        violations.prefix = ""
        if (size := sum(size for size, _ in sized)) > MAX_BYTES:
            violations.add("messages", "TOO_LONG", f"has {size} bytes; the maximum is {MAX_BYTES}")
        messages = [message for _, message in sized]
    violations.raise_any()
    return NewMessages(
        conversation_id, request_id, messages, request.allow_missing, expected, on_busy
    )


def _are_few(messages: Sequence[conversation_pb2.Message], violations: Violations) -> bool:
    """Whether there are messages, and not too many of them, or of what is in them."""
    if not messages:
        violations.add("messages", "REQUIRED", "must not be empty")
        return False
    if not violations.at_most("messages", len(messages), MAX_MESSAGES, "messages"):
        return False
    counts = [len(message.tool_calls) for message in messages]
    are_few = [
        violations.at_most(f"messages[{number}].tool_calls", count, MAX_TOOL_CALLS, "calls")
        for number, count in enumerate(counts)
    ]
    if not all(are_few):
        return False
    return violations.at_most("messages", sum(counts), MAX_ALL_TOOL_CALLS, "tool calls")


def _size(message: conversation_pb2.Message) -> int:
    calls = message.tool_calls
    texts = [text for c in calls for text in (c.id, c.name, c.arguments, c.result)]
    return sum(len(text.encode()) for text in (message.content, *texts))


def _message(
    message: conversation_pb2.Message, max_message_bytes: int, violations: Violations
) -> NewMessage:
    role = _ROLES.get(message.role)
    if role is None:
        unknown = "must be set" if not message.role else f"{message.role} is not a known value"
        violations.add("role", "UNKNOWN_VALUE" if message.role else "REQUIRED", unknown)
    elif role is Role.ASSISTANT:
        _check_answer(message, violations)
    else:
        violations.message(message.content, max_message_bytes, "content")
        for field in _OF_ANSWERS:
            if getattr(message, field) if field != "usage" else message.HasField("usage"):
                violations.add(field, "NOT_AN_ANSWER", "may be set only with ROLE_ASSISTANT")
    return NewMessage(
        role or Role.USER,
        message.content,
        tuple(_tool_call(call) for call in message.tool_calls),
        _turn_id(message.turn_id, violations),
        _create_time(message, violations),
        _usage(message, violations),
        message.model,
        violations.choice("finish_reason", message.finish_reason, _FINISH_REASONS),
    )


def _check_answer(message: conversation_pb2.Message, violations: Violations) -> None:
    violations.text("content", message.content, MAX_TEXT_BYTES)
    if not (message.content or message.tool_calls or message.finish_reason):
        description = "must be set, unless there are tool_calls, or a finish_reason that says why"
        violations.add("content", "REQUIRED", description)
    violations.text("model", message.model, MAX_MODEL_BYTES)
    seen: set[tuple[str, int]] = set()  # some providers name calls alike in several steps
    for number, call in enumerate(message.tool_calls):
        _check_tool_call(f"tool_calls[{number}].", call, seen, violations)
        seen.add((call.id, call.step))


def _check_tool_call(
    path: str,
    call: conversation_pb2.ToolCall,
    seen: set[tuple[str, int]],
    violations: Violations,
) -> None:
    limits = {
        "id": MAX_BYTES,
        "name": MAX_BYTES,
        "arguments": MAX_ARGUMENTS_BYTES,
        "result": MAX_RESULT_BYTES,
    }
    for field, max_bytes in limits.items():
        value = getattr(call, field)
        if not value and field in ("id", "name"):
            violations.add(path + field, "REQUIRED", "must not be empty")
        violations.text(path + field, value, max_bytes)
    if (call.id, call.step) in seen:
        violations.add(path + "id", "NOT_UNIQUE", "must not be that of another call of the step")
    if call.step < 1:
        violations.add(path + "step", "TOO_LOW", "must be 1 or more")


def _tool_call(call: conversation_pb2.ToolCall) -> ToolCall:
    return ToolCall(call.id, call.name, call.arguments, call.result, call.is_error, call.step)


def _turn_id(value: str, violations: Violations) -> UUID:
    turn_id = violations.uuid("turn_id", value)
    if turn_id == NO_TURN:
        violations.add("turn_id", "NIL", "must not be the nil UUID: leave it empty")
    return turn_id or NO_TURN


def _create_time(message: conversation_pb2.Message, violations: Violations) -> datetime | None:
    if not message.HasField("create_time"):
        return None
    return violations.moment("create_time", message.create_time)


def _usage(message: conversation_pb2.Message, violations: Violations) -> Usage | None:
    if not message.HasField("usage"):
        return None
    usage = Usage(**{field: getattr(message.usage, field) for field in Usage._fields})
    for field, count in usage._asdict().items():
        most = MAX_REQUESTS if field == "model_requests" else MAX_TOKENS
        violations.not_negative(f"usage.{field}", count)
        if count > most:
            violations.add(f"usage.{field}", "TOO_HIGH", f"must be {most} or less")
    return usage
