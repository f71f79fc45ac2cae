"""Workers with several agents."""

from collections.abc import Callable

import pytest

from parley_server.config import Settings
from parley_server.core.attempts.roster import NamedAgent, Roster
from parley_server.core.attempts.window import WindowSettings
from parley_server.core.ports import Agent
from parley_server.process import worker

WINDOW = WindowSettings(context_messages=40, context_tokens=100_000, instructions="Be kind.")
AddAgents = Callable[..., None]


@pytest.fixture
def add_agents(monkeypatch: pytest.MonkeyPatch) -> AddAgents:
    """Have workers that start from now on know more agents than their own, which is "main"."""

    def add(*others: NamedAgent, window: WindowSettings = WINDOW) -> None:
        def roster_for(settings: Settings, agent: Agent) -> Roster:
            return Roster([NamedAgent("main", agent, window), *others], default="main")

        monkeypatch.setattr(worker, "roster_for", roster_for)

    return add
