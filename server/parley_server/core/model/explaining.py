"""What a turn's agent was shown and did, and what another run of it would say."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias
from uuid import UUID

from parley_server.core.model.agents import CallerTool, Text, WindowMessage
from parley_server.core.model.conversations import Context, ToolCall
from parley_server.core.model.turns import Answer, FailureReason, Turn, TurnRef, Wait


class OmissionReason(StrEnum):
    """Why messages were not shown to an agent. The names are OmissionReason's."""

    OLDER = "OLDER"
    """The window holds so many messages and so much text."""
    UNANSWERED = "UNANSWERED"
    WITHDRAWN = "WITHDRAWN"
    """Their turn was cancelled or filtered before anything was said or done."""


class Omitted(NamedTuple):
    """Neighbouring messages that were not shown, for one reason."""

    first_sequence: int
    last_sequence: int
    reason: OmissionReason


class PastAttempt(NamedTuple):
    """An attempt at a turn."""

    number: int
    start_time: datetime | None
    """None: unknown."""
    end_time: datetime | None
    """None: it runs, or its worker died."""
    error_reason: FailureReason | None
    """None: it runs, has not failed, or that is unknown."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn, and what is kept of it for explaining, read together."""

    turn: Turn
    wait: Wait | None
    """None: it never waited."""
    message: str = field(repr=False)
    """The turn's own; empty: it never began."""
    tools: Sequence[CallerTool]
    """Those of the caller, if it ever waited."""
    instructions: str = field(repr=False)
    """Of its conversation, as they are now."""
    instructions_digest: bytes | None
    """Of what its agent was told. None: it has no answer, or was answered by an earlier release."""
    attempts: Sequence[PastAttempt]
    """In order."""

    @property
    def name(self) -> TurnRef:
        return TurnRef(self.turn.conversation_id, self.turn.id, None)


class ShownMessage(NamedTuple):
    """A message as an agent was shown it."""

    message: WindowMessage
    is_shortened: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a turn's agent was shown and did; of a turn without an answer: what it would be."""

    turn: Turn
    messages: Sequence[ShownMessage]
    """Oldest first; the last one is the turn's own. Empty: the turn has not begun."""
    omitted: Sequence[Omitted]
    """In order."""
    instructions_digest: bytes | None
    is_unchanged: bool
    """Whether the same turn would be told the same instructions now."""
    tool_calls: Sequence[ToolCall]
    attempts: Sequence[PastAttempt]


class RehearsalRequest(NamedTuple):
    """Which turn is to be rehearsed, and by whom."""

    turn: TurnRef
    agent: str
    """Empty: the turn's own."""


class RehearsalStarted(NamedTuple):
    """First of a rehearsal: who is asked, and what it is shown."""

    agent: str
    context: Context
    conversation_id: UUID
    turn_id: UUID
    """Of the turn that is rehearsed."""


RehearsalEvent: TypeAlias = RehearsalStarted | Text | ToolCall | Answer
"""The last one is an Answer."""


class Rehearsed(NamedTuple):
    """What an owner has rehearsed on this worker, to be looked at together with its turns."""

    runs: int
    """Within the last minute."""
    next_run_s: float
    """How long until the first of them is longer ago."""
    tokens: int
    """Today, in UTC."""
    agent_tokens: int
    """Those with the agent that is asked for."""
    day_left_s: float
