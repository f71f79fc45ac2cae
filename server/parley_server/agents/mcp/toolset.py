"""The tools of an agent's MCP servers, beside its own.

They are listed once in a run: a list that changes counts from the next turn on. Each call tells its
server, in `_meta` of the request, what it needs to be idempotent and to be traced:

    parley/call_key               the same for one call in all attempts
    parley/turn_id
    traceparent, tracestate       of a turn whose call came with a trace
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.models import AbstractModel, Model, ModelRequestParameters
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from parley_server.agents.mcp.connection import NOT_REACHED
from parley_server.agents.mcp.listing import LeftOut, Offered, offered, shown
from parley_server.agents.mcp.servers import AgentServer
from parley_server.agents.mcp.session import ServerDown
from parley_server.agents.waiting import ANY_OBJECT
from parley_server.core.attempts.transcript import MAX_TOOL_CALLS
from parley_server.core.errors import AgentUnavailable

log = logging.getLogger("parley.agents")

MAX_ARGUMENTS_BYTES = 256 * 1024
TOO_LONG = f"The arguments are longer than {MAX_ARGUMENTS_BYTES} bytes."
NO_JSON = "The arguments hold what JSON does not have, such as NaN or half a character."
_META = {
    "call_key": "parley/call_key",
    "turn_id": "parley/turn_id",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}


@dataclass(kw_only=True)
class McpToolsetTool(ToolsetTool[Any]):
    """A tool of a server."""

    server: AgentServer
    remote_name: str
    arguments: Mapping[str, str]
    """The server's names of arguments, by those that the model was told, where they differ."""


@dataclass
class McpTools(WrapperToolset[Any]):
    """An agent's own tools, and those of its servers."""

    servers: Sequence[AgentServer] = ()
    timeouts_s: Mapping[str, float] = field(default_factory=dict)
    """By tool, in the place of what the server's table says."""
    _listed: list[list[Offered]] = field(default_factory=list)
    """Once they are known to the run, one list of them: copies of the toolset share it."""

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return both. Raises: AgentUnavailable: what tools a server has is unknown."""
        own = await super().get_tools(ctx)
        if not self._listed:
            self._listed.append(await self._list(own, ctx.model))
        by_name = {server.name: server for server in self.servers}
        remote = {
            tool.name: McpToolsetTool(
                toolset=self,
                tool_def=_definition(tool),
                max_retries=MAX_TOOL_CALLS,
                args_validator=ANY_OBJECT,
                server=by_name[tool.server],
                remote_name=tool.tool.name,
                arguments=tool.tool.arguments,
            )
            for tool in self._listed[0]
        }
        return {**remote, **own}

    async def _list(
        self, own: Mapping[str, ToolsetTool[Any]], model: AbstractModel
    ) -> list[Offered]:
        try:
            listed = await asyncio.gather(*(server.listed() for server in self.servers))
        except ServerDown:
            raise AgentUnavailable from None
        found, complaints = offered(listed, own)
        by_name = {server.name: server for server in self.servers}
        for server, complaint in complaints:
            by_name[server].warn(complaint)
        usable = []
        for tool in found:
            if _is_told(model, tool):
                usable.append(tool)
            else:
                reason = "its inputSchema is not valid for the agent's model"
                by_name[tool.server].warn(LeftOut(shown(tool.tool.name), reason))
        return usable

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        if not isinstance(tool, McpToolsetTool):
            return await super().call_tool(name, tool_args, ctx, tool)
        tool_args = {tool.arguments.get(key, key): value for key, value in tool_args.items()}
        if (complaint := _complaint(tool_args)) is not None:
            raise ToolFailed(complaint)
        known = ctx.metadata or {}
        meta = {told: known[own] for own, told in _META.items() if own in known}
        try:
            return await tool.server.call(
                tool.remote_name, tool_args, meta, self.timeouts_s.get(name)
            )
        except ServerDown:
            raise ToolFailed(NOT_REACHED) from None


def _complaint(arguments: dict[str, Any]) -> str | None:
    """Return why arguments cannot be sent; None: they can. NaN would become null on its way."""
    try:
        sent = json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return NO_JSON
    return TOO_LONG if len(sent) > MAX_ARGUMENTS_BYTES else None


def _definition(tool: Offered) -> ToolDefinition:
    return ToolDefinition(
        name=tool.name,
        description=tool.tool.description or None,
        parameters_json_schema=tool.tool.schema,
        strict=False,  # of what the server wrote, nothing more is to be taken away
    )


def _is_told(model: AbstractModel, tool: Offered) -> bool:
    """Return whether the model's library can tell the model of a tool."""
    if not isinstance(model, Model):
        return True
    try:
        model.customize_request_parameters(
            ModelRequestParameters(function_tools=[_definition(tool)])
        )
    except Exception:  # of whatever kind: one tool must not end the turn
        return False
    return True
