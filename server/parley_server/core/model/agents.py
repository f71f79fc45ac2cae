"""What an agent is given, and what it says."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias
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


class StepKind(StrEnum):
    """What a step holds."""

    RESPONSE = "RESPONSE"
    """What the model has said up to the point at which it asks for tools."""
    RESULT = "RESULT"
    """What came of one call of a tool."""
    GIVEN = "GIVEN"
    """What the caller gave for a call that waited: see `core.attempts.given`."""


class Step(NamedTuple):
    """What an attempt has done, stored when it happened, for the next attempt to go on from."""

    number: int
    """Over all attempts of the turn, from 1."""
    kind: StepKind
    body: str
    """JSON, which only the agent that wrote it reads. It holds what was said."""


class Steps(Protocol):
    """The steps of a turn, as an agent sees them that runs it."""

    @property
    def done(self) -> Sequence[Step]:
        """Those of earlier attempts, in order: the run goes on from them."""
        ...

    async def store(self, kind: StepKind, body: str) -> None:
        """Store one more step; returns once it is stored.

        Raises:
            StepsTooLarge: with it, the turn's steps would be larger than they may be. Nothing was
                stored.
            LeaseLost: the attempt is over. Nothing that the run still does counts.
        Guarantees: waits for a store that is away, for as long as the attempt lasts. Cancelling it
            does not undo it.
        """
        ...


class NoSteps:
    """Steps of a run that has no turn: they go nowhere."""

    done: Sequence[Step] = ()

    async def store(self, kind: StepKind, body: str) -> None:
        """Store nothing."""


NO_STEPS = NoSteps()

NO_ARGUMENTS = '{"type":"object","properties":{}}'
"""The schema of a tool that has none of its own."""


class CallerTool(NamedTuple):
    """A tool that the caller runs."""

    name: str
    description: str
    parameters_schema: str
    """A JSON Schema of type object, as JSON text."""


class PendingKind(StrEnum):
    """What a pending call waits for. The names are PendingCallKind's."""

    RESULT = "RESULT"
    """The caller runs the tool."""
    APPROVAL = "APPROVAL"
    """The caller says whether the server may run it."""


class PendingCall(NamedTuple):
    """A call of a tool that waits for the caller."""

    call_key: str
    """The same in every attempt."""
    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""
    step: int
    kind: PendingKind


class GivenKind(StrEnum):
    """What a caller gave for a pending call."""

    RESULT = "RESULT"
    ERROR = "ERROR"
    APPROVAL = "APPROVAL"
    DENIAL = "DENIAL"


class Given(NamedTuple):
    """What a caller gave for a pending call."""

    call_key: str
    kind: GivenKind
    text: str
    """The result, the error, or why it was denied. Of an approval: empty."""


class AgentLimits(NamedTuple):
    """What a run of an agent may take at most, below the server's own limits. None: no limit."""

    seconds: float | None = None
    """Of one attempt; then it ends as AGENT_TIMEOUT."""
    reply_bytes: int | None = None
    """Of an answer's text in UTF-8; it is cut there, as LENGTH."""
    tool_calls: int | None = None
    """Of an answer; it ends with the last one, as LENGTH."""
    output_tokens: int | None = None
    """Of an answer, over all its requests to models; it is cut there, as LENGTH."""
    tokens_a_day: int | None = None
    """Of an owner's turns with this agent; then they are refused, as BUDGET_EXHAUSTED."""


NO_LIMITS = AgentLimits()


class AgentBudgets(NamedTuple):
    """What an owner's turns with each agent may use a day."""

    default: str
    """The name of the agent that answers where none is named."""
    tokens_a_day: Mapping[str, int]
    """By name; an agent that is not in it has no budget."""

    def may_hold(self, agent: str, *, is_new_conversation: bool) -> bool:
        """Say whether a turn may be one of an agent that has a budget.

        Args:
            agent: whom its caller names; empty: none.
            is_new_conversation: the conversation has no agent of its own.
        """
        if agent or is_new_conversation:
            return (agent or self.default) in self.tokens_a_day
        return bool(self.tokens_a_day)


NO_BUDGETS = AgentBudgets("", {})


class Rehearsal:
    """The tool calls that a turn has made, for a run that must not act. Each is given out once."""

    def __init__(self, calls: Iterable[ToolCall]) -> None:
        self._calls = [(call.name, _parsed(call.arguments), call) for call in calls]

    def take(self, name: str, arguments: str) -> ToolCall | None:
        """Return the first call of this tool with equal arguments that was not taken yet.

        Args:
            arguments: JSON text. Order of keys and spaces do not count. What is no JSON equals
                only itself.
        """
        wanted = _parsed(arguments)
        for place, (known, parsed, call) in enumerate(self._calls):
            if known == name and parsed == wanted:
                del self._calls[place]
                return call
        return None


def _parsed(arguments: str) -> str:
    """Return JSON in one form: in Python, true equals 1."""
    try:
        value = json.loads(arguments or "{}", parse_float=_number)
        return json.dumps(value, sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value


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
    steps: Steps = NO_STEPS
    """What the turn's earlier attempts did, and where this one writes down what it does."""
    tools: Sequence[CallerTool] = ()
    """Those that the caller runs, beside the agent's own."""
    limits: AgentLimits = NO_LIMITS
    """What it may take. The core holds it to `seconds`, `reply_bytes` and `tool_calls`."""
    rehearsal: Rehearsal | None = None
    """Set: no tool may run. What it has is the only result that a call may get, caller's tools and
    approvals included; any other call fails."""


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
    """Of the whole answer, earlier attempts' steps included."""
    spent: Usage | None = None
    """Of this run alone, if it went on from steps; None: the same as `usage`."""


@dataclass(frozen=True, slots=True)
class Awaiting:
    """The last event of a run that cannot go on without the caller, in the place of a Finish.

    The response that asks for the calls, and every result that is there already, were stored as
    steps before. A later run gets what was given as steps of kind GIVEN, all of them or some: then
    it ends with Awaiting again, with the rest.
    """

    calls: tuple[PendingCall, ...]
    """At least one, in order."""
    model: str
    usage: Usage | None = None
    """As of a Finish: of the answer so far."""
    spent: Usage | None = None


AgentEvent: TypeAlias = Text | ToolCall | OpaqueState | Spent | Finish | Awaiting
