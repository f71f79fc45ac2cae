"""Workers with several agents."""

from collections.abc import AsyncGenerator
from typing import Any

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
from support.agents import ScriptedAgent
from support.services import Service, StartService

OF_A_TURN = 100
"""Tokens that a turn of an agent uses that says its name."""
NAMES = ("general", "poet", "support")
"""The agents of `started`, each of which says its name; the first one is the default."""


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
