"""Experiment 5: a streaming standby is promoted under load; commits wait for it, or do not."""

import asyncio
import time
from functools import partial

import pytest

from support.moved_postgres import url_of
from support.paths import Path
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.replicated import Replicated, seconds_until_back

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

BAR_S = 15.0

EXPERIMENT = Experiment(
    number=5,
    done="the primary is killed (-9) under mixed load while its standby lags, which is promoted",
    holds="no OK is lost, and turns are answered again within 15 s",
    protection="synchronous_standby_names: a commit waits for the standby",
    removal="the standby is asynchronous",
    short_s=4,
    long_s=120,
)


@pytest.fixture
async def database_url(path: Path) -> str:
    return url_of(path)


async def attack(trial: Trial, *, servers: Replicated) -> None:
    if trial.is_protected:
        await asyncio.to_thread(servers.have_commits_wait)
    async with trial.fleet() as fleet, trial.load(fleet.any) as load:
        await load.until_answered(100)
        await asyncio.sleep(trial.seconds)  # under load, as long as the experiment is
        trial.log.note("standby lags")
        await asyncio.to_thread(servers.stop_sending)
        await asyncio.sleep(1)  # meanwhile callers are answered, or wait
        began = time.monotonic()
        await servers.fail_over(trial.log)
        back_s = await seconds_until_back(trial, began, BAR_S)
        trial.figures["service back after"] = f"{back_s:.1f} s"
        trial.expect(back_s < BAR_S, f"late: no service within {BAR_S:.0f} s")
    trial.database_url = servers.standby_url


async def test_nothing_is_lost_when_a_synchronous_standby_is_promoted(
    lab: Lab, replicated: Replicated
) -> None:
    await lab.holds(partial(attack, servers=replicated))


@of_a_removal
async def test_answers_are_lost_with_an_asynchronous_standby_and_that_is_noticed(
    lab: Lab, replicated: Replicated
) -> None:
    run = partial(attack, servers=replicated)
    await lab.notices(run, without="synchronous_standby_names", because="lost", seconds=1)
