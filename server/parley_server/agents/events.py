"""The events of one run of pydantic-ai, as Parley's.

Text goes on at once. A tool call goes on when its result is there and every earlier call of the
run has gone on: results come in the order in which tools are done. What ends a run is a Finish.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic_core
from pydantic_ai import AgentRunResult, AgentRunResultEvent
from pydantic_ai.agent import AgentRunEvents
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    AgentStreamEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelResponse,
    OutputToolCallEvent,
    OutputToolResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
)
from pydantic_ai.messages import (
    FinishReason as ProviderFinishReason,
)
from pydantic_ai.usage import RunUsage

from parley_server.agents.opaque_state import state_of
from parley_server.agents.step_bodies import Past, tool_call
from parley_server.core.attempts.transcript import MAX_TOOL_CALLS, believable
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import (
    Finish,
    FinishReason,
    OpaqueState,
    Spent,
    Text,
    ToolCall,
    Usage,
)

MAX_UNSEEN_CHARS = 4 * 1024 * 1024
"""How much of arguments and thoughts one run may gather: no later check sees them grow."""

_FINISH: dict[ProviderFinishReason | None, FinishReason] = {
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
"""Everything else is STOP."""


@dataclass(slots=True)
class RunReader:
    """Reads the events of one run.

    A run that goes on from stored steps counts with them: its steps, its usage, its state.
    """

    events: AgentRunEvents[Any]
    past: Past = field(default_factory=Past)
    """What earlier attempts did, and has been told already."""
    is_full: bool = False
    """The run has reached a limit: it is to be stopped."""
    _result: AgentRunResult[Any] | None = None
    _is_shown: bool = False
    """What the newest response says has been passed on as text."""
    _is_in_response: bool = False
    _calls: "_Calls" = field(init=False)
    _unseen_chars: int = 0
    _is_cut: bool = False
    """The limit came in the middle of a response."""

    def __post_init__(self) -> None:
        self._calls = _Calls(asked=sum(isinstance(said, ToolCall) for said in self.past.told()))

    def read(
        self, event: AgentStreamEvent | AgentRunResultEvent[Any]
    ) -> Sequence[Text | ToolCall | OpaqueState | Spent]:
        """Return what an event adds to the answer; often nothing."""
        match event:
            case PartStartEvent() | PartDeltaEvent() | PartEndEvent():
                return self._piece(event)
            case AgentRunResultEvent(result=result):
                self._result = result
                return self._output(result.output)
        self._is_in_response = False
        match event:
            case FunctionToolCallEvent():
                self._ask(event)
                return self.spent()
            case FunctionToolResultEvent(part=returned):
                calls = self._calls.answer(returned)
                return [*self.opaque_state(), *calls] if calls else []
            case OutputToolCallEvent():
                self._is_shown = False
            case OutputToolResultEvent():
                pass
        return []

    def _piece(self, event: PartStartEvent | PartDeltaEvent | PartEndEvent) -> list[Text]:
        if isinstance(event, PartStartEvent) and not self._is_in_response:
            self._is_in_response = True
            self._is_shown = False
        match event:
            case PartStartEvent(part=TextPart(content=text)):
                pass
            case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                pass
            case PartDeltaEvent(delta=delta):
                self._count(delta)
                return []
            case _:
                return []
        self._is_shown = self._is_shown or bool(text)
        return [Text(text)] if text else []

    def _count(self, delta: object) -> None:
        unseen: object = None
        if isinstance(delta, ToolCallPartDelta):
            unseen = delta.args_delta
        elif isinstance(delta, ThinkingPartDelta):
            unseen = delta.content_delta
        if isinstance(unseen, str):
            self._unseen_chars += len(unseen)
            self._is_cut = self.is_full = self._unseen_chars > MAX_UNSEEN_CHARS

    def _ask(self, event: FunctionToolCallEvent) -> None:
        responses = [m for m in self._messages() if isinstance(m, ModelResponse)]
        self._calls.ask(event.part, step=len(responses))
        # Asked again, the model would run into its limit again, as often as tools may be retried.
        is_cut_off = event.args_valid is False and responses[-1].finish_reason == "length"
        self.is_full = is_cut_off or self._calls.asked > MAX_TOOL_CALLS

    def _output(self, output: object) -> list[Text]:
        """Return an output that is no text, as JSON; nothing if it was text and has been shown."""
        if self._is_shown or output is None or output == "":
            return []
        if isinstance(output, str):
            return [Text(output)]
        return [Text(pydantic_core.to_json(output, serialize_unknown=True).decode())]

    def finish(self, model: str, reason: FinishReason | None = None) -> Finish:
        """Return how the run ended.

        Args:
            model: the model's name, if the provider gave none.
            reason: set: what cut the run short.
        Raises: AgentUnavailable: the provider says that the response failed.
        """
        response = self._result.response if self._result else None
        if response is not None:
            if response.finish_reason == "error":
                raise AgentUnavailable
            model = response.model_name or model
            reason = reason or _FINISH.get(response.finish_reason)
        spent = self._usage(self.events.usage)
        if not self.past.messages:
            return Finish(reason or FinishReason.STOP, model, spent)
        usage = self._usage(self.events.usage + self.past.usage)
        return Finish(reason or FinishReason.STOP, model, usage, spent)

    def opaque_state(self) -> list[OpaqueState]:
        """Return what the provider wants back of the responses so far, if it wants anything."""
        state = state_of(self._messages())
        return [] if state is None else [OpaqueState(state)]

    def spent(self) -> list[Spent]:
        """Return what the responses so far have used, as far as the provider told."""
        try:
            used = _measured(self.events.usage)
        except UserError:  # the run failed before it began
            return []
        return [Spent(used)] if used.model_requests else []

    def _messages(self) -> list[ModelMessage]:
        """Return what was exchanged with the model for this turn so far."""
        return [*self.past.messages, *self.events.new_messages()]

    def _usage(self, used: RunUsage) -> Usage | None:
        """Return what was used; None: of one response at least it is unknown."""
        if used.unmeasured_requests or self._is_cut:
            return None
        return believable(_measured(used))


def _measured(used: RunUsage) -> Usage:
    return Usage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cached_input_tokens=used.cache_read_tokens,
        model_requests=used.requests,
    )


@dataclass(slots=True)
class _Calls:
    """Tool calls under way, in the order in which they were asked for."""

    asked: int = 0
    _open: dict[str, tuple[ToolCallPart, int]] = field(default_factory=dict)
    _results: dict[str, ToolReturnPart] = field(default_factory=dict)

    def ask(self, call: ToolCallPart, step: int) -> None:
        self.asked += 1
        self._open[call.tool_call_id] = (call, step)

    def answer(self, result: ToolReturnPart) -> list[ToolCall]:
        """Take a result. Returns: the calls that can go on now."""
        self._results[result.tool_call_id] = result
        done: list[ToolCall] = []
        while self._open and (first := next(iter(self._open))) in self._results:
            call, step = self._open.pop(first)
            done.append(tool_call(call, self._results.pop(first), step))
        return done
