"""Experiment 8: very many turns on one conversation, all at once."""

import asyncio

import pytest

from support.services import an_id
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.load import Request, call
from support.torture.operations import Kind, Outcome

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

AT_ONCE = 200
STARTED = 40
"""How many of them are started turns, which must run in the order of their acceptance."""
A_ROUND_S = 6.0

EXPERIMENT = Experiment(
    number=8,
    done=f"{AT_ONCE} turns at once on one conversation, over two workers",
    holds="one at a time, each answered; started ones in the order of acceptance",
    protection="the claim takes a conversation only if no turn of it is open, and the fence",
    removal="a claim that takes it in any case, and no fence",
    short_s=A_ROUND_S,
    long_s=10 * A_ROUND_S,
)


async def attack(trial: Trial) -> None:
    without = () if trial.is_protected else ("free", "fence")
    # What is left of the order then keeps most calls waiting, which is not the subject.
    timeout, trial.started_within_s = (45.0, 30.0) if trial.is_protected else (4.0, 2.0)
    async with trial.fleet(agent="echo:0.01", without=without) as fleet:
        for _ in range(int(trial.seconds / A_ROUND_S)):
            conversation_id = an_id()

            async def chat(number: int, conversation_id: str = conversation_id) -> None:
                kind = Kind.STREAM if number % 3 == 0 else Kind.CHAT
                wanted = Request(kind, conversation_id, f"said {number} {an_id()}")
                await call(fleet.any(), wanted, trial.log, timeout=timeout)

            async def start_all(conversation_id: str = conversation_id) -> None:
                for number in range(STARTED):
                    wanted = Request(Kind.START, conversation_id, f"started {number} {an_id()}")
                    await call(fleet.any(), wanted, trial.log, timeout=timeout)

            await asyncio.gather(start_all(), *(chat(n) for n in range(AT_ONCE - STARTED)))
    unanswered = [each for each in trial.log.operations if each.outcome != Outcome.OK]
    reasons = {each.reason for each in unanswered}
    trial.expect(not unanswered, f"unanswered: {len(unanswered)} calls, {reasons}")


async def test_turns_of_one_conversation_run_one_at_a_time_and_in_order(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_turns_that_take_a_busy_conversation_are_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="free", because="overlap|doubled")
