"""Experiment 14: pgbouncer in transaction mode is paused under load, and resumes."""

import asyncio
from functools import partial

import pytest

from support.pgbouncers import Pgbouncer
from support.services import BEHIND_PGBOUNCER
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

CALL_S = 3.0

EXPERIMENT = Experiment(
    number=14,
    done="pgbouncer, in transaction mode, is paused under load; calls time out and are sent again",
    holds="no OK is lost, no turn is doubled, and calls go on when it resumes",
    protection="the request id that a call is repeated with",
    removal="callers repeat their calls under new request ids",
    short_s=8,
    long_s=30,
)


async def attack(trial: Trial, *, pgbouncer: Pgbouncer) -> None:
    direct_url, trial.database_url = trial.database_url, pgbouncer.url(trial.database_url)
    options = {"call_s": CALL_S, "keeps_request_ids": trial.is_protected}
    async with trial.fleet(**BEHIND_PGBOUNCER) as fleet, trial.load(fleet.any, **options) as load:
        trial.database_url = direct_url
        await load.until_answered(100)
        # A pause in which no call is between its claim and its end would double nothing.
        for _ in range(1 if trial.is_protected else 3):
            trial.log.note("pgbouncer paused")
            await asyncio.to_thread(pgbouncer.pause)
            await asyncio.sleep(trial.seconds)  # as long as it is paused
            await asyncio.to_thread(pgbouncer.resume)
            trial.log.note("pgbouncer resumed")
            await load.until_answered(100)


async def test_no_turn_is_lost_or_doubled_over_a_pause(lab: Lab, pgbouncer: Pgbouncer) -> None:
    await lab.holds(partial(attack, pgbouncer=pgbouncer))


@of_a_removal
async def test_turns_are_doubled_under_new_request_ids_and_that_is_noticed(
    lab: Lab, pgbouncer: Pgbouncer
) -> None:
    run = partial(attack, pgbouncer=pgbouncer)
    await lab.notices(run, without="request_ids", because="doubled", seconds=CALL_S + 1)
