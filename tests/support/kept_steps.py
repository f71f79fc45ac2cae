"""Steps in memory, and attempts whose worker goes away at a point that a test names."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace

from parley_server.core.model import AgentRun, Step, StepKind
from parley_server.core.ports import Agent
from support.agent_runs import Told, told_by


class Worker:
    """What an attempt runs on: it goes away at one of the points that the attempt passes."""

    def __init__(self) -> None:
        self.dies_at = 10**9
        self.passed = 0
        self.is_gone = asyncio.Event()

    async def point(self) -> None:
        self.passed += 1
        if self.passed == self.dies_at:
            self.is_gone.set()
        if self.is_gone.is_set():
            await asyncio.Event().wait()

    def lives_anew(self, dies_at: int = 10**9) -> None:
        self.dies_at, self.passed, self.is_gone = dies_at, 0, asyncio.Event()


@dataclass
class KeptSteps:
    """Steps in memory; points lie before and behind each one that is stored."""

    worker: Worker = field(default_factory=Worker)
    done: list[Step] = field(default_factory=list)
    """Of earlier attempts."""
    stored: list[Step] = field(default_factory=list)

    async def store(self, kind: StepKind, body: str) -> None:
        await self.worker.point()
        self.stored.append(Step(len(self.stored) + 1, kind, body))
        await self.worker.point()

    @property
    def kinds(self) -> list[StepKind]:
        return [step.kind for step in self.stored]


async def attempt(agent: Agent, run: AgentRun, steps: KeptSteps) -> Told | None:
    """Make an attempt. Returns: what it told; None: its worker went away."""
    steps.done = list(steps.stored)
    telling = asyncio.create_task(told_by(agent, replace(run, steps=steps)))
    going = asyncio.create_task(steps.worker.is_gone.wait())
    await asyncio.wait([telling, going], return_when=asyncio.FIRST_COMPLETED)
    going.cancel()
    if telling.done():
        return telling.result()
    telling.cancel()
    with suppress(asyncio.CancelledError):
        await telling
    return None
