"""Experiment 15: workers are replaced one by one behind Envoy, with streams and watches open."""

from pathlib import Path
from typing import Any

import pytest

from support.rolling_restarts import restarted_under_load
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

EXPERIMENT = Experiment(
    number=15,
    done="workers are replaced one by one (SIGTERM) behind Envoy, streams and watches open",
    holds="no call with a request id is lost, no turn doubled, watches tell each once",
    protection="what a drain refuses and a closed connection loses is sent again",
    removal="callers and an Envoy that send nothing again",
    short_s=15,
    long_s=120,
)
ROUND_S = 15
CALLERS = {False: 6, True: 25}


@pytest.fixture
def attack(tmp_path: Path) -> Any:
    async def attack(trial: Trial) -> None:
        calls = await restarted_under_load(
            trial.database_url,
            tmp_path,
            callers=CALLERS[trial.is_long],
            rounds=max(1, int(trial.seconds / ROUND_S)),
            is_retried=trial.is_protected,
        )
        trial.figures["calls"] = str(calls)

    return attack


async def test_rolling_restarts_lose_no_call(lab: Lab, attack: Any) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_calls_that_are_lost_without_retries_are_noticed(lab: Lab, attack: Any) -> None:
    await lab.notices(attack, without="retries", because="AssertionError: a call was lost")
