"""Tools that are gone while a turn still has calls of them: what came of those calls counts.

A turn goes on with the calls of its last response, in a later attempt or with what its caller gave.
By then the agent may have other tools: its file was changed, or a server lists others. A call whose
outcome is known needs no tool. So for the moment in which outcomes are taken, and no longer, a tool
stands there that cannot run; the model is not told of it.

    a result is stored            → that result
    the caller gave a result, an
    error, or why it is denied    → that
    anything else                 → the library's error for a tool that the agent does not have
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.tools import ToolDefinition, ToolDefinitionKind
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from parley_server.agents.past import Past
from parley_server.agents.step_bodies import Place
from parley_server.agents.waiting import ANY_OBJECT
from parley_server.core.attempts.transcript import MAX_TOOL_CALLS
from parley_server.core.model import GivenKind

_KINDS: dict[GivenKind, ToolDefinitionKind] = {
    GivenKind.RESULT: "external",
    GivenKind.ERROR: "external",
    GivenKind.DENIAL: "unapproved",
}


@dataclass
class WithGoneTools(WrapperToolset[Any]):
    """An agent's tools, and at the beginning of a run those of calls that need none any more."""

    past: Past

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        found = await super().get_tools(ctx)
        if any(message.run_id == ctx.run_id for message in ctx.messages):
            return found  # the calls of earlier attempts are done with
        gone = [tool for tool in _stand_ins(self.past) if tool.name not in found]
        return {**found, **{tool.name: self._of(tool) for tool in gone}}

    def _of(self, tool: ToolDefinition) -> ToolsetTool[Any]:
        return ToolsetTool(
            toolset=self, tool_def=tool, max_retries=MAX_TOOL_CALLS, args_validator=ANY_OBJECT
        )


def _stand_ins(past: Past) -> Iterator[ToolDefinition]:
    """Yield a tool for each of the last response's calls whose outcome is known."""
    if not past.responses:
        return
    for position, call in enumerate(past.responses[-1].tool_calls):
        if (kind := _kind(past, (len(past.responses), position))) is not None:
            yield ToolDefinition(name=call.tool_name, kind=kind)


def _kind(past: Past, place: Place) -> ToolDefinitionKind | None:
    if place in past.results:
        return "function"
    given = past.given.get(place)
    return None if given is None else _KINDS.get(given.kind)
