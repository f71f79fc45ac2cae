"""What is added to conversations without an agent, copied from them, and exported."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias
from uuid import UUID

from parley_server.core.model.conversations import (
    CLOCKS_DIFFER_S,
    NO_TURN,
    Conversation,
    FinishReason,
    Message,
    Role,
    ToolCall,
    Usage,
)
from parley_server.core.model.turns import OnBusy


class NewMessage(NamedTuple):
    """A message that a caller adds."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    turn_id: UUID = NO_TURN
    create_time: datetime | None = None
    """None: when it is added."""
    usage: Usage | None = None
    model: str = ""
    finish_reason: FinishReason | None = None

    def is_later_than(self, now: datetime) -> bool:
        """Whether it was written after now, by more than clocks may differ."""
        tolerance = timedelta(seconds=CLOCKS_DIFFER_S)
        return self.create_time is not None and self.create_time > now + tolerance


@dataclass(frozen=True, slots=True)
class NewMessages:
    """What a caller asks to add, checked field by field."""

    conversation_id: UUID
    request_id: str | None
    messages: Sequence[NewMessage]
    """At least one."""
    allow_missing: bool = False
    expected_sequence: int | None = None
    """None: any."""
    on_busy: OnBusy = OnBusy.REJECT

    def fingerprint(self) -> bytes:
        """Return what tells whether two calls add the same messages to the same conversation."""
        asked = [
            str(self.conversation_id),
            [
                [
                    message.role,
                    message.content,
                    message.tool_calls,
                    str(message.turn_id),
                    message.create_time and message.create_time.isoformat(),
                    message.usage,
                    message.model,
                    message.finish_reason,
                ]
                for message in self.messages
            ],
        ]
        return hashlib.sha256(json.dumps(asked).encode()).digest()


class Added(NamedTuple):
    """Where the messages that were added stand."""

    conversation_id: UUID
    first_sequence: int
    last_sequence: int
    is_replayed: bool
    """An earlier call had added them."""
    has_ended_turn: bool = False
    """The open turn was abandoned, which is written down with them."""


@dataclass(frozen=True, slots=True)
class NewFork:
    """A copy of a conversation that a caller asks for."""

    source_id: UUID
    conversation_id: UUID | None
    """The one that it is to have; None: any."""
    request_id: str | None
    up_to_sequence: int
    """The last message to copy; 0: that of the newest turn that has ended."""

    def fingerprint(self) -> bytes:
        """Return what tells whether two calls ask for the same copy, and not for a new one."""
        new_id = "" if self.conversation_id is None else str(self.conversation_id)
        asked = {"fork": [str(self.source_id), new_id, self.up_to_sequence]}
        return hashlib.sha256(json.dumps(asked).encode()).digest()


class ExportCursor(NamedTuple):
    """A place in an export: behind this message of this conversation; 0: behind itself."""

    conversation_id: UUID
    sequence: int


class ExportDone(NamedTuple):
    """The end of an export."""


class ExportPart(NamedTuple):
    """One part of an export."""

    item: Conversation | Message | ExportDone
    cursor: ExportCursor | None
    """The place behind it; None: the beginning, because there is nothing at all."""


ExportPage: TypeAlias = Sequence[ExportPart]
