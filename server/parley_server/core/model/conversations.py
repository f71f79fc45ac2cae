"""Conversations, their messages, and pages of both."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

PAGE_BYTES = 1024 * 1024


class Role(StrEnum):
    USER = "USER"
    ASSISTANT = "ASSISTANT"
    SYSTEM = "SYSTEM"


class FinishReason(StrEnum):
    STOP = "STOP"
    LENGTH = "LENGTH"
    CANCELLED = "CANCELLED"
    CONTENT_FILTER = "CONTENT_FILTER"


class ToolCall(NamedTuple):
    """One use of a tool, with what came of it."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""
    result: str
    is_error: bool
    step: int
    """Calls of one model response share it; counted from 1."""


class Usage(NamedTuple):
    """What a turn cost, in tokens."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    model_requests: int


class Message(NamedTuple):
    """One immutable record of a conversation."""

    sequence: int
    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...]
    turn_id: UUID
    create_time: datetime
    usage: Usage | None
    model: str
    finish_reason: FinishReason | None


class Context(NamedTuple):
    """Which part of a conversation a window shows."""

    first_sequence: int
    message_count: int
    """The turn's own message included."""
    omitted_count: int


class Conversation(NamedTuple):
    id: UUID
    title: str
    create_time: datetime
    update_time: datetime
    last_sequence: int
    preview: str
    open_turn_id: UUID | None


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which messages of a conversation are asked for: those with above < sequence < below."""

    conversation_id: UUID
    limit: int
    above: int = 0
    below: int | None = None
    """None: up to the newest."""
    newest_first: bool = False
    max_bytes: int = PAGE_BYTES
    """What a page may hold, unless its first message alone is larger."""
    min_sequence: int = 0
    """How far the conversation must have come for the caller, who has seen that much of it."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of messages, and how long the conversation was when it was read."""

    messages: list[Message]
    has_more: bool
    last_sequence: int


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """A page of conversations, the most recently active first."""

    conversations: list[Conversation]
    has_more: bool


class ConversationCursor(NamedTuple):
    """A place in a list of conversations: behind the one that was last active then."""

    update_time: datetime
    id: UUID
