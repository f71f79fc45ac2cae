"""Health, and the end of a process: what is open then, and how long it may take."""

import asyncio
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import BadSettings, Settings
from parley_server.process.bootstrap import dev_secret
from support.agents import Gate, ScriptedAgent
from support.http2 import INITIAL_WINDOW_SIZE, Connection, message
from support.processes import ServerProcess, environment_of
from support.services import StartService, an_id, metadata, refused
from support.terminals import CONTROLLED

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def watched(server: ServerProcess, name: str) -> AsyncIterator[int]:
    """Yield a health service's status whenever it changes, until the server is gone."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    try:
        async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
            yield answer.status
    except grpc.aio.AioRpcError:
        return


async def rest_of(statuses: AsyncIterator[int]) -> list[int]:
    return [status async for status in statuses]


async def last_of(watch: "grpc.aio.UnaryStreamCall[Any, Any]") -> None:
    while await watch.read():
        pass


async def slow_stream(server: ServerProcess, text: str) -> Connection:
    """Begin a StreamChat that takes nothing of its answer."""
    connection = await Connection.opened(server.port, {INITIAL_WINDOW_SIZE: 0})
    request = pb.StreamChatRequest(chat=pb.ChatRequest(message=text))
    _, frames = connection.call("StreamChat", metadata("ada"), message(request.SerializeToString()))
    await connection.send(frames)
    return connection


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_drain_waits_for_turns_and_for_nothing_else(
    database_url: str, workers: int
) -> None:
    """Health watches, watches and a stream that nobody reads are open. Without the bound on what
    is open when all turns have ended, the process stays for as long as they do."""
    with ServerProcess(database_url, agent="echo:2", workers=workers, drain_s=60) as server:
        conversation_id = (await server.chat("before")).conversation_id
        ready, live = watched(server, ""), watched(server, "liveness")
        assert [SERVING, SERVING] == [await anext(ready), await anext(live)]
        watch = server.stub.WatchConversation(
            pb.WatchConversationRequest(conversation_id=conversation_id), metadata=metadata("ada")
        )
        await watch.read()
        slow = await slow_stream(server, "nobody reads this")
        call = asyncio.ensure_future(server.chat("last words", request_id="r"))
        while not await is_running(server, "r"):
            await asyncio.sleep(0.02)

        told = time.monotonic()
        server.signal(signal.SIGTERM)
        assert NOT_SERVING == await anext(ready)
        assert ("UNAVAILABLE", "WORKER_DRAINED") == await refused(last_of(watch))
        assert "last words" == (await call).response
        assert 0 == await asyncio.to_thread(server.process.wait, 30)
        assert time.monotonic() - told < 30
        assert [[], []] == [await rest_of(ready), await rest_of(live)]  # still serving, then gone
        slow.close()


async def is_running(server: ServerProcess, request_id: str) -> bool:
    request = pb.GetTurnRequest(request_id=request_id)
    try:
        found = await server.stub.GetTurn(request, metadata=metadata("ada"), timeout=20)
    except grpc.aio.AioRpcError:
        return False
    return found.turn.state == conversation_pb2.TURN_STATE_RUNNING


@pytest.mark.slow
async def test_a_signal_to_every_process_cuts_no_turn(database_url: str) -> None:
    """As systemd sends it. Fails when the parent passes it on: the second one cuts turns."""
    with ServerProcess(database_url, agent="echo:2", workers=2) as server:
        call = asyncio.ensure_future(server.chat("last words", request_id="r"))
        while not await is_running(server, "r"):
            await asyncio.sleep(0.02)
        parent = psutil.Process(server.process.pid)
        for process in (*parent.children(), parent):
            process.terminate()

        assert "last words" == (await call).response
        assert 0 == await asyncio.to_thread(server.process.wait, 30)


async def test_what_a_drain_cuts_off_runs_at_once_elsewhere(database_url: str) -> None:
    with ServerProcess(database_url, agent="echo:60", drain_s=0.5, lease_s=60) as server:
        call = asyncio.ensure_future(refused(server.chat("hello", request_id="r")))
        while not await is_running(server, "r"):
            await asyncio.sleep(0.02)
        server.signal(signal.SIGTERM)
        assert ("UNAVAILABLE", "WORKER_DRAINED") == await call
        assert 0 == await asyncio.to_thread(server.process.wait, 30)

    with ServerProcess(database_url, lease_s=60) as other:
        answer = await other.chat("hello", request_id="r", timeout=20)
    assert ("hello", False) == (answer.response, answer.replayed)


@pytest.mark.slow
async def test_a_worker_that_hangs_does_not_hold_up_its_parents_end(database_url: str) -> None:
    """Fails when the parent only waits."""
    with ServerProcess(database_url, workers=2, drain_s=0) as server:
        hung, other = psutil.Process(server.process.pid).children()
        hung.suspend()
        server.signal(signal.SIGTERM)
        assert 0 == await asyncio.to_thread(server.process.wait, 60)
        assert [False, False] == [hung.is_running(), other.is_running()]
        assert "worker did not end and was killed" in "".join(server.output)


async def test_a_call_that_waits_on_a_draining_worker_starts_no_turn(
    start_service: StartService,
) -> None:
    """Fails when those that wait are not let go: the second call's turn then runs on a worker that
    is about to end."""
    gate, agent = Gate(), ScriptedAgent()
    agent.script = gate
    service = await start_service(agent)
    conversation_id = an_id()
    first = asyncio.ensure_future(
        service.chat("first", conversation_id=conversation_id, allow_missing=True)
    )
    await gate.entered.wait()
    second = asyncio.ensure_future(
        refused(service.chat("second", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT))
    )
    while service.worker.turns.open_calls < 2:
        await asyncio.sleep(0.01)
    draining = asyncio.ensure_future(service.worker.server.drain(5))

    assert ("UNAVAILABLE", "WORKER_DRAINED") == await second
    gate.opened.set()
    assert "FIRST" == (await first).response
    await draining
    assert ["first"] == [run.window.messages[-1].content for run in agent.runs]
    other = await start_service()
    assert 2 == (await other.history(conversation_id)).last_sequence


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_embedded_database_that_dies_comes_back_by_itself(
    tmp_path: Path, workers: int
) -> None:
    """Fails when nobody looks after it: every call then ends STORE_UNAVAILABLE, for good."""
    pid_file = tmp_path / "postgres" / "data" / "postmaster.pid"

    def postmaster() -> int | None:
        """Return whose the file is; None: it is just being written."""
        words = pid_file.read_text().split() if pid_file.exists() else []
        return int(words[0]) if words else None

    with ServerProcess(None, data_dir=tmp_path, workers=workers) as server:
        conversation_id = (await server.chat()).conversation_id
        died = postmaster()
        assert died is not None
        os.kill(died, signal.SIGKILL)

        async with asyncio.timeout(60):
            answer = None
            # Its children live on for a moment, and may answer.
            while answer is None or postmaster() in (died, None):
                try:
                    answer = await server.chat(conversation_id=conversation_id, request_id="again")
                except grpc.aio.AioRpcError as error:
                    assert grpc.StatusCode.UNAVAILABLE == error.code()
        assert 3 == answer.user_sequence
        assert 0 == server.stop()


def test_secret_that_several_make_at_once_is_one(tmp_path: Path) -> None:
    """`serve` and `token` in a new folder. Fails when the second one's replaces the first one's."""
    settings = Settings(data_dir=tmp_path / "new")
    ready = Barrier(8)

    def make(_: int) -> str:
        ready.wait()
        return dev_secret(settings)

    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(make, range(8)))
    assert 1 == len(made)
    assert 64 == len(made.pop())
    assert ["secret"] == [path.name for path in settings.data_dir.iterdir()]
    assert 0o600 == stat.S_IMODE((settings.data_dir / "secret").stat().st_mode)


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"\xff"])
def test_secret_that_is_none_is_named_with_its_file(tmp_path: Path, content: bytes) -> None:
    """As a full disk, or an editor, leaves it. Fails when only the secret's length is told."""
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(BadSettings) as refused:
        dev_secret(Settings(data_dir=tmp_path))
    expected = (
        f"PARLEY_DATA_DIR: {tmp_path}/secret holds no secret of at least 32 bytes: remove it, and "
        "another one is made"
    )
    assert expected == str(refused.value)
    assert content == (tmp_path / "secret").read_bytes()


async def test_server_whose_log_nobody_takes_goes_on(database_url: str) -> None:
    """Fails when a line that cannot be written ends what it tells of: each call then fails."""
    with ServerProcess(database_url) as server:
        server.leave_unread()
        await server.chat()
        while not server.process.stderr.closed:
            await asyncio.sleep(0.02)
        assert "still here" == (await server.chat("still here")).response
        assert 0 == await asyncio.to_thread(server.stop)


@pytest.mark.slow
def test_closing_the_terminal_ends_the_server_and_its_postgres(tmp_path: Path) -> None:
    """Fails when SIGHUP ends it at once: the embedded Postgres then stays behind."""
    settings = {
        "PARLEY_DATA_DIR": str(tmp_path),
        "PARLEY_AGENT": "echo",
        "PARLEY_LISTEN": "127.0.0.1:0",
    }
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*CONTROLLED, sys.executable, "-m", "parley_server", "serve"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment_of(settings),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while b"serves on" not in shown:
            shown += os.read(ours, 65_536)
        pid_file = tmp_path / "postgres" / "data" / "postmaster.pid"
        assert pid_file.exists()
        os.close(ours)
        assert process.wait(30) >= 0, "a signal ended it"
    assert not pid_file.exists()
