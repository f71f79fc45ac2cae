"""Definitions become agents, and agents whose definition stays the same are kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parley_server.agents.catalog import REMOTE, Surroundings, make_agent
from parley_server.agents.errors import BadAgent
from parley_server.agents.file.definitions import AgentTable, LimitsTable, McpServer
from parley_server.agents.file.problems import BadAgentsFile, Problem
from parley_server.agents.file.reading import ReadFile
from parley_server.core.attempts.roster import NamedAgent, Uses
from parley_server.core.attempts.window import ANSWER_TOKENS, WindowSettings
from parley_server.core.model import AgentLimits
from parley_server.core.ports import Agent

if TYPE_CHECKING:  # its libraries take seconds to import
    from parley_server.agents.mcp.servers import McpServers

UNKNOWN_CONTEXT_TOKENS = 16_384
"""Assumed for a model whose context is not known."""

MIN_ROOM_BYTES = 256
"""With less room beside the instructions, no message of a user's would be shown as it is."""

_OF_RUNS = {
    "description": "",
    "instructions": "",
    "instructions_file": None,
    "context_messages": None,
    "context_tokens": None,
    "limits": LimitsTable(),
    "rehearsal": None,
}
"""What a table says that does not make the agent another one, only how turns are run with it."""


@dataclass(frozen=True, slots=True)
class ServerDefaults:
    """What holds for an agent that says nothing else."""

    instructions: str
    context_messages: int
    context_tokens: int | None
    """None: what the model can read, less room for an answer."""

    def window(
        self,
        agent: Agent,
        *,
        context_messages: int | None = None,
        context_tokens: int | None = None,
        instructions: str = "",
    ) -> WindowSettings:
        """Return what an agent is shown.

        Args: what the agent's table says, if it does.
        """
        model_tokens = agent.context_tokens or UNKNOWN_CONTEXT_TOKENS
        return WindowSettings(
            context_messages=context_messages or self.context_messages,
            context_tokens=(
                context_tokens or self.context_tokens or max(256, model_tokens - ANSWER_TOKENS)
            ),
            instructions=instructions or self.instructions,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """An agent, and what it was made of."""

    table: AgentTable = field(repr=False)
    servers: "McpServers | None" = field(repr=False)
    """Those that its tools come from. None: it has none of them."""
    agent: Agent
    uses: Uses


@dataclass(frozen=True, slots=True)
class Lineup:
    """The agents of a file, as they are run."""

    made: tuple[Made, ...]
    """Several names may share one: an agent that is defined in the same way is the same agent."""
    named: tuple[NamedAgent, ...]
    default: str
    mcp: Mapping[str, McpServer] = field(repr=False)
    servers: "McpServers | None" = field(repr=False)
    """Of the tables `mcp`. None: there are none."""

    def others_than(self, kept: "Lineup") -> list[Made]:
        """Return what was made for this one and is not part of another one."""
        return [made for made in self.made if made not in kept.made]


class NotLinedUp(BadAgentsFile):
    """Some agent of a file cannot be made."""

    def __init__(
        self, problems: Iterable[Problem], made: Sequence[Made], servers: "McpServers | None"
    ) -> None:
        super().__init__(problems)
        self.made = made
        """Agents that were made in vain, to be closed;"""
        self.servers = servers
        """and the servers of their tools."""


def line_up(
    file: ReadFile, defaults: ServerDefaults, around: Surroundings, before: Lineup | None = None
) -> Lineup:
    """Make the agents of a file.

    Args:
        before: the agents that there are: those that are defined in the same way are kept.
    Raises: NotLinedUp: names each agent that cannot be made.
    Guarantees: may be called in any thread.
    """
    servers = _servers(file, before)
    made: list[Made] = []
    named: list[NamedAgent] = []
    problems: list[Problem] = []
    for name, table in file.definitions.agents.items():
        own = servers if table.mcp else None
        known = [*(before.made if before else ()), *made]
        try:
            one = _same(known, table, own) or _make(table, own, around)
        except BadAgent as error:
            problems.append(file.problem(("agents", name, *error.at), str(error)))
            continue
        if one not in made:
            made.append(one)
        named.append(_named(name, table, one, defaults))
        if (complaint := complaint_of_room(named[-1].window)) is not None:
            problems.append(file.problem(("agents", name, "instructions"), complaint))
    if problems:
        made = [one for one in made if not before or one not in before.made]
        is_kept = before is not None and servers is before.servers
        raise NotLinedUp(problems, made, None if is_kept else servers)
    default = file.definitions.default or named[0].name
    return Lineup(tuple(made), tuple(named), default, file.definitions.mcp, servers)


def _servers(file: ReadFile, before: Lineup | None) -> "McpServers | None":
    """Return the servers of tools: the ones that there are, unless a table has changed.

    Raises: NotLinedUp: a table cannot be right.
    """
    tables = file.definitions.mcp
    if before is not None and tables == before.mcp:
        return before.servers
    if not tables:
        return None
    from parley_server.agents.mcp.servers import McpServers, complaint_of

    found = {name: complaint_of(table) for name, table in tables.items()}
    problems = [file.problem(("mcp", name), wrong) for name, wrong in found.items() if wrong]
    if problems:
        raise NotLinedUp(problems, [], None)
    return McpServers(tables)


def complaint_of_room(window: WindowSettings) -> str | None:
    """Return what is wrong with instructions that leave no room for messages; None: nothing."""
    if window.room("") >= MIN_ROOM_BYTES:
        return None
    return f"they fill the window of {window.context_tokens} tokens: shorten them, or raise it"


def _same(known: Iterable[Made], table: AgentTable, servers: "McpServers | None") -> Made | None:
    """Return an agent that is made of the same."""
    essence = table.model_copy(update=_OF_RUNS)
    return next((m for m in known if m.table == essence and m.servers is servers), None)


def _make(table: AgentTable, servers: "McpServers | None", around: Surroundings) -> Made:
    agent = make_agent(table, servers, around)
    return Made(table.model_copy(update=_OF_RUNS), servers, agent, Uses())


def _named(name: str, table: AgentTable, made: Made, defaults: ServerDefaults) -> NamedAgent:
    is_remote = table.model.startswith(REMOTE)
    return NamedAgent(
        name=name,
        agent=made.agent,
        window=defaults.window(
            made.agent,
            context_messages=table.context_messages,
            context_tokens=table.context_tokens,
            instructions=table.instructions,
        ),
        limits=AgentLimits(**table.limits.model_dump()),
        description=table.description,
        can_rehearse=not is_remote if table.rehearsal is None else table.rehearsal,
        uses=made.uses,
    )
