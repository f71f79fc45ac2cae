"""Workers are replaced one by one under load, behind Envoy: no call with a request id is lost."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_client import AsyncParleyClient
from parley_client.channels import options
from support.envoys import Caller, Envoy
from support.processes import ServerProcess
from support.services import a_token, an_id, metadata

SERVICE_CONFIG = str(dict(options())["grpc.service_config"])
SAFE = ("parley-retry", "safe")
AGENT = "echo:0.2"

Chat = Callable[[str, str], Awaitable[Any]]


def with_stubs(caller: Caller) -> Chat:
    """Chat by plain stubs."""

    async def chat(message: str, request_id: str) -> Any:
        return await caller.stub.Chat(
            pb.ChatRequest(message=message, request_id=request_id),
            timeout=60,
            metadata=(*metadata("ada"), SAFE),
        )

    return chat


def with_streams(caller: Caller) -> Chat:
    """Chat by plain stubs, as a stream that is asked for once."""

    async def chat(message: str, request_id: str) -> Any:
        request = pb.StreamChatRequest(chat=pb.ChatRequest(message=message, request_id=request_id))
        call = caller.stub.StreamChat(request, timeout=60, metadata=(*metadata("ada"), SAFE))
        return [event async for event in call][-1].completed

    return chat


def with_client(client: AsyncParleyClient) -> Chat:
    """Chat by the Python client."""

    async def chat(message: str, request_id: str) -> Any:
        return await client.chat(message, request_id=request_id, timeout_s=60)

    return chat


async def calls_until(over: asyncio.Event, chat: Chat, name: str) -> list[tuple[str, Any]]:
    """Make one turn after the other. Returns: what was said, and the answer or the error."""
    said: list[Any] = []
    for number in itertools.count():
        if over.is_set():
            return said
        message = f"{name} {number}"
        (answer,) = await asyncio.gather(chat(message, an_id()), return_exceptions=True)
        said.append((message, answer))
    raise AssertionError


async def replaced(worker: ServerProcess, envoy: Envoy, start: Callable[[str], Any]) -> Any:
    """Stop a worker as an orchestrator does, and start another one in its place."""
    assert 0 == await asyncio.to_thread(worker.stop)
    successor = await asyncio.to_thread(start, f"127.0.0.1:{worker.port}")
    await envoy.until_healthy(worker.port)
    return successor


async def restarted_under_load(url: str, folder: Path, *, callers: int, rounds: int) -> None:
    """Replace both workers so many times, with so many callers of each kind.

    Every call is answered, once, and in Postgres there is one turn for it, with two messages.
    """

    def start(listen: str = "127.0.0.1:0") -> ServerProcess:
        process = ServerProcess(url, agent=AGENT, listen=listen)
        started.enter_context(process)
        return process

    with ExitStack() as started:
        workers = [start(), start()]
        async with (
            Envoy(folder, [worker.port for worker in workers]) as envoy,
            Caller(envoy.address) as plain,
            Caller(envoy.address, SERVICE_CONFIG) as configured,
            AsyncParleyClient(envoy.address, token=a_token()) as client,
        ):
            await envoy.until_healthy(*(worker.port for worker in workers))
            kinds = {
                "plain": with_stubs(plain),
                "streams": with_streams(plain),
                "configured": with_stubs(configured),
                "client": with_client(client),
            }
            over = asyncio.Event()
            calling = [
                asyncio.ensure_future(calls_until(over, chat, f"{kind} {number}"))
                for kind, chat in kinds.items()
                for number in range(callers)
            ]
            for _ in range(rounds):
                for place, worker in enumerate(workers):
                    workers[place] = await replaced(worker, envoy, start)
            over.set()
            said = [call for caller in await asyncio.gather(*calling) for call in caller]

    failed = [(message, answer) for message, answer in said if isinstance(answer, Exception)]
    assert [] == failed
    assert [message for message, _ in said] == [answer.response for _, answer in said]
    with psycopg.connect(url) as connection:
        turns = connection.execute("SELECT count(*) FROM turn").fetchone()
        contents = connection.execute("SELECT content FROM message").fetchall()
    assert (len(said),) == turns
    assert sorted(2 * [message for message, _ in said]) == sorted(text for (text,) in contents)


async def test_rolling_restart_under_load_loses_no_call_and_makes_no_turn_twice(
    database_url: str, tmp_path: Path
) -> None:
    """Fails without retries for connections that fail, and for WORKER_DRAINED."""
    await restarted_under_load(database_url, tmp_path, callers=4, rounds=1)


@pytest.mark.torture
@pytest.mark.timeout(600)
async def test_rolling_restarts_one_after_the_other_lose_nothing_either(
    database_url: str, tmp_path: Path
) -> None:
    await restarted_under_load(database_url, tmp_path, callers=25, rounds=5)
