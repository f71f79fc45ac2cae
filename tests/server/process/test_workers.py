"""Several workers below a parent, signals, and the server's command."""

import asyncio
import os
import signal
from pathlib import Path

import grpc
import psutil
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.schema.version import SCHEMA_VERSION
from support.processes import ServerProcess, run
from support.services import a_token, info_of


def workers_of(server: ServerProcess) -> list[int]:
    return sorted(child.pid for child in psutil.Process(server.process.pid).children())


@pytest.mark.slow
async def test_workers_share_a_port_and_a_dead_one_is_replaced(database_url: str) -> None:
    with ServerProcess(database_url, workers=2) as server:
        before = workers_of(server)
        assert 2 == len(before)
        os.kill(before[0], signal.SIGKILL)
        while len(after := workers_of(server)) < 2 or after == before:
            await asyncio.sleep(0.05)
        assert before[1] in after
        answer = await server.chat("still here")
        assert "still here" == answer.response
        assert 0 == server.stop()
        assert not any(psutil.pid_exists(pid) for pid in after)


@pytest.mark.slow
async def test_what_an_agents_code_prints_stops_no_worker(database_url: str) -> None:
    """Fails when it is taken for the worker's word that it serves, or fills the pipe for that."""
    agent = "python:support.printing_module:agent"
    path = str(Path(__file__).parents[2])
    with ServerProcess(database_url, workers=2, agent=agent, python_path=path) as server:
        for _ in range(8):
            assert "printed" == (await server.chat(timeout=10)).response
        assert 0 == server.stop()
    assert "made at the import\n" in server.output


@pytest.mark.slow
async def test_workers_end_when_their_parent_is_killed(database_url: str) -> None:
    with ServerProcess(database_url, workers=2) as server:
        workers = [psutil.Process(pid) for pid in workers_of(server)]
        server.process.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, workers, 15)

    assert [] == alive


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_signal_lets_an_open_turn_end(
    database_url: str, workers: int, number: signal.Signals
) -> None:
    """SIGHUP is that of a terminal that is closed."""
    with ServerProcess(database_url, agent="echo:1.5", workers=workers) as server:
        call = asyncio.ensure_future(server.chat("last words", request_id="r"))
        await asyncio.sleep(0.5)
        server.signal(number)
        answer = await call
        code = await asyncio.to_thread(server.stop)

    assert "last words" == answer.response
    assert 0 == code


@pytest.mark.slow
async def test_server_that_ignores_sighup_goes_on(database_url: str) -> None:
    """As with nohup. Fails when it is taken all the same."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = ServerProcess(database_url)
    finally:
        signal.signal(signal.SIGHUP, before)
    with server:
        server.signal(signal.SIGHUP)
        assert "still here" == (await server.chat("still here")).response
        assert 0 == server.stop()


@pytest.mark.parametrize("workers", [1, 2])
async def test_second_signal_ends_open_turns_at_once(database_url: str, workers: int) -> None:
    with ServerProcess(database_url, agent="echo:60", workers=workers) as server:
        call = asyncio.ensure_future(server.chat("hello", request_id="r"))
        await asyncio.sleep(0.5)
        server.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        server.signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        code = await asyncio.to_thread(server.process.wait, 20)

    assert ("UNAVAILABLE", "WORKER_DRAINED") == (
        caught.value.code().name,
        info_of(caught.value).reason,
    )
    assert 0 == code


async def test_logs_hold_ids_and_nothing_that_was_said(database_url: str) -> None:
    secret = "the quick brown fox"
    with ServerProcess(database_url) as server:
        answer = await server.chat(f"{secret} jumps", request_id="r-1")
        token = a_token()
        with pytest.raises(grpc.aio.AioRpcError):
            await server.stub.Chat(
                pb.ChatRequest(message=f"{secret}\0", conversation_id=secret, agent=secret),
                metadata=[("authorization", f"Bearer {token}")],
            )
        server.stop()

    log = "".join(server.output)
    assert secret not in log
    assert token not in log
    for part in ("r-1", answer.turn_id, '"Chat"', "INVALID_ARGUMENT", "call_id", "duration_ms"):
        assert part in log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PARLEY_DATABASE_URL": "postgresql://x/y"}, "PARLEY_AUTH_KEYS_FILE"),
        ({"PARLEY_DATABASE_URL": "mysql://x/y"}, "PARLEY_DATABASE_URL: must be a URL"),
        ({"PARLEY_LEASE_S": "0.5"}, "PARLEY_LEASE_S: "),
        ({"PARLEY_LISTEN": "50051"}, "PARLEY_LISTEN: must be HOST:PORT"),
        ({"PARLEY_LISTEN": "127.0.0.1:65536"}, "PARLEY_LISTEN: must be HOST:PORT"),
        ({"PARLEY_AUTH_HS256_SECRET": "short"}, "must have at least 32 bytes"),
        ({"PARLEY_WORKERS": "many", "PARLEY_DRAIN_S": "-1"}, "PARLEY_DRAIN_S"),
    ],
)
def test_bad_settings_refuse_to_start_in_a_sentence(
    environment: dict[str, str], expected: str
) -> None:
    done = run("serve", **environment)

    assert 1 == done.returncode
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_server_refuses_a_database_without_a_schema(postgres_url: str) -> None:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE unmigrated")
    url = postgres_url.replace("/parley?", "/unmigrated?")
    environment = {
        "PARLEY_DATABASE_URL": url,
        "PARLEY_AGENT": "echo",
        "PARLEY_AUTH_HS256_SECRET": "s" * 32,
        "PARLEY_AUTH_ISSUER": "i",
        "PARLEY_AUTH_AUDIENCE": "a",
        "PARLEY_LISTEN": "127.0.0.1:0",
    }
    refused = run("serve", **environment)
    migrated = run("migrate", **environment)
    again = run("migrate", **environment)

    assert (1, True) == (refused.returncode, "parley-server migrate" in refused.stderr)
    row_security = "Row security is off.\n"
    applied = ", ".join(f"{number:04}" for number in range(1, SCHEMA_VERSION + 1))
    assert (0, f"Applied: {applied}.\n{row_security}") == (
        migrated.returncode,
        migrated.stderr,
    )
    assert (0, f"The schema is up to date.\n{row_security}") == (again.returncode, again.stderr)


@pytest.mark.slow
async def test_embedded_server_makes_its_own_keys_and_keeps_its_data(tmp_path: Path) -> None:
    environment = {"data_dir": str(tmp_path), "auth_hs256_secret": ""}
    environment |= {"auth_issuer": "", "auth_audience": ""}

    async def ask(server: ServerProcess) -> int:
        done = await asyncio.to_thread(run, "token", "--user", "me", PARLEY_DATA_DIR=str(tmp_path))
        answer = await server.stub.Chat(
            pb.ChatRequest(
                message="hello",
                conversation_id="0192f5c4-0000-7000-8000-000000000001",
                allow_missing=True,
            ),
            metadata=[("authorization", f"Bearer {done.stdout.strip()}")],
            timeout=20,
        )
        return answer.user_sequence

    with ServerProcess(None, **environment) as server:
        check = await asyncio.to_thread(run, "check", "--address", f"127.0.0.1:{server.port}")
        first = await ask(server)
        server.process.kill()
    with ServerProcess(None, **environment) as server:
        second = await ask(server)
        assert 0 == await asyncio.to_thread(server.stop)

    assert (0, "SERVING" in check.stderr) == (check.returncode, True)
    assert (1, 3) == (first, second)
    assert 0o600 == (tmp_path / "secret").stat().st_mode & 0o777
