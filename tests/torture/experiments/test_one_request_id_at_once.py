"""Experiment 9: very many calls with one request id, all at once, over two workers."""

import asyncio

import psycopg
import pytest

from support.databases import as_superuser
from support.services import an_id
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.load import Request, call
from support.torture.operations import Kind, Outcome

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

AT_ONCE = 200
A_ROUND_S = 2.0
KINDS = (Kind.CHAT, Kind.STREAM, Kind.START)

EXPERIMENT = Experiment(
    number=9,
    done=f"{AT_ONCE} calls with one request id, all at once, over two workers",
    holds="one turn; every call is told the same answer",
    protection="a unique constraint on owner and request id, within the claim",
    removal="the constraint is dropped, and claims do not mind",
    short_s=2 * A_ROUND_S,
    long_s=50 * A_ROUND_S,
)


async def attack(trial: Trial) -> None:
    if not trial.is_protected:
        with psycopg.connect(as_superuser(trial.database_url), autocommit=True) as admin:
            admin.execute("ALTER TABLE turn DROP CONSTRAINT turn_owner_id_request_id_key")
    without = () if trial.is_protected else ("unique",)
    async with trial.fleet(without=without) as fleet:
        for _ in range(int(trial.seconds / A_ROUND_S)):
            # Nothing else keeps them apart: none names a conversation, so each would make one.
            request_id, message = an_id(), f"said {an_id()}"
            kinds = KINDS if trial.is_protected else (Kind.CHAT,)
            calls = [
                call(
                    fleet.any(),
                    Request(kinds[n % len(kinds)], "", message, request_id=request_id),
                    trial.log,
                    timeout=30,
                )
                for n in range(AT_ONCE)
            ]
            await asyncio.gather(*calls)
    unanswered = [each for each in trial.log.operations if each.outcome != Outcome.OK]
    reasons = {each.reason for each in unanswered}
    trial.expect(not unanswered, f"unanswered: {len(unanswered)} calls, {reasons}")


async def test_calls_with_one_request_id_are_one_turn(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_turns_of_one_request_id_are_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="unique", because="doubled")
