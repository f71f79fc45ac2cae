"""Who answers."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, runtime_checkable

from parley_server.core.model import AgentEvent, AgentRun, Step


class Agent(Protocol):
    """The agent that produces a turn's answer."""

    @property
    def model(self) -> str:
        """The model it asks, as far as it is known before it answers."""
        ...

    @property
    def context_tokens(self) -> int | None:
        """How many tokens its model can read and write at once. None: unknown."""
        ...

    def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        """Answer one turn, piece by piece; the last event is a Finish, or Awaiting.

        Raises: AgentRefused, AgentUnavailable, AgentTimeout. Anything else that it raises counts as
            AgentUnavailable.
        Guarantees: closing the generator, or cancelling the task that iterates it, stops the run.
        """
        ...


@runtime_checkable
class SteppingAgent(Agent, Protocol):
    """An agent that goes on from steps."""

    def retold(self, steps: Sequence[Step]) -> Sequence[AgentEvent]:
        """Return what steps say: each text, and each call of a tool that has a result, in order.

        Returns: empty as well: they cannot be read any more.
        """
        ...
