"""Experiment 17: Envoy repeats calls whose connection to a worker is cut in mid-call.

What else it repeats, and what not, is in tests/deploy/test_retries.py.
"""

import asyncio
import random
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from support.cut_connections import Wire
from support.databases import as_superuser
from support.envoys import Caller, Envoy
from support.services import an_id, metadata
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

EXPERIMENT = Experiment(
    number=17,
    done="connections between Envoy and workers are cut in mid-call, and Envoy repeats the calls",
    holds="one turn for each call",
    protection="a call that is repeated has a request id",
    removal="callers that have Envoy repeat calls without one",
    short_s=6,
    long_s=60,
)
CALLERS = 12
CUT_S = (0.2, 0.6)
SAFE = ("parley-retry", "safe")


async def calls_until(over: asyncio.Event, caller: Caller, *, has_request_id: bool) -> list[str]:
    """Make a turn after the other; again, by its request id, where Envoy has given up.

    Returns: what was said.
    """
    said = []
    while not over.is_set():
        said.append(message := an_id())
        chat = pb.ChatRequest(message=message, request_id=message if has_request_id else "")
        is_decided = False
        while not is_decided:
            try:
                how = (*metadata("ada"), SAFE)
                answer = await caller.stub.Chat(chat, timeout=30, metadata=how)
                assert message == answer.response
                is_decided = True
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE, error.details()
                is_decided = not has_request_id
    return said


@pytest.fixture
def attack(tmp_path: Path) -> Any:
    async def attack(trial: Trial) -> None:
        async with (
            trial.fleet(2, agent="echo:0.3") as fleet,
            Wire(fleet.workers[0].port).running() as one,
            Wire(fleet.workers[1].port).running() as other,
            Envoy(tmp_path, [one.port, other.port]) as envoy,
        ):
            await envoy.until_healthy(one.port, other.port)
            async with Caller(envoy.address) as caller:
                over = asyncio.Event()
                calling = [
                    asyncio.create_task(
                        calls_until(over, caller, has_request_id=trial.is_protected)
                    )
                    for _ in range(CALLERS)
                ]
                loop = asyncio.get_running_loop()
                until = loop.time() + trial.seconds
                while loop.time() < until:
                    await asyncio.sleep(random.uniform(*CUT_S))  # the rhythm is the subject
                    trial.log.note("connections cut")
                    random.choice((one, other)).cut()
                over.set()
                said = [message for each in await asyncio.gather(*calling) for message in each]
                repeats = envoy.stat("cluster.parley.upstream_rq_retry")
        trial.figures["calls"] = str(len(said))
        trial.figures["repeated by Envoy"] = str(repeats)
        trial.expect(repeats, "idle: Envoy repeated nothing")
        with psycopg.connect(as_superuser(trial.database_url)) as connection:
            found = connection.execute(
                "SELECT content, count(*) FROM message WHERE role = 'USER' GROUP BY 1"
            ).fetchall()
        twice = [content for content, count in found if count > 1]
        trial.expect(not twice, f"doubled: {len(twice)} calls have several turns")
        if trial.is_protected:
            lost = set(said) - {content for content, _ in found}
            trial.expect(not lost, f"lost: {lost}")

    return attack


async def test_calls_that_envoy_repeats_make_one_turn(lab: Lab, attack: Any) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_calls_without_a_request_id_that_are_repeated_are_noticed(
    lab: Lab, attack: Any
) -> None:
    await lab.notices(attack, without="request ids", because="doubled")
