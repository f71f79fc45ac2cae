"""The agents that turns can be given to, by name."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass, field

from parley_server.core.attempts.window import WindowSettings
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import (
    NO_BUDGETS,
    NO_LIMITS,
    AgentBudgets,
    AgentEvent,
    AgentLimits,
    AgentRun,
)
from parley_server.core.ports import Agent


class NoAgent:
    """In the place of an agent that was configured where the turn was accepted, and is not here."""

    model = ""
    context_tokens = None

    async def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:  # noqa: ARG002 - the port's
        """Raise AgentUnavailable."""
        raise AgentUnavailable
        yield  # makes it a generator


class Uses:
    """How many use an agent now: `with uses:` for as long as it must not be closed.

    All of them are on one loop.
    """

    def __init__(self) -> None:
        self._count = 0
        self._none: asyncio.Event | None = None
        """Set once there are none; made by the first who waits: most agents are never replaced."""

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if self._count == 0 and self._none is not None:
            self._none.set()

    def __len__(self) -> int:
        return self._count

    async def ended(self) -> None:
        """Wait until it is not used. Whoever waits has seen to it that no use begins any more."""
        if self._count:
            self._none = self._none or asyncio.Event()
            await self._none.wait()


@dataclass(frozen=True, slots=True)
class NamedAgent:
    """An agent, and how turns are run with it."""

    name: str
    agent: Agent
    window: WindowSettings
    limits: AgentLimits = NO_LIMITS
    description: str = ""
    can_rehearse: bool = True
    uses: Uses = field(default_factory=Uses, repr=False, compare=False)
    """Of the agent, which several names may share."""


class Roster:
    """The agents of this worker. An attempt keeps the one that it began with, and its limits.

    Who runs an agent does so within `with named.uses:`, entered before anything is awaited since
    it was found here: an agent that is not in the roster any more is closed when nobody uses it.
    """

    def __init__(self, agents: Iterable[NamedAgent], default: str) -> None:
        """Take down the agents.

        Args:
            default: the name of the one that answers where none is named.
        """
        self._agents: dict[str, NamedAgent] = {}
        self._default = default
        self.budgets = NO_BUDGETS
        """What an owner's turns with each of them may use a day."""
        self.replace(agents, default)

    def replace(self, agents: Iterable[NamedAgent], default: str) -> None:
        """Have other agents from now on, all at once. What is under way goes on with its own.

        Args: as of the first ones.
        """
        replacement = {each.name: each for each in agents}
        if default not in replacement:
            raise ValueError("the default agent is none of the agents")
        self._agents, self._default = replacement, default
        limits = {name: each.limits.tokens_a_day for name, each in replacement.items()}
        budgets = {name: most for name, most in limits.items() if most is not None}
        self.budgets = AgentBudgets(default, budgets)

    def __iter__(self) -> Iterator[NamedAgent]:
        return iter(self._agents.values())

    def __contains__(self, name: object) -> bool:
        return not name or name in self._agents

    @property
    def default(self) -> NamedAgent:
        """The one that answers where none is named."""
        return self._agents[self._default]

    def find(self, name: str) -> NamedAgent | None:
        """Return the agent of a name; of the empty one: the default."""
        return self._agents.get(name or self._default)

    def seated(self, name: str) -> NamedAgent:
        """Return the agent of a name; if it is not here: one that is unavailable."""
        found = self.find(name)
        return NamedAgent(name, NoAgent(), self.default.window) if found is None else found
