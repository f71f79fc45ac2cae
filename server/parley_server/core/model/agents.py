"""What an agent is given, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias
from uuid import UUID

from parley_server.core.model.conversations import Context, FinishReason, Role, ToolCall, Usage
from parley_server.core.model.owners import Owner


class WindowMessage(NamedTuple):
    """A message as the agent is shown it."""

    sequence: int
    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    """How an answer ended; None: it is no answer, or was appended without saying."""
    opaque_state: bytes | None = None
    """Of an answer: what the agent that gave it wants back; see OpaqueState."""
    has_turn: bool = True
    """False: it was appended by itself, so that it is shown whether or not an answer follows."""


class Window(NamedTuple):
    """What the agent is shown: what was said, oldest first, then the open turn's message."""

    messages: Sequence[WindowMessage]
    context: Context


@dataclass(frozen=True, slots=True)
class AgentRun:
    """What an agent is given to answer one turn."""

    owner: Owner
    conversation_id: UUID
    turn_id: UUID
    """Stays the same over all attempts: tools use it to be idempotent."""
    attempt: int
    window: Window
    instructions: str
    time_left_s: float
    """How long it may take; it is stopped then."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of an answer's text, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class OpaqueState:
    """What an agent's provider wants back in later turns: reasoning, signatures, item ids.

    The core keeps it with the answer and hands it back in later windows. It is never shown and
    never logged. A newer one of the same run replaces it.
    """

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has used up to now, for the case that it does not come to its Finish."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event of a run."""

    reason: FinishReason
    model: str
    usage: Usage | None = None


AgentEvent: TypeAlias = Text | ToolCall | OpaqueState | Spent | Finish
