"""Experiment 23: turns wait, workers and Postgres are killed, and each is resumed twice at once."""

import asyncio
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import integrity, version
from support import unprotected
from support.databases import as_superuser
from support.processes import ServerProcess
from support.services import metadata
from support.waiting import WEATHER, result

pytestmark = [pytest.mark.torture, pytest.mark.timeout(120)]

TESTS = Path(__file__).parents[2]
TURNS = 20
ANSWER = "1. done: sunny, sunny"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


async def two_workers(url: str, started: ExitStack) -> list[ServerProcess]:
    """Start them at once: their agent asks its caller."""
    starting = (
        asyncio.to_thread(ServerProcess, url, module="support.asking_server", arguments=())
        for _ in range(2)
    )
    workers = await asyncio.gather(*starting)
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


async def resumed_twice_after_restarts(postgres: EmbeddedPostgres) -> None:
    """Have turns wait, kill everything, and resume each on both of the workers that follow.

    Asserts: each has gone on once, both calls got its answer, and the database is whole.
    """
    url = postgres.start()
    version.migrate(url)
    with ExitStack() as started:
        workers = await two_workers(url, started)
        names = [f"r{n}" for n in range(TURNS)]
        waiting = [
            await workers[n % 2].chat("hello", request_id=name, tools=[WEATHER])
            for n, name in enumerate(names)
        ]
        assert all(len(waits.pending_calls) == 2 for waits in waiting)
        for worker in workers:
            worker.kill()
        assert postgres.pid is not None
        os.kill(postgres.pid, signal.SIGKILL)
        while postgres.pid is not None:
            await asyncio.sleep(0.02)
        url = await asyncio.to_thread(postgres.start)

        workers = await two_workers(url, started)
        ends = await asyncio.gather(
            *(
                resumed(worker, name, waits)
                for name, waits in zip(names, waiting, strict=True)
                for worker in workers
            ),
            return_exceptions=True,
        )
    with psycopg.connect(as_superuser(url)) as connection:
        turns = connection.execute("SELECT DISTINCT state, attempt FROM turn").fetchall()
        said = connection.execute(
            "SELECT role, content, count(*) FROM message GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
    assert [("COMPLETED", 2)] == turns, "a turn went on twice"
    assert [("ASSISTANT", ANSWER, TURNS), ("USER", "hello", TURNS)] == said
    assert [] == [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert {ANSWER} == {end.chat.response for end in ends}
    assert () == integrity.examine(as_superuser(url)).problems


async def test_turns_that_wait_through_restarts_go_on_once(cluster_folder: Path) -> None:
    with EmbeddedPostgres(cluster_folder) as postgres:
        await resumed_twice_after_restarts(postgres)


async def test_turns_that_go_on_twice_are_noticed(
    cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what a resume compares, the fence and what was given before, both run the turn."""
    monkeypatch.setenv(unprotected.VARIABLE, "one resume")
    with (
        EmbeddedPostgres(cluster_folder) as postgres,
        pytest.raises(AssertionError, match="a turn went on twice"),
    ):
        await resumed_twice_after_restarts(postgres)
