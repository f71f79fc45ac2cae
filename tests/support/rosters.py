"""Workers with several agents."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import pytest

from parley_server.config import Settings
from parley_server.core.attempts.roster import NamedAgent
from parley_server.core.attempts.window import WindowSettings
from parley_server.core.model import (
    AgentEvent,
    AgentLimits,
    AgentRun,
    Finish,
    FinishReason,
    Text,
    Usage,
)
from parley_server.core.ports import Agent
from parley_server.process import agents, worker
from support.agents import ScriptedAgent
from support.services import Service, StartService

WINDOW = WindowSettings(context_messages=40, context_tokens=100_000, instructions="Be kind.")
OF_A_TURN = 100
"""Tokens that a turn of an agent uses that says its name."""
NAMES = ("general", "poet", "support")
"""The agents of `started`, each of which says its name; the first one is the default."""

AddAgents = Callable[..., None]


@pytest.fixture
def add_agents(monkeypatch: pytest.MonkeyPatch) -> AddAgents:
    """Have workers that start from now on know more agents than their own, which is "main"."""

    def add(*others: NamedAgent, window: WindowSettings = WINDOW) -> None:
        def agents_for(
            settings: Settings, agent: Agent | None = None
        ) -> agents.OneAgent | agents.FiledAgents:
            made = original(settings, agent)
            main = replace(made.roster.default, name="main", window=window)
            made.roster.replace([main, *others], default="main")
            return made

        monkeypatch.setattr(worker, "agents_for", agents_for)

    original = agents.agents_for
    return add


def a_named_agent(name: str, agent: Agent | None = None, **fields: Any) -> NamedAgent:
    """Return an agent; one that says its name, if no other is given."""
    chosen = agent or ScriptedAgent(lambda run: say_name(name, run))
    return NamedAgent(name, chosen, WindowSettings(20, 8_000), **fields)


async def say_name(name: str, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Say who answers in which attempt, for OF_A_TURN tokens."""
    used = Usage(
        input_tokens=OF_A_TURN - 10, output_tokens=10, cached_input_tokens=0, model_requests=1
    )
    yield Text(f"{name} {run.attempt}" if run.attempt > 1 else name)
    yield Finish(FinishReason.STOP, f"model of {name}", used)


def seat(service: Service, *agents: NamedAgent, default: str = "") -> None:
    """Give a worker other agents. The first one is the default, unless another one is named."""
    service.worker.turns.roster.replace(agents, default or agents[0].name)


async def started(
    start: StartService, budgets: dict[str, int] | None = None, **changes: Any
) -> Service:
    """Start a worker with the agents of NAMES.

    Args:
        budgets: tokens a day, by name.
    """
    service = await start(**changes)
    seat(service, *(_budgeted(name, (budgets or {}).get(name)) for name in NAMES))
    return service


def _budgeted(name: str, tokens_a_day: int | None) -> NamedAgent:
    return a_named_agent(name, limits=AgentLimits(tokens_a_day=tokens_a_day))
