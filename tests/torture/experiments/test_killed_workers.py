"""Experiment 1: workers are killed, one every two seconds."""

import asyncio

import pytest

from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import LEASE_S

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1200)]

EVERY_S = 2.0
TAKEOVER_S = LEASE_S + 5
NEVER_S = 3600
AGENT = "echo:0.1"
"""It thinks for so long that a worker is always in the midst of turns when it is killed."""

EXPERIMENT = Experiment(
    number=1,
    done="a worker is killed (-9) every 2 s under mixed load",
    holds="every OK is stored once, gapless; takeover within the lease + 5 s",
    protection="a turn belongs to a worker by a lease, which ends by itself",
    removal="leases of an hour",
    short_s=8,
    long_s=300,
)


async def attack(trial: Trial) -> None:
    lease_s = LEASE_S if trial.is_protected else NEVER_S
    trial.started_within_s = TAKEOVER_S if trial.is_protected else 1
    async with (
        trial.fleet(3, agent=AGENT, lease_s=lease_s) as fleet,
        trial.load(fleet.any, settle_s=TAKEOVER_S) as load,
    ):
        await load.until_answered(50)
        for _ in range(int(trial.seconds / EVERY_S)):
            await asyncio.sleep(EVERY_S)  # the rhythm is the subject
            await fleet.replace_one()
    takeovers = sorted(trial.log.takeovers(), key=lambda takeover: takeover.took_s)
    longest = takeovers[-1].took_s if takeovers else 0
    trial.figures["takeovers"] = str(len(takeovers))
    trial.figures["longest takeover"] = f"{longest:.1f} s (at most {TAKEOVER_S:.1f} s)"
    trial.expect(
        takeovers or not trial.is_protected, "idle: no call was in doubt when a worker was killed"
    )
    if longest > TAKEOVER_S:
        print(*trial.log.story(takeovers[-1]), sep="\n")
        trial.expect(False, f"late: a takeover took {longest:.1f} s")


async def test_every_answer_survives_workers_that_are_killed(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_without_the_end_of_leases_turns_of_killed_workers_stay_stuck(lab: Lab) -> None:
    await lab.notices(attack, without="lease", because="late|stuck", seconds=2 * EVERY_S)
