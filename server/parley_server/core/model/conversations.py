"""Conversations, their messages, and pages of both."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    ACTION_REQUIRED = "ACTION_REQUIRED"
    """The turn waits for its caller. Never of a stored message."""


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


CLOCKS_DIFFER_S = 60
"""By how much a caller's clock may be ahead of the database's."""
NO_TURN = UUID(int=0)
"""Stands for the turn of an appended message that has none."""


FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)
"""Ids are their callers' to choose: a conversation may have either."""


def next_id(of: UUID) -> UUID | None:
    """Return the id behind one, in their order; None: it is the last."""
    return None if of == LAST_ID else UUID(int=of.int + 1)


class Message(NamedTuple):
    """One immutable record of a conversation."""

    sequence: int
    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...]
    turn_id: UUID
    """NO_TURN: it was appended without one. In a fork, a turn of the original."""
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


class ForkedFrom(NamedTuple):
    """Where the messages of a conversation were copied from."""

    conversation_id: UUID
    last_sequence: int
    """Of the last message that was copied."""


class Conversation(NamedTuple):
    id: UUID
    title: str
    create_time: datetime
    update_time: datetime
    last_sequence: int
    preview: str
    open_turn_id: UUID | None
    labels: Mapping[str, str]
    instructions: str
    """What the agent is told in it. Empty in lists."""
    revision: int
    forked_from: ForkedFrom | None = None
    agent: str = ""
    """Answers the turns whose callers name none. Empty: the default one."""


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation that a caller asks for."""

    conversation_id: UUID | None
    """None: any id."""
    request_id: str | None
    title: str
    labels: Mapping[str, str]
    instructions: str
    agent: str = ""

    def fingerprint(self) -> bytes:
        """Return what tells whether two calls ask for the same conversation.

        A field that was added later counts only when it is set, so that what is stored stays valid.
        """
        asked = [
            "" if self.conversation_id is None else str(self.conversation_id),
            self.title,
            sorted(self.labels.items()),
            self.instructions,
            *([self.agent] if self.agent else []),
        ]
        return hashlib.sha256(json.dumps(asked).encode()).digest()


@dataclass(frozen=True, slots=True)
class ConversationChange:
    """What a caller wants changed in a conversation; None: it stays as it is."""

    conversation_id: UUID
    title: str | None
    labels: Mapping[str, str] | None
    instructions: str | None
    expected_revision: int | None
    """None: any."""
    agent: str | None = None

    def is_made_in(self, found: Conversation) -> bool:
        """Say whether a conversation is as this change leaves it."""
        return (
            self.title in (None, found.title)
            and self.labels in (None, found.labels)
            and self.instructions in (None, found.instructions)
            and self.agent in (None, found.agent)
        )


class Deleted(NamedTuple):
    """What came of deleting a conversation."""

    open_turn_id: UUID | None
    """The turn that was open, which is ended."""
    purge_time: datetime
    """From when on it cannot be brought back."""


class Hidden(NamedTuple):
    """A conversation that was deleted as one of many."""

    conversation_id: UUID
    open_turn_id: UUID | None
    """The turn that was open, which is ended."""


class DeletionStage(StrEnum):
    """What is done next about a deleted conversation, once it is due."""

    TRASHED = "TRASHED"
    """It can be brought back. Next, what was said is removed."""
    PURGING = "PURGING"
    """Its messages are being removed, batch by batch."""
    TOMBSTONE = "TOMBSTONE"
    """Ids are kept, so that a late retry does not begin anew. Next, they are removed too."""
    ERASING = "ERASING"
    """Its owner is being erased, which removes everything, the ids too. It is never due."""


class Deletion(NamedTuple):
    """A deleted conversation about which something is due."""

    owner_id: UUID
    conversation_id: UUID
    stage: DeletionStage


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
class ConversationQuery:
    """Which of an owner's conversations are asked for, the most recently active first."""

    limit: int
    after: "ConversationCursor | None" = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Only those that have all of these."""
    updated_after: datetime | None = None
    """Only those that were active later."""


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """A page of conversations, the most recently active first."""

    conversations: list[Conversation]
    """As many as were asked for, or fewer, even none: `next` alone says whether more may follow."""
    next: "ConversationCursor | None"
    """Where the next page begins. None: this is the last one."""


class ConversationCursor(NamedTuple):
    """A place in a list of conversations: behind the one that was last active then."""

    update_time: datetime
    id: UUID
