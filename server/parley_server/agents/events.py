"""The events of one run of pydantic-ai, as Parley's.

Text goes on at once. A tool call goes on when its result is there and every earlier call of the
run has gone on: results come in the order in which tools are done, those of calls that wait last.
What ends a run is a Finish, or an Awaiting.
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
from parley_server.agents.past import Past
from parley_server.agents.step_bodies import tool_call
from parley_server.core.attempts.transcript import MAX_TOOL_CALLS, believable, storable
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import (
    Awaiting,
    Finish,
    FinishReason,
    OpaqueState,
    PendingCall,
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
    before: Usage | None = None
    """What this attempt has used before, in runs that were given up. None: there was none."""
    max_calls: int = MAX_TOOL_CALLS
    """Of tools. The transcript ends the answer with the last one; if it is 0, the first ends it."""
    max_bytes: int | None = None
    """Of text; for a model that does not heed how many tokens are left."""
    is_full: bool = False
    """The run has reached a limit: it is to be stopped."""
    cut_by: FinishReason | None = None
    """What cut the run short, if the limit did not."""
    _result: AgentRunResult[Any] | None = None
    _is_shown: bool = False
    """What the newest response says has been passed on as text."""
    _is_in_response: bool = False
    _calls: "_Calls" = field(init=False)
    _unseen_chars: int = 0
    _said_bytes: int = 0
    _is_cut: bool = False
    """The limit came in the middle of a response."""

    def __post_init__(self) -> None:
        before = list(self.past.told())
        self._calls = _Calls(asked=sum(isinstance(said, ToolCall) for said in before))
        self._said_bytes = sum(len(said.text.encode()) for said in before if isinstance(said, Text))

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
                return [*self._with_state(self._ask(event)), *self.spent()]
            case FunctionToolResultEvent(part=returned):
                return self._with_state(self._calls.answer(returned))
            case OutputToolCallEvent():
                self._is_shown = False
            case OutputToolResultEvent(part=returned):
                return self._with_state(self._calls.leave_out(returned.tool_call_id))
        return []

    def _with_state(self, calls: list[ToolCall]) -> list[OpaqueState | ToolCall]:
        return [*self.opaque_state(), *calls] if calls else []

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
        text = storable(text or "")  # some models' libraries pass on what is no text
        self._is_shown = self._is_shown or bool(text)
        self._said_bytes += len(text.encode())
        if self.max_bytes is not None and self._said_bytes > self.max_bytes:
            self._is_cut = self.is_full = True
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

    def _ask(self, event: FunctionToolCallEvent) -> list[ToolCall]:
        responses = [m for m in self._messages() if isinstance(m, ModelResponse)]
        ids = [call.tool_call_id for call in responses[-1].tool_calls]
        held_back = self._calls.ask(event.part, len(responses), ids)
        # Asked again, the model would run into its limit again, as often as tools may be retried.
        is_cut_off = event.args_valid is False and responses[-1].finish_reason == "length"
        is_too_much = self._calls.asked > (MAX_TOOL_CALLS if self.max_calls else 0)
        self.is_full = is_cut_off or is_too_much
        return held_back

    def _output(self, output: object) -> list[Text]:
        """Return an output that is no text, as JSON; nothing if it was text and has been shown."""
        if self._is_shown or output is None or output == "":
            return []
        if isinstance(output, str):
            return [Text(output)]
        return [Text(pydantic_core.to_json(output, serialize_unknown=True).decode())]

    def end(
        self, model: str, pending: tuple[PendingCall, ...] = ()
    ) -> list[ToolCall | OpaqueState | Finish | Awaiting]:
        """Return what is left to say: calls that were held back, the state, and how the run ended.

        Args:
            model: the model's name, if the provider gave none.
            pending: what the run waits for, if it does.
        Raises: AgentUnavailable: the provider says that the response failed.
        """
        is_cut = self.is_full or self.cut_by is not None
        last = self._awaiting(model, pending) if pending and not is_cut else self._finish(model)
        return [*self._calls.rest(), *self.opaque_state(), last]

    def _finish(self, model: str) -> Finish:
        reason = FinishReason.LENGTH if self.is_full else self.cut_by
        response = self._result.response if self._result else None
        if response is not None:
            if response.finish_reason == "error":
                raise AgentUnavailable
            model = response.model_name or model
            reason = reason or _FINISH.get(response.finish_reason)
        return Finish(reason or FinishReason.STOP, model, *self._used())

    def _awaiting(self, model: str, pending: tuple[PendingCall, ...]) -> Awaiting:
        responses = [m for m in self._messages() if isinstance(m, ModelResponse)]
        model = (responses[-1].model_name if responses else None) or model
        return Awaiting(pending, model, *self._used())

    def _used(self) -> tuple[Usage | None, Usage | None]:
        """Return what the whole answer has used, and this run, if that is less."""
        spent = self._usage(self.events.usage)
        if not self.past.messages:
            return spent, None
        return self._usage(self.events.usage + self.past.usage), spent and self._with_before(spent)

    def _with_before(self, used: Usage) -> Usage:
        return (
            used if self.before is None else Usage(*map(sum, zip(used, self.before, strict=True)))
        )

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
        return [Spent(self._with_before(used))] if any(used) else []

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
    """Tool calls under way, in the order in which their response asks for them.

    They are not announced in that order: those that wait for the caller come last.
    """

    asked: int = 0
    _step: int = 0
    _order: list[str] = field(default_factory=list)
    """The newest response's calls that have not gone on."""
    _open: dict[str, ToolCallPart] = field(default_factory=dict)
    _results: dict[str, ToolReturnPart] = field(default_factory=dict)
    _left_out: set[str] = field(default_factory=set)

    def ask(self, call: ToolCallPart, step: int, ids: list[str]) -> list[ToolCall]:
        """Take a call.

        Args:
            ids: of all calls of its response.
        Returns: calls of the response before that were held back.
        """
        held_back: list[ToolCall] = []
        if step != self._step:
            held_back = self.rest()
            self._step, self._order = step, ids
            self._left_out.clear()
        if call.tool_call_id not in self._order:
            self._order.append(call.tool_call_id)
        self.asked += 1
        self._open[call.tool_call_id] = call
        return held_back

    def answer(self, result: ToolReturnPart) -> list[ToolCall]:
        """Take a result. Returns: the calls that can go on now."""
        if result.tool_call_id in self._open:
            self._results[result.tool_call_id] = result
        return self._ready()

    def leave_out(self, call_id: str) -> list[ToolCall]:
        """Take that a call is the run's output, and no tool's. Returns: as `answer`."""
        self._left_out.add(call_id)
        return self._ready()

    def rest(self) -> list[ToolCall]:
        """Give up waiting for results. Returns: the calls that have one and have not gone on."""
        done = [self._done(call_id) for call_id in self._order if call_id in self._results]
        self._order.clear()
        return done

    def _ready(self) -> list[ToolCall]:
        done: list[ToolCall] = []
        while self._order:
            first = self._order[0]
            if first in self._results:
                done.append(self._done(first))
            elif first not in self._left_out:
                break
            self._order.pop(0)
        return done

    def _done(self, call_id: str) -> ToolCall:
        return tool_call(self._open.pop(call_id), self._results.pop(call_id), self._step)
