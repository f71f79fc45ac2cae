"""Agents that do what a test says. The model is the only thing that is scripted."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from parley_server.core.model import (
    AgentEvent,
    AgentRun,
    Finish,
    FinishReason,
    Spent,
    Text,
    ToolCall,
)

Script = Callable[[AgentRun], AsyncGenerator[AgentEvent, None]]


async def say_back(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Answer with what was said, in capitals."""
    yield Text(run.window.messages[-1].content.upper())
    yield Finish(FinishReason.STOP, "scripted-1")


@dataclass
class ScriptedAgent:
    """Runs a script for every turn, and remembers what it was shown."""

    script: Script = say_back
    model: str = "scripted"
    context_tokens: int | None = 100_000
    runs: list[AgentRun] = field(default_factory=list)

    def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        self.runs.append(run)
        return self.script(run)


class Gate:
    """A script that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        """Set when the run was stopped or ended."""

    async def __call__(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        try:
            self.entered.set()
            await self.opened.wait()
            async for event in say_back(run):
                yield event
        finally:
            self.closed.set()


class Speaker:
    """A script that says what the test tells it to, when it tells it to.

    What is put in: a text, a ToolCall, what was spent, an exception to raise, or None to finish.
    """

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str | ToolCall | Spent | Exception | None] = asyncio.Queue()
        self.entered = asyncio.Event()
        self.closed = asyncio.Event()

    def say(self, *lines: str | ToolCall | Spent | Exception | None) -> None:
        for line in lines:
            self._lines.put_nowait(line)

    async def __call__(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        self.entered.set()
        try:
            while (line := await self._lines.get()) is not None:
                if isinstance(line, Exception):
                    raise line
                yield Text(line) if isinstance(line, str) else line
            yield Finish(FinishReason.STOP, "speaker-1")
        finally:
            self.closed.set()
