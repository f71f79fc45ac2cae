"""Experiment 23: turns wait, workers and Postgres are killed, and each is resumed twice at once."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import version
from support.databases import as_superuser
from support.processes import ServerProcess
from support.services import metadata
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.operations import WORKER_KILLED
from support.waiting import WEATHER, result

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

EXPERIMENT = Experiment(
    number=23,
    done="turns wait, their workers and Postgres are killed (-9), each is resumed twice at once",
    holds="each goes on once, and both calls get its answer",
    protection="a resume compares the fence and what was given before",
    removal="a resume that compares neither",
    short_s=5,
    long_s=60,
)
TURNS_A_SECOND = 4
ANSWER = "1. done: sunny, sunny"


@pytest.fixture
def postgres(cluster_folder: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(cluster_folder) as postgres:
        yield postgres


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> str:
    url = postgres.start()
    version.migrate(url)
    return url


async def two_workers(trial: Trial, started: ExitStack) -> list[ServerProcess]:
    """Start them at once: their agent asks its caller."""
    arguments = (trial.without,) if trial.without else ()
    workers = await asyncio.gather(
        *(
            asyncio.to_thread(
                ServerProcess,
                trial.database_url,
                module="support.asking_server",
                arguments=arguments,
            )
            for _ in range(2)
        )
    )
    for worker in workers:
        started.enter_context(worker)
    return list(workers)


async def resumed(worker: ServerProcess, request_id: str, waits: pb.ChatResponse) -> Any:
    """Give a turn all that it waits for."""
    request = pb.ResumeTurnRequest(
        results=[result(call) for call in waits.pending_calls], request_id=request_id
    )
    return await worker.stub.ResumeTurn(
        request, timeout=30, metadata=metadata("ada"), wait_for_ready=True
    )


async def ready(worker: ServerProcess) -> None:
    """Have a worker connected with its caller and its database, so that none is first by far."""
    await worker.stub.ListConversations(
        pb.ListConversationsRequest(), timeout=30, metadata=metadata("ada"), wait_for_ready=True
    )


async def end(postgres: EmbeddedPostgres) -> None:
    """Kill Postgres."""
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    while postgres.pid is not None:
        await asyncio.sleep(0.02)


@pytest.fixture
def attack(postgres: EmbeddedPostgres) -> Any:
    async def attack(trial: Trial) -> None:
        names = [f"r{n}" for n in range(int(trial.seconds * TURNS_A_SECOND))]
        with ExitStack() as started:
            workers = await two_workers(trial, started)
            waiting = [
                await workers[n % 2].chat("hello", request_id=name, tools=[WEATHER])
                for n, name in enumerate(names)
            ]
            trial.expect(all(len(one.pending_calls) == 2 for one in waiting), "idle: none waits")
            for worker in workers:
                trial.log.note(WORKER_KILLED)
                worker.kill()
            trial.log.note("Postgres killed")
            await end(postgres)
            await asyncio.to_thread(postgres.start)

            workers = await two_workers(trial, started)
            await asyncio.gather(*map(ready, workers))
            ends = []
            for name, waits in zip(names, waiting, strict=True):
                both = [resumed(worker, name, waits) for worker in workers]
                ends += await asyncio.gather(*both, return_exceptions=True)
        told = {one if isinstance(one, BaseException) else one.chat.response for one in ends}
        trial.expect({ANSWER} == told, f"wrong: calls were told {told}")
        with psycopg.connect(as_superuser(trial.database_url)) as connection:
            turns = connection.execute("SELECT DISTINCT state, attempt FROM turn").fetchall()
            said = connection.execute(
                "SELECT role, content, count(*) FROM message GROUP BY 1, 2 ORDER BY 1"
            ).fetchall()
        trial.figures["turns resumed"] = str(len(names))
        trial.expect([("COMPLETED", 2)] == turns, f"doubled: turns are {turns}")
        whole = [("ASSISTANT", ANSWER, len(names)), ("USER", "hello", len(names))]
        trial.expect(whole == said, f"wrong: messages are {said}")

    return attack


async def test_turns_that_wait_through_kills_go_on_once(lab: Lab, attack: Any) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_turns_that_go_on_twice_are_noticed(lab: Lab, attack: Any) -> None:
    await lab.notices(attack, without="turns.resume", because="doubled")
