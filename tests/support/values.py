"""Values of the model, for tests of the rules that are made of them."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from parley_server.core.model import Lease, Owner, ToolCall, Turn, TurnState, WindowMessage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FINGERPRINT = b"fingerprint"

_TURN = Turn(
    id=UUID(int=1),
    conversation_id=UUID(int=0),
    request_id="r",
    fingerprint=FINGERPRINT,
    agent="",
    state=TurnState.RUNNING,
    attempt=1,
    user_sequence=1,
    response_sequence=None,
    error_reason=None,
    error_text="",
    create_time=NOW,
    end_time=None,
    context=None,
    answer=None,
    is_newest=True,
    fence=1,
    is_cancel_requested=False,
)


def a_turn(**changes: Any) -> Turn:
    """Return the newest turn of a conversation, running, with these changes."""
    return replace(_TURN, **changes)


class WindowStore:
    """The store as far as windows go: the messages before the open turn's own, in memory."""

    def __init__(self, *oldest_first: WindowMessage) -> None:
        self.messages = oldest_first
        self.asked: list[tuple[int, int]] = []
        """What each window was limited to: messages, bytes."""
        self.forgotten: list[Lease] = []

    async def window(
        self, owner: Owner, lease: Lease, *, max_messages: int, max_bytes: int
    ) -> list[WindowMessage]:
        self.asked.append((max_messages, max_bytes))
        found: list[WindowMessage] = []
        for message in self.messages[: -max_messages - 1 : -1]:
            max_bytes -= bytes_of(message)
            if max_bytes < 0:
                break
            found.append(message)
        return found

    async def forget_events(self, owner: Owner, lease: Lease) -> None:
        self.forgotten.append(lease)


def bytes_of(message: WindowMessage) -> int:
    """Return how much a message counts: its text and its tool calls."""
    return len(message.content.encode()) + sum(map(bytes_of_call, message.tool_calls))


def bytes_of_call(call: ToolCall) -> int:
    """Return how much a tool call counts."""
    return sum(len(part.encode()) for part in (call.id, call.name, call.arguments, call.result))


def a_lease(user_sequence: int = 1) -> Lease:
    """Return the lease of the first attempt of a turn that began with this sequence."""
    return Lease(UUID(int=0), UUID(int=1), attempt=1, fence=1, user_sequence=user_sequence)


class NotedSignals:
    """Signals to other workers, noted instead of sent."""

    def __init__(self, *, are_live: bool = True) -> None:
        self.are_live = are_live
        self.sent: list[UUID] = []

    def send(self, topic: UUID) -> None:
        self.sent.append(topic)


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)
