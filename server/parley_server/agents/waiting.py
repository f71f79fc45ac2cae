"""Calls that wait for the turn's caller: those of tools that it runs, and those that need approval.

    what the caller gave already  → is what the call returns; what it approved is run
    anything else                 → the turn's run ends here, its last event says what is missing
    in a rehearsal                → what such a call had got in the turn, or a failed result
    arguments that no one can use → a failed result, at once: the model may try again

By then every other call of the same response is done, and its result is stored.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import ToolFailed, UserError
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import (
    DeferredToolKind,
    DeferredToolRequests,
    DeferredToolResults,
    ToolApproved,
    ToolDefinition,
    ToolDenied,
)
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset
from pydantic_core import SchemaValidator, core_schema

from parley_server.agents.errors import ToolNameTaken, ToolSchemaRefused
from parley_server.agents.step_bodies import Place, arguments_of
from parley_server.agents.steps import RunSteps, rehearsed
from parley_server.core.attempts.closing import DENIED
from parley_server.core.attempts.transcript import (
    MAX_ARGUMENTS_BYTES,
    MAX_RESULT_BYTES,
    MAX_TOOL_CALLS,
    cut,
    storable,
)
from parley_server.core.model import NO_ARGUMENTS, CallerTool, Given, GivenKind

NO_APPROVAL = "This call needs approval, which no user can give here."
NOT_HERE = "This tool cannot be run here."
NO_OBJECT = "The arguments must be a JSON object."
TOO_LONG = f"The arguments are longer than {MAX_ARGUMENTS_BYTES} bytes."
OTHER_KIND = "What was given for this call does not fit the tool."

ANY_OBJECT = SchemaValidator(core_schema.dict_schema(core_schema.str_schema()))
"""Takes the arguments of tools that somebody else checks."""


class TurnWaits(Exception):
    """Ends a run that cannot go on without its caller. It is no failure."""


@dataclass
class CallersTools(WrapperToolset[Any]):
    """An agent's own tools, and those that the turn's caller runs."""

    tools: list[ToolDefinition] = field(default_factory=list)

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return both. Raises: ToolNameTaken."""
        own = await super().get_tools(ctx)
        refuse_taken(self.tools, own)
        callers = {
            tool.name: ToolsetTool(
                toolset=self, tool_def=tool, max_retries=MAX_TOOL_CALLS, args_validator=ANY_OBJECT
            )
            for tool in self.tools
        }
        return {**own, **callers}


def definition(tool: CallerTool) -> ToolDefinition:
    """Return how a model is told of a tool that the caller runs.

    Raises: ToolSchemaRefused: its schema holds what no request can, such as 1e999.
    """
    try:
        schema = json.loads(tool.parameters_schema or NO_ARGUMENTS)
        json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise ToolSchemaRefused(tool.name) from None
    return ToolDefinition(
        name=tool.name,
        description=tool.description or None,
        parameters_json_schema=schema,
        strict=False,  # the schema goes to the model as the caller wrote it
        kind="external",
    )


def schema_error(error: Exception, tools: Sequence[CallerTool]) -> ToolSchemaRefused | None:
    """Return an error of the library's about a schema of the caller's; None: it is another one."""
    if not isinstance(error, UserError):
        return None
    names = [tool.name for tool in tools if str(error).startswith(f"Tool {tool.name!r}:")]
    return ToolSchemaRefused(names[0]) if names else None


def refuse_taken(tools: Sequence[ToolDefinition], own: Collection[str]) -> None:
    """Check that none of the caller's tools has the name of one of the agent's own.

    Raises: ToolNameTaken.
    """
    for tool in tools:
        if tool.name in own:
            raise ToolNameTaken(tool.name)


@dataclass
class LastResort(AbstractCapability[Any]):
    """Ends the run if calls wait that nothing else has settled, a user's own code included."""

    steps: RunSteps

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="innermost")

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults:
        """Store what is missing. Raises: TurnWaits: something is."""
        results = DeferredToolResults()
        missing: list[tuple[Place, ToolCallPart, DeferredToolKind]] = []
        for call in [*requests.calls, *requests.approvals]:
            kind = requests.kind(call.tool_call_id)
            place = self.steps.place(ctx, call.tool_call_id)
            if place is None:  # a tool's own code made the call: nothing would find it again
                _refuse(results, call, kind, NO_APPROVAL if kind == "approval" else NOT_HERE)
            elif (complaint := unusable(call)) is not None:
                _refuse(results, call, kind, complaint)
            else:
                missing.append((place, call, kind))
        if missing:
            await self.steps.wait(ctx, sorted(missing, key=lambda waiting: waiting[0]))
            raise TurnWaits
        return results


def settled(
    steps: RunSteps, ctx: RunContext[Any], requests: DeferredToolRequests
) -> DeferredToolResults:
    """Return what is known of calls already: what was given for them, and what ran to its end.

    In a rehearsal that is all of them: none of them waits.
    """
    results = DeferredToolResults()
    if (rehearsal := steps.run.rehearsal) is not None:
        for call in requests.calls:
            try:
                results.calls[call.tool_call_id] = rehearsed(rehearsal, call)
            except ToolFailed as failed:
                results.calls[call.tool_call_id] = failed
        for call in requests.approvals:  # what is approved comes to `RunSteps.call`
            results.approvals[call.tool_call_id] = ToolApproved()
        return results
    for call in [*requests.calls, *requests.approvals]:
        kind = requests.kind(call.tool_call_id)
        place = steps.place(ctx, call.tool_call_id)
        if place is None:
            continue
        if kind == "approval" and place in steps.past.results:
            results.approvals[call.tool_call_id] = ToolApproved()  # it has run; its result is used
        elif (given := steps.past.given.get(place)) is not None:
            _give(results, call, kind, given)
    return results


def _give(
    results: DeferredToolResults, call: ToolCallPart, kind: DeferredToolKind, given: Given
) -> None:
    text = cut(storable(given.text), MAX_RESULT_BYTES)
    match kind == "approval", given.kind:
        case True, GivenKind.APPROVAL:
            results.approvals[call.tool_call_id] = ToolApproved()
        case True, GivenKind.DENIAL:
            results.approvals[call.tool_call_id] = ToolDenied(text or DENIED)
        case False, GivenKind.RESULT:
            results.calls[call.tool_call_id] = text
        case False, GivenKind.ERROR:
            results.calls[call.tool_call_id] = ToolFailed(text)
        case _:  # the agent is another one than when the call began to wait
            _refuse(results, call, kind, OTHER_KIND)


def _refuse(
    results: DeferredToolResults, call: ToolCallPart, kind: DeferredToolKind, text: str
) -> None:
    if kind == "approval":
        results.approvals[call.tool_call_id] = ToolDenied(text)
    else:
        results.calls[call.tool_call_id] = ToolFailed(text)


def unusable(call: ToolCallPart) -> str | None:
    """Return what is wrong with arguments that are to be shown to a caller; None: nothing."""
    text = storable(arguments_of(call)) or "{}"
    if len(text.encode()) > MAX_ARGUMENTS_BYTES:
        return TOO_LONG
    try:
        arguments = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return NO_OBJECT
    return None if isinstance(arguments, dict) else NO_OBJECT


def _no_json(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity: Python's own, which other parsers refuse
