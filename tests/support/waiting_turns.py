"""A turn that waits for its caller: attempts with what the caller gives in between."""

from dataclasses import dataclass, field, replace

from parley_server.core.attempts.given import given_body
from parley_server.core.model import (
    AgentRun,
    CallerTool,
    Given,
    GivenKind,
    PendingCall,
    Step,
    StepKind,
)
from parley_server.core.ports import Agent
from support.agent_runs import Told, a_run
from support.kept_steps import KeptSteps, Worker, attempt

ANY_OBJECT = '{"type":"object","properties":{"x":{"type":"integer"}}}'


def a_caller_tool(name: str = "mine", schema: str = ANY_OBJECT) -> CallerTool:
    return CallerTool(name, f"What {name} does.", schema)


@dataclass
class WaitingTurn:
    """One turn over all its attempts."""

    agent: Agent
    tools: tuple[CallerTool, ...] = (a_caller_tool(),)
    worker: Worker = field(default_factory=Worker)
    run: AgentRun = field(default_factory=a_run)
    steps: KeptSteps = field(init=False)

    def __post_init__(self) -> None:
        self.steps = KeptSteps(self.worker)
        self.run = replace(self.run, tools=self.tools)

    async def attempt(self, dies_at: int = 10**9) -> Told:
        """Make an attempt that comes to its end."""
        told = await self.attempt_until(dies_at)
        assert told is not None
        return told

    async def attempt_until(self, dies_at: int) -> Told | None:
        """Make an attempt. Returns: None: its worker went away."""
        self.worker.lives_anew(dies_at)
        return await attempt(self.agent, self.run, self.steps)

    async def waits(self) -> list[PendingCall]:
        """Make an attempt that waits. Returns: for what."""
        told = await self.attempt()
        assert told.awaiting is not None, told
        assert told.finish is None
        return list(told.awaiting.calls)

    def give(self, call: PendingCall, kind: GivenKind, text: str = "") -> None:
        """Store what the caller gives, as the turn machine does."""
        body = given_body(Given(call.call_key, kind, text))
        self.steps.stored.append(Step(len(self.steps.stored) + 1, StepKind.GIVEN, body))
