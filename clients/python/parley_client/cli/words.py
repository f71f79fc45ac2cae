"""Says what the contract's values mean: in words for people, which programs read as well."""

from typing import Any

from parley.v1 import conversation_pb2 as parts
from parley.v1 import error_reason_pb2
from parley_client.cli.text import one_line
from parley_client.errors import ParleyError

_SPEAKERS: dict[int, str] = {
    parts.ROLE_USER: "you",
    parts.ROLE_ASSISTANT: "agent",
    parts.ROLE_SYSTEM: "system",
}
_USUAL = (
    parts.FINISH_REASON_STOP,
    parts.FINISH_REASON_UNSPECIFIED,
    parts.FINISH_REASON_ACTION_REQUIRED,  # what is asked next says so
)


def speaker_of(role: parts.Role.ValueType) -> str:
    """Return who wrote a message."""
    return _SPEAKERS.get(role, "?")


def state_of(turn: parts.Turn) -> str:
    """Return a turn's state as a word."""
    return name_of(parts.TurnState, turn.state).lower()


def reason_of(reason: error_reason_pb2.ErrorReason.ValueType) -> str:
    """Return why something failed, as the contract calls it; empty: it has not."""
    return name_of(error_reason_pb2.ErrorReason, reason) if reason else ""


def loss_of(error: ParleyError) -> str:
    """Return why a stream is resumed, in words."""
    if error.reason:
        return error.reason.replace("_", " ").lower()
    return "connection lost" if error.__cause__ is None else one_line(error.message)


def ended_by(reason: parts.FinishReason.ValueType) -> str:
    """Return why an answer ended; empty: it was complete."""
    return "" if reason in _USUAL else f"ended: {name_of(parts.FinishReason, reason).lower()}"


def name_of(enum: Any, value: int) -> str:
    """Return a value's name without its enum's; of one newer than this program, its number."""
    if value not in enum.values():
        return str(value)
    return str(enum.Name(value).removeprefix(enum.Name(0).removesuffix("UNSPECIFIED")))


def call_line(call: parts.ToolCall) -> str:
    """Return a tool call with its result, harmless and on one line."""
    mark = "failed: " if call.is_error else ""
    called = f"→ {one_line(call.name)}({one_line(call.arguments)})"
    return f"{called}: {mark}{one_line(call.result)}"


def tokens_of(usage: parts.Usage) -> str:
    """Return how many tokens an answer took: "1,200 tokens in (100 cached), 80 out"."""
    cached = f" ({usage.cached_input_tokens:,} cached)" if usage.cached_input_tokens else ""
    return f"{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out"
