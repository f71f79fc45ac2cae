"""Experiment 2: a worker is killed before and after each commit and each call of its agent."""

import asyncio

import pytest

from support.processes import ServerProcess
from support.services import an_id
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.failpoints import POINTS
from support.torture.fleet import LEASE_S, SETTINGS
from support.torture.load import Request, call
from support.torture.operations import Kind, Outcome

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

AT_A_TIME = 2
"""Processes that are started at once, on a machine that has as many processors."""

EXPERIMENT = Experiment(
    number=2,
    done="a worker is killed (-9) before and after each commit and each agent call of a turn",
    holds="the call, sent again to another worker, gives one turn",
    protection="the request id, which callers keep when they call again",
    removal="another request id each time",
    short_s=20,
    long_s=200,
)


async def attack(trial: Trial) -> None:
    points = POINTS if trial.is_protected else ("claim:after", "finish:after")
    room = asyncio.Semaphore(AT_A_TIME)
    async with trial.fleet(1) as fleet:

        async def pass_point(point: str) -> None:
            async with room:
                doomed = await asyncio.to_thread(
                    ServerProcess,
                    trial.database_url,
                    module="support.torture.failpoints",
                    arguments=(point, "serve"),
                    **SETTINGS,
                )
            try:
                await talk(trial, fleet.any(), doomed, point)
            finally:
                await asyncio.to_thread(doomed.kill)
                await doomed.channel.close(None)

        for _ in range(5 if trial.is_long else 1):
            await asyncio.gather(*map(pass_point, points))
    trial.figures["points"] = str(len(points))


async def talk(trial: Trial, healthy: object, doomed: ServerProcess, point: str) -> None:
    """Have a worker pass its point with a call, and send that again to a healthy one."""
    is_started = point.startswith(("accept", "begin", "finish_started"))
    kind = Kind.START if is_started else Kind.CHAT
    # A new conversation's claim is another statement than that of one that is there.
    if point.startswith(("claim:", "finish:", "agent:", "begin:")):
        conversation_id = an_id()
        await call(healthy, Request(Kind.CHAT, conversation_id, f"first {an_id()}"), trial.log)
    else:
        conversation_id = ""
    wanted = Request(kind, conversation_id, f"said {point} {an_id()}")
    told = await call(doomed.stub, wanted, trial.log, timeout=10)
    code = await asyncio.to_thread(doomed.process.wait, 10)
    trial.expect(-9 == code, f"alive: the worker did not pass {point}")
    trial.log.note(point)
    for _ in range(10):
        if not trial.is_protected:
            wanted = Request(kind, wanted.conversation_id, wanted.message)
        told = await call(healthy, wanted, trial.log, timeout=LEASE_S + 10)
        if told.outcome == Outcome.OK:
            return
    trial.problems.append(f"unanswered: after {point}: {told.reason}")


async def test_turn_is_made_once_wherever_its_worker_is_killed(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_turn_that_is_asked_for_under_another_id_is_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="request ids", because="doubled", seconds=2)
