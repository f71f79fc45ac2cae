"""The server's commands: what is refused is refused at once and in a sentence; ends are ends."""

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path

import grpc
import psycopg
import pytest
from structlog.testing import capture_logs

from parley_server.config import BadSettings, Settings
from parley_server.process.agents import defaults_of
from parley_server.storage.driver import connecting
from parley_server.storage.schema.row_security import OWNED_TABLES
from support.fake_openai import Call, FakeOpenAI, Say
from support.processes import ServerProcess, run, start
from support.proxy import PostgresProxy
from support.services import AUDIENCE, ISSUER, SECRET, StartService

KEYS = {
    "PARLEY_AUTH_HS256_SECRET": SECRET,
    "PARLEY_AUTH_ISSUER": ISSUER,
    "PARLEY_AUTH_AUDIENCE": AUDIENCE,
}
SERVING = {**KEYS, "PARLEY_AGENT": "echo", "PARLEY_LISTEN": "127.0.0.1:0"}


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one sentence that a command is refused with."""
    assert 1 == done.returncode, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert 1 == len(lines), done.stderr
    return lines[0].removeprefix("parley-server: ")


def with_name(url: str, name: str) -> str:
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}?{query}"


def with_role(url: str, role: str) -> str:
    return f"postgresql://{role}@{url.partition('@')[2]}"


@pytest.fixture
def stranger(database_url: str, postgres_url: str) -> Iterator[str]:
    """The URL of this test's database for a role that may log in and nothing else."""
    admin = with_role(postgres_url, "postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN")
        yield with_role(database_url, "stranger")
        connection.execute("DROP ROLE stranger")


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(database_url).running() as proxy:
        yield proxy


def test_a_missing_package_is_one_sentence() -> None:
    code = "import sys; sys.modules['pydantic_settings'] = None; import parley_server.__main__ as m"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.argv[1:] = ['serve']; m.main()"],
        capture_output=True,
        text=True,
    )

    expected = (
        "the package pydantic_settings is missing: "
        "install Parley with its extras [server,embedded,local]"
    )
    assert expected == refusal(done)


@pytest.mark.slow
def test_each_command_checks_what_it_needs(database_url: str) -> None:
    url = {"PARLEY_DATABASE_URL": database_url}

    assert 0 == run("migrate", **url).returncode
    assert "127.0.0.1:1 does not answer" in refusal(run("check", PARLEY_LISTEN="127.0.0.1:1"))
    assert 0 == run("token", "--user", "ada", **url, **KEYS).returncode
    lines = run("serve", **url, PARLEY_INSTRUCTIONS="x", PARLEY_INSTRUCTIONS_FILE="y").stderr
    for name in ("PARLEY_INSTRUCTIONS_FILE", "PARLEY_AUTH_KEYS_FILE", "PARLEY_AGENT"):
        assert name in lines
    token = run("token", "--user", "ada", **url, PARLEY_AUTH_HS256_SECRET=SECRET)
    assert "PARLEY_AUTH_ISSUER" in refusal(token)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_database_that_refuses_is_not_waited_for(
    postgres_url: str, stranger: str, command: str
) -> None:
    """The driver's text, which has names in it, is not shown."""
    for url, expected in (
        (with_name(postgres_url, "nowhere"), "there is no such database"),
        (with_role(postgres_url, "nobody"), "the database refuses the login"),
        (stranger, "may not use Parley's tables"),
        ("postgresql://ada@localhost/x?no_such_option=1", "is not a valid URL"),
        ("postgresql://ada@localhost:54x2/x", "the port must be a number from 1 to 65535"),
        ("postgresql://ada@a,b/x?port=5432,70000", "the port must be a number from 1 to 65535"),
        ("postgresql://ada@localhost/x?sslmode=on", "sslmode must be one of disable, allow"),
        (
            "postgresql://ada@localhost/x?sslmode=verify-full&sslrootcert=/no/such",
            "the file in sslrootcert does not exist",
        ),
    ):
        started = time.monotonic()
        done = run(command, **SERVING, PARLEY_DATABASE_URL=url)
        assert expected in refusal(done)
        assert "waiting for the database" not in done.stderr
        assert time.monotonic() - started < 20
        assert "nowhere" not in done.stderr


def test_migrate_says_why_the_database_cannot_be_reached() -> None:
    done = run("migrate", PARLEY_DATABASE_URL="postgresql://ada@127.0.0.1:1/x")

    assert "the database cannot be reached (OperationalError)" in refusal(done)
    assert "Connection refused" not in done.stderr


@pytest.mark.parametrize("command", [["migrate"], ["distribute"], ["check", "--data"]])
def test_the_setting_is_named_whose_database_cannot_be_used(command: list[str]) -> None:
    """Fails when the other URL, of which nothing is wrong, is told to be corrected."""
    wrong = "postgresql://ada@127.0.0.1:0/x"
    done = run(*command, PARLEY_MIGRATE_DATABASE_URL=wrong, PARLEY_DATABASE_URL="postgresql://a/b")

    assert "PARLEY_MIGRATE_DATABASE_URL: the port must be a number from 1 to 65535" == refusal(done)


@pytest.mark.parametrize("command", ["token --user ada", "serve"])
def test_a_data_folder_that_cannot_be_made_is_one_sentence(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(*command.split(), PARLEY_DATA_DIR=str(tmp_path / "file"), PARLEY_AGENT="echo")

    assert str(tmp_path / "file") in refusal(done)


def test_instructions_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "told.md"
    file.write_bytes("für alle".encode("latin-1"))
    with pytest.raises(BadSettings) as refused:
        defaults_of(Settings(instructions_file=file))

    expected = f"PARLEY_INSTRUCTIONS_FILE: {file} is no text in UTF-8: save it as UTF-8"
    assert expected == str(refused.value)


def test_migrate_by_a_role_that_may_not_is_one_sentence(postgres_url: str, stranger: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE guarded")
        done = run("migrate", PARLEY_DATABASE_URL=with_name(stranger, "guarded"))
        connection.execute("DROP DATABASE guarded")

    assert "nothing was migrated (InsufficientPrivilege 42501)" in refusal(done)


@pytest.mark.slow
def test_migrate_switches_row_security_as_it_is_set_and_says_so(database_url: str) -> None:
    url = {"PARLEY_DATABASE_URL": database_url}

    def told(*options: str, is_set: str) -> str:
        done = run("migrate", *options, **url, PARLEY_ROW_SECURITY=is_set)
        assert 0 == done.returncode, done.stderr
        return done.stderr.splitlines()[-1]

    drop = "--drop-row-security"
    assert "Row security is off." == told(is_set="")
    assert "Row security was switched on." == told(is_set="1")
    assert "Row security is on." == told(is_set="1")
    assert "Row security was switched off." == told(drop, is_set="0")
    assert "Row security is off." == told(drop, is_set="")


@pytest.mark.slow
@pytest.mark.parametrize("is_set", ["", "0"])
def test_migrate_without_the_setting_leaves_row_security_on_and_refuses(
    database_url: str, is_set: str
) -> None:
    """Fails when policies go because a variable was forgotten, or when it migrates all the same."""
    url = {"PARLEY_DATABASE_URL": database_url}
    run("migrate", **url, PARLEY_ROW_SECURITY="1")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE parley_schema SET version = 0")

        said = refusal(run("migrate", **url, PARLEY_ROW_SECURITY=is_set))

        assert "set it to 1" in said
        assert "`parley-server migrate --drop-row-security`" in said
        counted = "SELECT count(*) FROM pg_policy"
        assert connection.execute(counted).fetchone() == (len(OWNED_TABLES),)
        unchanged = connection.execute("SELECT version FROM parley_schema").fetchone()
        assert (0,) == unchanged


def test_dropping_row_security_and_asking_for_it_exclude_each_other(database_url: str) -> None:
    done = run(
        "migrate",
        "--drop-row-security",
        PARLEY_DATABASE_URL=database_url,
        PARLEY_ROW_SECURITY="1",
    )

    assert "--drop-row-security and PARLEY_ROW_SECURITY cannot be used together" == refusal(done)


def test_row_security_is_refused_with_the_embedded_database(tmp_path: Path) -> None:
    done = run("serve", PARLEY_DATA_DIR=str(tmp_path), PARLEY_ROW_SECURITY="1")

    assert "set PARLEY_DATABASE_URL and PARLEY_MIGRATE_DATABASE_URL" in refusal(done)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_the_wait_for_the_database(number: signal.Signals, workers: str) -> None:
    url = "postgresql://ada@127.0.0.1:1/x"
    process = start("serve", **SERVING, PARLEY_DATABASE_URL=url, PARLEY_WORKERS=workers)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert '"why": "OperationalError"' in line, line
        process.send_signal(number)
        assert 0 == process.wait(5)
        rest = process.stderr.read()
    finally:
        process.kill()
    assert "Traceback" not in rest


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_named(database_url: str, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = {**SERVING, "PARLEY_LISTEN": address, "PARLEY_WORKERS": workers}
        done = run("serve", **environment, PARLEY_DATABASE_URL=database_url)

    expected = f"PARLEY_LISTEN: {address} is in use by another program: choose another"
    assert expected == refusal(done)


def first_words(database_url: str, **environment: str) -> str:
    """Return what a server says when it serves, and end it."""
    process = start("serve", **{**SERVING, "PARLEY_DATABASE_URL": database_url, **environment})
    said = ""
    assert process.stderr is not None
    try:
        while "serves on" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.terminate()
        said += process.stderr.read()
        assert 0 == process.wait(20), said
    finally:
        process.kill()
    return said


def test_a_server_on_a_unix_socket_says_its_path(database_url: str, tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/parley.sock"
    assert f"Parley serves on {listen} with" in first_words(database_url, PARLEY_LISTEN=listen)


def test_a_unix_socket_that_a_server_has_is_not_taken_from_it(
    database_url: str, tmp_path: Path
) -> None:
    """Fails when it is left to gRPC, which removes the other one's socket."""
    listen = f"unix:{tmp_path}/parley.sock"
    environment = {**SERVING, "PARLEY_LISTEN": listen, "PARLEY_DATABASE_URL": database_url}
    process = start("serve", **environment)
    assert process.stderr is not None
    try:
        while "serves on" not in process.stderr.readline():
            assert process.poll() is None
        expected = f"PARLEY_LISTEN: {listen} is in use by another program: choose another"
        assert expected == refusal(run("serve", **environment))
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "parley.sock").exists()
    assert listen in first_words(database_url, PARLEY_LISTEN=listen)


def test_the_welcome_suits_the_keys(database_url: str, tmp_path: Path) -> None:
    with_secret = first_words(database_url)
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-pubout"], input=key.stdout, capture_output=True)
    (tmp_path / "key.pem").write_bytes(public.stdout)
    with_keys = first_words(
        database_url,
        PARLEY_AUTH_HS256_SECRET="",
        PARLEY_AUTH_KEYS_FILE=str(tmp_path / "key.pem"),
    )

    assert "make chat" not in with_secret + with_keys
    assert "parley-server token --user me" in with_secret
    assert f"a token of the issuer {ISSUER}" in with_keys


def test_a_misspelt_setting_is_warned_of(database_url: str) -> None:
    said = first_words(database_url, PARLEY_LEASE_SECONDS="9", PARLEY_TOKEN="mine")

    assert 1 == said.count("unknown setting")
    assert '"name": "PARLEY_LEASE_SECONDS", "did_you_mean": "PARLEY_LEASE_S"' in said


async def test_limits_that_do_not_arrive_are_warned_of(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler may drop what a connection asks for at its start; statements then wait for ever."""
    with capture_logs() as lines:
        await start_service()
    assert "ALTER ROLE" not in str(lines)
    monkeypatch.setattr(connecting, "LOCK_TIMEOUT_MAX_S", 0)
    with capture_logs() as lines:
        await start_service()
    assert "ALTER ROLE ... SET lock_timeout" in str(lines)
    assert "statement_timeout" not in str(lines)


@pytest.mark.slow
async def test_a_tool_that_blocks_does_not_hold_up_the_end(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python waits for every thread of a tool at its end: fails if the process is left to that."""
    (tmp_path / "blocking.py").write_text(
        textwrap.dedent(
            """
            import time
            from pydantic_ai import Agent
            agent = Agent("openai-chat:any", defer_model_check=True)

            @agent.tool_plain
            def block() -> str:
                time.sleep(60)
                return "late"
            """
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with FakeOpenAI([Say("", [Call("block")])]) as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.base_url)
        with ServerProcess(database_url, agent="python:blocking:agent", drain_s=0) as server:
            call = asyncio.ensure_future(server.chat("block"))
            while not fake.requests:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            server.signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError):
                await call
            assert 0 == await asyncio.to_thread(server.process.wait, 15)


@pytest.mark.slow
async def test_a_stop_while_the_database_is_away_is_quiet(proxy: PostgresProxy) -> None:
    """Fails when tasks that are still connecting are cancelled and their errors told."""
    process = start("serve", **SERVING, PARLEY_DATABASE_URL=proxy.url, PARLEY_LOG_FORMAT="json")
    assert process.stderr is not None

    async def read_to(words: str) -> None:
        while words not in (line := await asyncio.to_thread(process.stderr.readline)):
            assert line, "it has ended"

    try:
        await read_to("serves on")
        proxy.go_down()
        await read_to("readiness changed")
        process.terminate()
        rest = await asyncio.to_thread(process.stderr.read)
        assert 0 == await asyncio.to_thread(process.wait, 5)
    finally:
        process.kill()
    assert "Traceback" not in rest
    assert "exception" not in rest


def test_version_is_that_of_the_package() -> None:
    done = run("--version")
    assert (0, f"parley-server {version('parley')}\n") == (done.returncode, done.stdout)


@pytest.mark.parametrize("timeout", ["inf", "-1", "0"])
def test_check_says_of_no_server_that_it_was_too_slow_at_once(timeout: str) -> None:
    done = run("check", "--address", "127.0.0.1:1", "--timeout-s", timeout)
    assert 2 == done.returncode
    assert "does not answer" not in done.stderr
