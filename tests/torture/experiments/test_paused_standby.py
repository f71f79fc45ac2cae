"""Experiment 6: calls time out in COMMIT, since the standby is paused, and are sent again."""

import asyncio
from functools import partial

import pytest

from support.moved_postgres import url_of
from support.paths import Path
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.replicated import Replicated

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

CALL_S = 2.0

EXPERIMENT = Experiment(
    number=6,
    done="the synchronous standby is paused under load; calls time out in COMMIT and are sent"
    " again; then it is promoted",
    holds="one turn for each request id",
    protection="the request id that a call is repeated with",
    removal="callers repeat their calls under new request ids",
    short_s=8,  # more than a worker waits for an answer of the database
    long_s=60,
)


@pytest.fixture
async def database_url(path: Path) -> str:
    return url_of(path)


async def attack(trial: Trial, *, servers: Replicated) -> None:
    await asyncio.to_thread(servers.have_commits_wait)
    options = {"call_s": CALL_S, "keeps_request_ids": trial.is_protected, "settle_s": 90.0}
    async with trial.fleet() as fleet, trial.load(fleet.any, **options) as load:
        await load.until_answered(100)
        trial.log.note("standby paused")
        await asyncio.to_thread(servers.stop_receiving)
        await asyncio.sleep(trial.seconds)  # calls time out meanwhile, in COMMIT
        await servers.fail_over(trial.log)
        await load.until_answered(50)
    trial.database_url = servers.standby_url


async def test_calls_that_time_out_in_commit_make_one_turn_each(
    lab: Lab, replicated: Replicated
) -> None:
    trial = await lab.holds(partial(attack, servers=replicated))
    unknown = [each for each in trial.log.operations if each.outcome == "unknown"]
    assert unknown, "no call has timed out: the standby was not paused"


@of_a_removal
async def test_turns_are_doubled_under_new_request_ids_and_that_is_noticed(
    lab: Lab, replicated: Replicated
) -> None:
    run = partial(attack, servers=replicated)
    await lab.notices(run, without="request_ids", because="doubled")
