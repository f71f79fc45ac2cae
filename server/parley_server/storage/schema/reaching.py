"""Connecting to a database, and explaining a failure without the driver's words."""

import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import InsufficientPrivilege
from psycopg.pq import ConnStatus, PGconn, PollingStatus, abc

CONNECT_S = 5
OLDEST_RELEASE = 150_000

WORKERS_URL = "PARLEY_DATABASE_URL"
"""The setting with a worker's URL. What the owner of the tables does may have another one."""

_ADVICE = {
    "3D": "there is no such database: create it, or correct {setting}",
    "28": "the database refuses the login: correct the role and password in {setting}",
    "25": "the database accepts no writes (a standby, or default_transaction_read_only is on): "
    "name the primary in {setting}",
    "42": "the role in {setting} may not use Parley's tables: "
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO it",
}
"""Errors that retrying cannot fix, by SQLSTATE class."""

_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        *("any", "read-write", "read-only"),
        *("primary", "standby", "prefer-standby"),
    ),
    "gssencmode": ("disable", "prefer", "require"),
    "channel_binding": ("disable", "prefer", "require"),
    "load_balance_hosts": ("disable", "random"),
}
_NUMBERS = ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval")
"""Options of a URL, and what libpq takes for them."""

_STATE = re.compile(rb'\tErrorResponse\t.*? C "(\w{5})"')


class UnsafeDatabase(Exception):
    """The database cannot keep Parley's promises, or has a schema that is not for this release.

    Its text is one sentence that says what to do.
    """


SAFE = {
    "server_encoding": {"UTF8"},
    "fsync": {"on"},
    "full_page_writes": {"on"},
    "synchronous_commit": {"on", "remote_apply"},
    "track_activities": {"on"},
}
"""The values that a database's settings must have."""


NO_LIMITS = """
    SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN
        ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout',
            'transaction_timeout')
"""
"""Takes the limits off a transaction that a role has for the statements of workers, as far as this
Postgres knows them."""


class DatabaseAway(Exception):
    """The database cannot be reached now."""

    def __init__(self, why: str, setting: str = WORKERS_URL) -> None:
        super().__init__(
            f"the database cannot be reached ({why}): check {setting} and the database"
        )
        self.why = why
        """The exception's type, and the SQLSTATE if there is one."""


def check_setting(name: str, value: str) -> None:
    """Raise UnsafeDatabase unless a setting of the database's, one of SAFE, is safe."""
    if value in SAFE[name]:
        return
    if name == "server_encoding":
        raise UnsafeDatabase(
            f"the database's encoding is {value}, which cannot store all text: create another "
            "database with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    if name == "track_activities":
        raise UnsafeDatabase(
            f"the database has {name} = {value}, so that an erasure cannot tell which transactions "
            "it has to wait for: set it to on"
        )
    raise UnsafeDatabase(
        f"the database has {name} = {value}, which can lose stored answers: set it to on"
    )


def options_of(url: str, **settings: str) -> str:
    """Return the options that a session starts with: the URL's own, and these, which win.

    libpq uses only one `options`: one that is passed in addition to a URL replaces the URL's, and
    the URL's replaces PGOPTIONS.
    """
    own = conninfo_to_dict(url).get("options") or os.environ.get("PGOPTIONS", "")
    return " ".join([str(own), *(f"-c {name}={value}" for name, value in settings.items())]).strip()


@contextmanager
def connected(url: str, setting: str = WORKERS_URL) -> Iterator[Connection[tuple[Any, ...]]]:
    """Connect, in autocommit.

    Args:
        setting: where the URL is from, for the error to name it.
    Raises: DatabaseAway; UnsafeDatabase: retrying cannot help, its encoding is wrong, or it is of
        an old release.
    """
    _check_url(url, setting)
    try:
        connection = psycopg.connect(url, connect_timeout=CONNECT_S, autocommit=True)
    except psycopg.OperationalError as error:
        raise _explained(error, refusal_of(url), setting) from None
    try:
        with connection:
            _check_release(connection.info.server_version)
            check_setting(
                "server_encoding", connection.info.parameter_status("server_encoding") or ""
            )
            yield connection
    except (InsufficientPrivilege, psycopg.OperationalError) as error:
        raise _explained(error, error.sqlstate, setting) from None


def _check_release(number: int) -> None:
    """Raise UnsafeDatabase unless a release of Postgres, by its number, is new enough."""
    if number < OLDEST_RELEASE:
        raise UnsafeDatabase(
            f"Parley needs PostgreSQL {OLDEST_RELEASE // 10_000} or newer, and the database is "
            f"PostgreSQL {number // 10_000}: upgrade it"
        )


def _check_url(url: str, setting: str) -> None:
    """Refuse mistakes in a URL that libpq would report as an outage.

    Raises: UnsafeDatabase.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise UnsafeDatabase(
            f"{setting} is not a valid URL: write postgresql://ROLE:PASSWORD@HOST:PORT/NAME"
        ) from None
    for port in str(parts.get("port") or "").split(","):
        if port and not (port.isdecimal() and 0 < int(port) < 65_536):
            raise UnsafeDatabase(f"{setting}: the port must be a number from 1 to 65535")
    if "@" in str(parts.get("host") or ""):
        raise UnsafeDatabase(f"{setting} is not a valid URL: write @ in a password as %40")
    for name, choices in _CHOICES.items():
        if (parts.get(name) or choices[0]) not in choices:
            raise UnsafeDatabase(f"{setting}: {name} must be one of {', '.join(choices)}")
    for name in _NUMBERS:
        if not str(parts.get(name) or 0).strip().removeprefix("-").isdecimal():
            raise UnsafeDatabase(f"{setting}: {name} must be a whole number")
    mode = parts.get("sslmode") or "prefer"
    roots = str(parts.get("sslrootcert") or "system")
    if roots != "system" and str(mode).startswith("verify") and not Path(roots).is_file():
        raise UnsafeDatabase(f"{setting}: the file in sslrootcert does not exist")


def _explained(
    error: psycopg.Error, state: str | None, setting: str
) -> DatabaseAway | UnsafeDatabase:
    advice = _ADVICE.get((state or "")[:2])
    if advice is not None:
        return UnsafeDatabase(advice.format(setting=setting))
    return DatabaseAway(f"{type(error).__name__} {state or ''}".rstrip(), setting)


def refusal_of(url: str) -> str | None:
    """Return the SQLSTATE with which the database refuses a login; None: it does not refuse it.

    For a failed connection psycopg reports only a text, in the server's language. libpq's trace of
    the protocol has the state.
    """
    if sys.platform != "linux":
        return None  # other systems lack libpq's trace or files in memory
    connection = PGconn.connect_start(url.encode())
    try:
        with open(os.memfd_create("trace"), "rb") as trace:
            connection.trace(trace.fileno())
            _connect(connection)
            connection.untrace()
            trace.seek(0)
            states = _STATE.findall(trace.read())
            return states[-1].decode() if states else None
    except psycopg.Error:
        return None
    finally:
        connection.finish()


def _connect(connection: abc.PGconn) -> None:
    """Connect, or fail to, within the usual time."""
    deadline = time.monotonic() + CONNECT_S
    while connection.status != ConnStatus.BAD and time.monotonic() < deadline:
        match connection.connect_poll():
            case PollingStatus.READING:
                event = select.POLLIN
            case PollingStatus.WRITING:
                event = select.POLLOUT
            case _:
                return
        poll = select.poll()
        poll.register(connection.socket, event)
        poll.poll(CONNECT_S * 1000)
