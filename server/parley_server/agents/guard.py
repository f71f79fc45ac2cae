"""A tool that fails is a result, never the end of the run.

    raises                     → "The tool failed (ValueError).", is_error
    ModelRetry                 → its text, is_error: the tool's author wrote it for the model
    wrong arguments            → what is wrong with them, is_error; the model may try again
    needs an approval, or is
    run outside the server     → the turn waits for its caller: see `agents.waiting`
    a result without JSON form → as if it had raised
    a result that is too long  → cut here already, so that the model sees what is stored

An exception's own text stays out of all of them: it may hold private text.
"""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import ValidationError
from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.capabilities import (
    AbstractCapability,
    CapabilityOrdering,
    RawToolArgs,
    ValidatedToolArgs,
    WrapToolExecuteHandler,
    WrapToolValidateHandler,
)
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    SkipToolExecution,
    SkipToolValidation,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import ToolCallPart, ToolReturn, ToolReturnPart
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset

from parley_server.agents.gone_tools import WithGoneTools
from parley_server.agents.more_tools import NO_MORE, MoreTools
from parley_server.agents.steps import WAITS_AGAIN, KeyedToolset, RunSteps
from parley_server.agents.waiting import (
    NO_APPROVAL,
    CallersTools,
    definition,
    refuse_taken,
    settled,
)
from parley_server.core.attempts.transcript import MAX_RESULT_BYTES, cut, storable
from parley_server.core.failures import raised_at

log = logging.getLogger("parley.agents")

WRONG_ARGUMENTS = "The arguments do not fit the tool."

_SIGNALS = (
    ApprovalRequired,
    CallDeferred,
    SkipToolExecution,
    SkipToolValidation,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
)
"""Exceptions by which pydantic-ai steers a run; they are no failures."""


@dataclass
class ToolGuard(AbstractCapability[Any]):
    """Given to every run, outside of all hooks, so that what those raise is caught as well."""

    steps: RunSteps
    more: MoreTools = NO_MORE
    """What the agents file adds to the agent's own."""
    tools: list[ToolDefinition] = field(init=False)
    """Those that the turn's caller runs."""

    def __post_init__(self) -> None:
        self.tools = [definition(tool) for tool in self.steps.run.tools]

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="outermost")

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        tools = KeyedToolset(CallersTools(self.more.around(toolset), self.tools), self.steps)
        return WithGoneTools(tools, self.steps.past) if self.steps.past.responses else tools

    async def prepare_output_tools(
        self, ctx: RunContext[Any], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        refuse_taken(self.tools, [tool.name for tool in tool_defs])
        return tool_defs

    async def wrap_tool_validate(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: RawToolArgs,
        handler: WrapToolValidateHandler,
    ) -> ValidatedToolArgs:
        try:
            return await handler(args)
        except _SIGNALS:
            raise
        except (ValidationError, ModelRetry) as error:
            if ctx.retry < ctx.max_retries:
                raise  # pydantic-ai tells the model what is wrong
            text = error.message if isinstance(error, ModelRetry) else WRONG_ARGUMENTS
            raise ToolFailed(text) from None
        except Exception as error:
            if type(error).__module__.startswith("pydantic_ai."):
                if (complaint := _unheard(ctx, tool_def, error)) is not None:
                    raise ToolFailed(complaint) from None
                raise  # one of its private signals
            raise _failed(call, error) from None

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
        handler: WrapToolExecuteHandler,
    ) -> Any:
        return await self.steps.call(ctx, call, tool_def, partial(_executed, call, args, handler))

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults:
        return settled(self.steps, ctx, requests)


async def _executed(
    call: ToolCallPart, args: ValidatedToolArgs, handler: WrapToolExecuteHandler
) -> Any:
    """Run a tool, and return its result as far as it fits.

    Raises: pydantic-ai's signals alone: ToolFailed, whatever the tool has raised.
    """
    try:
        return _fitting(call, await handler(args))
    except _SIGNALS:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise  # the run is being stopped
        raise _failed(call, error) from None
    except ModelRetry as error:
        raise ToolFailed(error.message) from None
    except UnexpectedModelBehavior as error:  # it may not be tried again
        cause = error.__cause__
        if isinstance(cause, ModelRetry):
            raise ToolFailed(cause.message) from None
        raise _failed(call, cause or error) from None
    except (Exception, SystemExit) as error:
        raise _failed(call, error) from None


def _unheard(ctx: RunContext[Any], tool_def: ToolDefinition, error: Exception) -> str | None:
    """Return what is wrong with a call that a validator lets wait where it cannot; else None."""
    signal = getattr(error, "deferral", None)
    if signal is None:
        return None
    if ctx.tool_call_approved:
        return WAITS_AGAIN
    is_external = tool_def.kind == "external"
    return NO_APPROVAL if is_external and isinstance(signal, ApprovalRequired) else None


def _failed(call: ToolCallPart, error: BaseException) -> ToolFailed:
    name = type(error).__name__
    log.warning(
        "tool failed", extra={"tool": call.tool_name, "error": name, "place": raised_at(error)}
    )
    return ToolFailed(f"The tool failed ({name}).")


def _fitting(call: ToolCallPart, result: Any) -> Any:
    """Return the result, or what of its text can be stored.

    Raises: whatever the result's own serialisation raises, if it has no JSON form.
    """
    value = result.return_value if isinstance(result, ToolReturn) else result
    text = ToolReturnPart(call.tool_name, value).model_response_str()
    fitting = cut(storable(text), MAX_RESULT_BYTES)
    if fitting == text:
        return result
    return replace(result, return_value=fitting) if isinstance(result, ToolReturn) else fitting
