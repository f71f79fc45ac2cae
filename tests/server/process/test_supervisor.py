"""A parent whose workers cannot be made, or are told to end at an awkward moment."""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import psutil
import pytest

from parley.v1 import conversation_pb2, conversation_service_pb2_grpc
from parley.v1 import conversation_service_pb2 as pb
from parley_server.addresses import bound
from parley_server.config import BadSettings, Settings
from parley_server.process import supervisor
from parley_server.process.supervisor import Parent
from support.services import AUDIENCE, ISSUER, SECRET, metadata

Process = asyncio.subprocess.Process
Spawn = Callable[..., Awaitable[Process]]


@pytest.fixture
def parent(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Parent:
    settings = {
        "PARLEY_DATABASE_URL": database_url,
        "PARLEY_LISTEN": "127.0.0.1:0",
        "PARLEY_AGENT": "echo",
        "PARLEY_AUTH_HS256_SECRET": SECRET,
        "PARLEY_AUTH_ISSUER": ISSUER,
        "PARLEY_AUTH_AUDIENCE": AUDIENCE,
        "PARLEY_WORKERS": "2",
        "PARLEY_DRAIN_S": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return Parent(Settings())


@pytest.fixture
def made() -> list[Process]:
    """The processes of workers, in the order in which they were made."""
    return []


@pytest.fixture
def spawn(monkeypatch: pytest.MonkeyPatch, made: list[Process]) -> Callable[[Any], None]:
    """Have workers made by way of a function that gets how they are made, and which one it is."""
    usual = asyncio.create_subprocess_exec

    def use(instead: Callable[[Spawn, int], Awaitable[Process]]) -> None:
        count = 0

        async def spawned(*command: str, **options: Any) -> Process:
            nonlocal count
            count += 1

            async def make(*other: str) -> Process:
                made.append(await usual(*(other or command), **options))
                return made[-1]

            return await instead(make, count)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", spawned)

    return use


async def until_begun(stub: Any, request_id: str) -> None:
    request = pb.GetTurnRequest(request_id=request_id)
    state = None
    while state != conversation_pb2.TURN_STATE_RUNNING:
        with suppress(grpc.aio.AioRpcError):
            state = (await stub.GetTurn(request, metadata=metadata("ada"))).turn.state
        await asyncio.sleep(0.02)


async def test_a_signal_while_a_worker_is_made_reaches_it(
    parent: Parent, spawn: Any, made: list[Process]
) -> None:
    """Fails when only those that are there are told: this one is killed when its time is over."""

    async def told_meanwhile(make: Spawn, count: int) -> Process:
        process = await make()
        if count == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.1)
        return process

    spawn(told_meanwhile)
    async with asyncio.timeout(supervisor.OVERDUE_S - 2):
        await parent.run(lambda _: None)

    assert -signal.SIGKILL not in [process.returncode for process in made]


async def test_a_worker_that_does_not_even_begin_is_killed_in_the_end(
    parent: Parent, spawn: Any, made: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when its word is waited for before its end is."""
    monkeypatch.setattr(supervisor, "OVERDUE_S", 1.0)

    async def frozen(make: Spawn, _: int) -> Process:
        process = await make()
        process.send_signal(signal.SIGSTOP)
        return process

    spawn(frozen)
    asyncio.get_running_loop().call_later(1, os.kill, os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(8):
        await parent.run(lambda _: None)

    assert [-signal.SIGKILL] * 2 == [process.returncode for process in made]


async def test_a_dead_worker_is_replaced_once_there_is_room_for_a_process(
    parent: Parent, spawn: Any, made: list[Process]
) -> None:
    """Fails when the parent ends, and all workers with it, where one cannot be made again."""
    is_ready = asyncio.Event()

    async def once_without_room(make: Spawn, count: int) -> Process:
        if count == 3:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return await make()

    spawn(once_without_room)
    running = asyncio.create_task(parent.run(lambda _: is_ready.set()))
    async with asyncio.timeout(30):
        await is_ready.wait()
        made[0].kill()
        while len(made) < 3 and not running.done():
            await asyncio.sleep(0.02)
        assert not running.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await running


async def test_a_signal_while_a_worker_is_replaced_cuts_no_turn_of_another(
    parent: Parent, spawn: Any, made: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when all are told once more as the new one is made: a second signal cuts turns."""
    monkeypatch.setenv("PARLEY_AGENT", "echo:4")
    monkeypatch.setenv("PARLEY_DRAIN_S", "10")
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    told = asyncio.Event()

    async def told_meanwhile(make: Spawn, count: int) -> Process:
        process = await make()
        if count == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.1)
            told.set()
        return process

    spawn(told_meanwhile)
    running = asyncio.create_task(Parent(Settings()).run(ready.set_result))
    async with asyncio.timeout(60):
        port = await ready
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        stub: Any = conversation_service_pb2_grpc.ConversationServiceStub(channel)
        call = stub.Chat(pb.ChatRequest(message="hello", request_id="r"), metadata=metadata("ada"))
        await until_begun(stub, "r")
        its = psutil.Process(made[0].pid).net_connections()
        is_serving = any((each.laddr.port, bool(each.raddr)) == (port, True) for each in its)
        made[is_serving].kill()  # the other one
        await told.wait()

        assert "hello" == (await call).response
        await running
        await channel.close(None)


@pytest.mark.usefixtures("parent")
async def test_a_second_parent_does_not_share_the_port_of_a_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when it is asked for as workers do: calls then go to either server."""
    with bound("127.0.0.1:0", socket.SO_REUSEPORT) as (address, _):
        monkeypatch.setenv("PARLEY_LISTEN", address)
        with pytest.raises(BadSettings, match="in use by another program"):
            await Parent(Settings()).run(lambda _: os.kill(os.getpid(), signal.SIGTERM))


async def test_no_worker_is_left_where_another_one_could_not_start(
    parent: Parent, spawn: Any, made: list[Process]
) -> None:
    """Fails when the parent ends before the workers that it has told to."""

    async def second_fails(make: Spawn, count: int) -> Process:
        return await make(
            *((sys.executable, "-c", "import time; time.sleep(1)") if count == 2 else ())
        )

    spawn(second_fails)
    async with asyncio.timeout(30):
        with pytest.raises(BadSettings, match="a worker could not start"):
            await parent.run(lambda _: None)

    assert [] == [process.pid for process in made if psutil.pid_exists(process.pid)]
