"""Rules of the agents file for an agent's tools: who runs them, who approves, once, how long.

They use what tools of users' agents use: pydantic-ai's kinds of tools and `metadata["once"]`. So a
call that waits, is approved or is cut short is the same for a tool under a rule as for any other
(`agents.waiting`, `agents.steps`). A rule adds; what a tool's author asks for stays.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, ToolsetTool, WrapperToolset

from parley_server.agents.errors import BadAgent
from parley_server.agents.file.definitions import ToolRule
from parley_server.agents.mcp.listing import MAX_NAME, fitting_name, schema_complaint
from parley_server.agents.steps import ONCE
from parley_server.agents.waiting import ANY_OBJECT, definition
from parley_server.core.attempts.transcript import MAX_TOOL_CALLS
from parley_server.core.model import CallerTool

log = logging.getLogger("parley.agents")


@dataclass
class RuledTools(WrapperToolset[Any]):
    """An agent's tools under rules, and the tools of the caller that rules declare."""

    rules: Mapping[str, ToolRule] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    """Tools that nobody has, of which there was a warning. Shared by the runs of an agent."""

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return all of them."""
        found = await super().get_tools(ctx)
        tools = {name: _ruled(tool, self.rules.get(name)) for name, tool in found.items()}
        for name, rule in self.rules.items():
            if name in tools:
                continue
            if rule.run_by == "caller":
                tools[name] = self._declared(name, rule)
            elif name not in self.warned:
                self.warned.add(name)
                log.warning("rule for a tool that the agent does not have", extra={"tool": name})
        return tools

    def _declared(self, name: str, rule: ToolRule) -> ToolsetTool[Any]:
        return ToolsetTool(
            toolset=self,
            tool_def=replace(definition(CallerTool(name, rule.description, "")), **_told(rule)),
            max_retries=MAX_TOOL_CALLS,
            args_validator=ANY_OBJECT,
        )

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        rule = self.rules.get(name)
        if rule is None or rule.timeout_s is None:
            return await super().call_tool(name, tool_args, ctx, tool)
        try:
            async with asyncio.timeout(rule.timeout_s) as limit:
                return await super().call_tool(name, tool_args, ctx, tool)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolFailed(f"The tool did not end within {rule.timeout_s:g} s.") from None


def _ruled(tool: ToolsetTool[Any], rule: ToolRule | None) -> ToolsetTool[Any]:
    if rule is None:
        return tool
    told = tool.tool_def
    if rule.run_by == "caller":
        changed = replace(told, kind="external", strict=False, **_told(rule))
        return replace(
            tool,
            tool_def=changed,
            max_retries=MAX_TOOL_CALLS,
            args_validator=ANY_OBJECT,  # they are the caller's to check
            args_validator_func=None,
        )
    if rule.approval and told.kind == "function":
        told = replace(told, kind="unapproved")
    if rule.once:
        told = replace(told, metadata={**(told.metadata or {}), ONCE: True})
    return replace(tool, tool_def=told)


def _told(rule: ToolRule) -> dict[str, Any]:
    """Return what a rule says of a tool of the caller, in the place of what is known of it."""
    told: dict[str, Any] = {}
    if rule.description:
        told["description"] = rule.description
    if rule.parameters is not None:
        told["parameters_json_schema"] = {"type": "object", **rule.parameters}
    return told


def check_rules(rules: Mapping[str, ToolRule]) -> None:
    """Check that rules can be followed.

    Raises: BadAgent, in one sentence that names the rule.
    """
    for name, rule in rules.items():
        if (complaint := _complaint(name, rule)) is not None:
            raise BadAgent(f"the rule for the tool {name!r}: {complaint}", ("tools", name))


def _complaint(name: str, rule: ToolRule) -> str | None:
    if rule.run_by == "caller":
        if fitting_name(name) != name or not name:
            return f"a tool's name has letters, digits, _ and -, {MAX_NAME} at most"
        if rule.approval or rule.once or rule.timeout_s is not None:
            return (
                "approval, once and timeout_s are for tools that the server runs; "
                'leave them out, or run_by = "caller"'
            )
        if rule.parameters is not None and (wrong := schema_complaint(rule.parameters)):
            return wrong.replace("inputSchema", "parameters")
        return None
    if rule.description or rule.parameters is not None:
        return 'description and parameters are for a tool with run_by = "caller"'
    return None


def check_names(rules: Mapping[str, ToolRule], known: Collection[str] | None) -> None:
    """Check that an agent has the tools that rules name.

    Args:
        known: names of all of its tools; None: they are known in a turn only, which then warns.
    Raises: BadAgent.
    """
    if known is None:
        return
    for name, rule in rules.items():
        if rule.run_by != "caller" and name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise BadAgent(
                f"there is a rule for the tool {name!r}, which the agent does not have; "
                f"it has: {names}",
                ("tools", name),
            )


def static_names(agent: AbstractAgent[Any, Any]) -> frozenset[str] | None:
    """Return the names of an agent's tools; None: some are known in a turn only."""
    leaves: list[AbstractToolset[Any]] = []
    for toolset in agent.toolsets:
        toolset.apply(leaves.append)
    if not all(isinstance(leaf, FunctionToolset) for leaf in leaves):
        return None
    return frozenset(name for leaf in leaves for name in getattr(leaf, "tools", {}))
