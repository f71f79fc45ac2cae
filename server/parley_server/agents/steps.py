"""Makes a run durable: what it does is stored as it happens, and never done twice.

    the first tool of a response is to run → its RESPONSE step is stored, then tools run
    a tool is done                         → its RESULT step is stored, then the run goes on
    a call has a RESULT                    → that is its result; the tool does not run
    a call of a tool that is `once` had begun in an earlier attempt
                                           → its result says that it may have run
    the run is a rehearsal                 → its calls get what the turn's own calls had got, or an
                                             error; no tool runs, and nothing is stored
    a call waits for the turn's caller     → that is stored, once the tool has said so or before the
                                             run ends; the tool's code does not run to say it again

Each call has a key, which is the same in every attempt: a tool finds it in `ctx.metadata`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid5

from pydantic_ai import RunContext
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
)
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, ToolReturnPart
from pydantic_ai.tools import DeferredToolKind, ToolDefinition
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from parley_server.agents.past import Past
from parley_server.agents.step_bodies import (
    Outcome,
    Place,
    Shown,
    Wait,
    arguments_of,
    begun_body,
    response_body,
    result_body,
    wait_body,
)
from parley_server.core.attempts.step_log import StepsTooLarge
from parley_server.core.attempts.transcript import MAX_TOOL_CALLS, least, storable
from parley_server.core.model import AgentRun, PendingCall, PendingKind, Rehearsal, StepKind
from parley_server.core.tracing import current_headers

CALL_KEY = "call_key"
"""Of `ctx.metadata`."""
ONCE = "once"
"""Of a tool's metadata: it is true if the tool must not run twice."""
MAY_HAVE_RUN = "This tool may have run already; its outcome is not known."
NO_JSON = "The tool's result cannot be kept: part of it has no JSON form."
TOO_LARGE = "The tool's result is too large to be kept."
REHEARSAL = "This is a rehearsal: no tool runs, and the turn that is rehearsed made no such call."
NO_MORE_CALLS = "The answer has used all the tool calls that it may."
WAITS_AGAIN = "The call was approved, and then waited again, which it cannot."


def call_key(turn_id: UUID, step: int, position: int) -> str:
    """Return the key of a call of a tool: the same in every attempt.

    Args:
        step: which of the turn's model responses asks for it, from 1.
        position: which of that response's calls it is, from 0.
    """
    return str(uuid5(turn_id, f"{step}/{position}"))


def rehearsed(rehearsal: Rehearsal, call: ToolCallPart) -> str:
    """Return the result that a call had in the turn that is rehearsed.

    Raises: ToolFailed: it had failed, or there was no such call.
    """
    known = rehearsal.take(call.tool_name, storable(arguments_of(call)))
    if known is None:
        raise ToolFailed(REHEARSAL)
    if known.is_error:
        raise ToolFailed(known.result)
    return known.result


@dataclass
class KeyedToolset(WrapperToolset[Any]):
    """Tells each call of a tool its key, in a context of its own: calls run beside each other."""

    steps: "RunSteps"

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        place = self.steps.place(ctx, ctx.tool_call_id or "")
        if place is not None:
            key = {CALL_KEY: self.steps.key(place)}
            ctx = replace(ctx, metadata={**(ctx.metadata or {}), **current_headers(), **key})
        return await super().call_tool(name, tool_args, ctx, tool)


@dataclass
class RunSteps:
    """The steps of one run."""

    run: AgentRun
    past: Past
    """What earlier attempts did."""
    shown: Shown
    """How its window is shown."""
    pending: tuple[PendingCall, ...] = ()
    """What the run waits for; empty: it does not wait."""
    _stored: int = field(init=False)
    """Up to which step responses are stored."""
    _storing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: set[Place] = field(init=False)
    """Calls of which it is stored that they wait."""

    def __post_init__(self) -> None:
        self._stored = len(self.past.responses)
        self._waiting = set(self.past.waits)

    async def call(
        self,
        ctx: RunContext[Any],
        call: ToolCallPart,
        tool: ToolDefinition,
        execute: Callable[[], Awaitable[Any]],
    ) -> Any:
        """Return a call's result: the stored one, or what comes of it now, once that is stored.

        Raises: ToolFailed, ToolFailedError, ToolRetryError: it failed; other signals of
            `execute`; LeaseLost, StepsTooLarge, which end the run.
        Guarantees: in a rehearsal, `execute` is not called, whoever makes the call.
        """
        if self.run.rehearsal is not None:
            return rehearsed(self.run.rehearsal, call)
        place = self.place(ctx, call.tool_call_id)
        if place is None:
            return await execute()
        if known := self.past.results.get(place):
            return known.again(call)
        if self._number(ctx, place) >= self.max_calls:
            raise ToolFailed(NO_MORE_CALLS)
        await self._store_response(ctx, place[0])
        if not ctx.tool_call_approved and (wait := self.past.waits.get(place)):
            raise wait.signal()
        result: Any = None
        if (tool.metadata or {}).get(ONCE) and await self._may_have_begun(ctx, place):
            outcome = Outcome.failed(MAY_HAVE_RUN)
        else:
            result, outcome = await self._executed(ctx, place, execute)
        stored = await self._store_result(place, outcome)
        is_result = stored is outcome and outcome.returned.outcome == "success"
        return result if is_result else stored.again(call)

    @property
    def max_calls(self) -> int:
        """How many tools the turn's answer may call."""
        return least(self.run.limits.tool_calls, MAX_TOOL_CALLS)

    def _number(self, ctx: RunContext[Any], place: Place) -> int:
        """Return how many calls the turn's responses ask for before the one that stands there."""
        own = [m for m in self._own(ctx) if isinstance(m, ModelResponse)]
        before = [*self.past.responses, *own][: place[0] - 1]
        return sum(len(response.tool_calls) for response in before) + place[1]

    async def _executed(
        self, ctx: RunContext[Any], place: Place, execute: Callable[[], Awaitable[Any]]
    ) -> tuple[Any, Outcome]:
        """Return what a tool returned, and what came of the call.

        Raises: signals of `execute` that are no outcome.
        """
        try:
            result = await execute()
        except (ApprovalRequired, CallDeferred) as signal:
            if ctx.tool_call_approved:
                return None, Outcome.failed(WAITS_AGAIN)
            kind = signal.kind if isinstance(signal, CallDeferred) else "approval"
            await self._store_wait(place, kind)
            raise
        except ToolFailed as error:
            return None, Outcome.failed(error.message)
        except ToolFailedError as error:
            return None, Outcome.told(error.tool_failed)
        except ToolRetryError as error:
            if not isinstance(error.tool_retry, ToolReturnPart):
                raise
            return None, Outcome.told(error.tool_retry)
        return result, Outcome.of(result)

    async def wait(
        self, ctx: RunContext[Any], calls: Sequence[tuple[Place, ToolCallPart, DeferredToolKind]]
    ) -> None:
        """Store that these calls wait, and what asked for them; the run is to end then.

        Raises: LeaseLost, StepsTooLarge, which end the run without waiting.
        """
        await self._store_response(ctx, calls[-1][0][0])
        for place, _, kind in calls:
            await self._store_wait(place, kind)
        self.pending = tuple(self._pending(*waiting) for waiting in calls)

    def _pending(self, place: Place, call: ToolCallPart, kind: DeferredToolKind) -> PendingCall:
        return PendingCall(
            call_key=self.key(place),
            id=storable(call.tool_call_id),
            name=storable(call.tool_name),
            arguments=storable(arguments_of(call)) or "{}",
            step=place[0],
            kind=PendingKind.APPROVAL if kind == "approval" else PendingKind.RESULT,
        )

    def key(self, place: Place) -> str:
        """Return the key of the call that stands there."""
        return call_key(self.run.turn_id, *place)

    def place(self, ctx: RunContext[Any], call_id: str) -> Place | None:
        """Return where a call stands; None: no response of this run has asked for it."""
        own = [m for m in self._own(ctx) if isinstance(m, ModelResponse)]
        responses = own or self.past.responses[-1:]
        ids = [asked.tool_call_id for asked in responses[-1].tool_calls] if responses else []
        if call_id not in ids:
            return None
        return len(self.past.responses) + len(own), ids.index(call_id)

    async def _store_response(self, ctx: RunContext[Any], step: int) -> None:
        """Store the response that asks for tools, with what led to it, unless it is stored."""
        async with self._storing:
            if self._stored >= step:
                return
            messages = self._new(ctx)
            body = response_body(messages, _outputs(ctx, messages), self.shown)
            await self.run.steps.store(StepKind.RESPONSE, body)
            self._stored = step

    async def _store_wait(self, place: Place, kind: DeferredToolKind) -> None:
        """Store that a call waits, unless it is stored."""
        if place not in self._waiting:
            self._waiting.add(place)
            body = wait_body(place, Wait(self.key(place), kind))
            await self.run.steps.store(StepKind.RESULT, body)

    async def _may_have_begun(self, ctx: RunContext[Any], place: Place) -> bool:
        """Return whether an earlier attempt may have begun a call of a tool that is `once`.

        An approved call did not begin when its response was stored. So that it begins is stored by
        itself.
        """
        if not ctx.tool_call_approved:
            return place[0] <= len(self.past.responses)
        if place in self.past.begun:
            return True
        await self.run.steps.store(StepKind.RESULT, begun_body(place))
        return False

    async def _store_result(self, place: Place, outcome: Outcome) -> Outcome:
        """Store what came of a call. Returns: what was stored: that it failed, if it cannot be."""
        try:
            body = result_body(place, outcome)
        except (ValueError, TypeError):  # beside its return value is something without JSON form
            return await self._store_result(place, Outcome.failed(NO_JSON))
        try:
            await self.run.steps.store(StepKind.RESULT, body)
        except StepsTooLarge:
            outcome = Outcome.failed(TOO_LARGE)
            await self.run.steps.store(StepKind.RESULT, result_body(place, outcome))
        return outcome

    def _own(self, ctx: RunContext[Any]) -> list[ModelMessage]:
        """Return the messages of this run, the request with the turn's own message left out."""
        own = [message for message in ctx.messages if message.run_id == ctx.run_id]
        return own if self.past.messages else own[1:]

    def _new(self, ctx: RunContext[Any]) -> list[ModelMessage]:
        """Return the messages of this run behind the last response that is stored."""
        own = self._own(ctx)
        left = self._stored - len(self.past.responses)
        for number, message in enumerate(own):
            if left == 0:
                return own[number:]
            left -= isinstance(message, ModelResponse)
        return own[-2:]  # a user's code has taken some out: the newest stand for them


def _outputs(ctx: RunContext[Any], messages: list[ModelMessage]) -> list[str]:
    """Return the ids of calls that are the run's output and no tool's."""
    if ctx.tool_manager is None:
        return []
    calls = [c for m in messages if isinstance(m, ModelResponse) for c in m.tool_calls]
    kinds = [(call, ctx.tool_manager.get_tool_def(call.tool_name)) for call in calls]
    return [call.tool_call_id for call, tool in kinds if tool is not None and tool.kind == "output"]
