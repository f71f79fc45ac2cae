"""What those see who follow a turn or watch a conversation."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from uuid import UUID

from parley_server.core.model.agents import Text
from parley_server.core.model.conversations import Message, ToolCall
from parley_server.core.model.turns import Turn, TurnResult


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A piece of an answer under way, as every follower of the turn sees it."""

    index: int
    """Its place within its attempt, from 0."""
    event: Text | ToolCall


@dataclass(frozen=True, slots=True)
class Position:
    """How far a caller has followed a turn."""

    attempt: int
    """0: it has seen nothing."""
    index: int
    """The last event seen; -1: none of this attempt."""


@dataclass(frozen=True, slots=True)
class Started:
    """First of a stream whose turn runs."""

    conversation_id: UUID
    turn_id: UUID
    user_sequence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Piece:
    """An event of a turn's attempt, as it is streamed."""

    attempt: int
    index: int
    event: Text | ToolCall


@dataclass(frozen=True, slots=True)
class Completed:
    """Last of a stream: the answer, which replaces what was gathered from the pieces."""

    answered: TurnResult
    attempt: int
    """0: the turn had ended before."""


StreamEvent: TypeAlias = Started | Piece | Completed


class Progress(NamedTuple):
    """Says that a watch has delivered everything there was."""

    last_sequence: int


class Gone(NamedTuple):
    """Last of a watch: the conversation was deleted."""

    conversation_id: UUID


WatchUpdate: TypeAlias = Message | Turn | Piece | Progress | Gone
