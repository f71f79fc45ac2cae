"""What an agents file adds to an agent's own tools: those of MCP servers, and rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_ai.agent import AbstractAgent
from pydantic_ai.toolsets import AbstractToolset

from parley_server.agents.file.definitions import ToolRule
from parley_server.agents.tool_rules import RuledTools, check_names, check_rules, static_names

if TYPE_CHECKING:  # its libraries take a second to import, which only those with servers are to pay
    from parley_server.agents.mcp.servers import AgentServer


@dataclass(frozen=True)
class MoreTools:
    """Of one agent: `MoreTools(servers.for_agent(table.mcp), table.tools)`."""

    servers: Sequence["AgentServer"] = ()
    rules: Mapping[str, ToolRule] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set, init=False, compare=False)

    def check(self, agent: AbstractAgent[Any, Any]) -> None:
        """Check the rules against an agent. Raises: BadAgent."""
        check_rules(self.rules)
        check_names(self.rules, None if self.servers else static_names(agent))

    def around(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Return the tools of one run: the agent's own and the servers', under the rules."""
        if self.servers:
            from parley_server.agents.mcp.toolset import McpTools

            timeouts_s = {
                name: rule.timeout_s
                for name, rule in self.rules.items()
                if rule.timeout_s is not None
            }
            toolset = McpTools(toolset, self.servers, timeouts_s)
        return RuledTools(toolset, self.rules, self._warned) if self.rules else toolset


NO_MORE = MoreTools()
