"""Making a connection that a worker may use: its options, its limits, and what is asked of it."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg._conninfo_attempts_async import conninfo_attempts_async  # as connect() itself does
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from parley_server.core.ports import NO_TRACER, Tracer
from parley_server.storage.driver.choosing import choose
from parley_server.storage.driver.connection import Connection, Server, Statement
from parley_server.storage.schema.reaching import check_setting, options_of

STATEMENT_TIMEOUT_S = 5.0
LOCK_TIMEOUT_MAX_S = 2.0
IDLE_IN_TRANSACTION_MAX_S = 5.0
ANSWER_MARGIN_S = 2.0
"""How much longer than statement_timeout an answer may take before its connection counts as lost.

A path that acknowledges everything and passes nothing on is noticed by nothing else.
"""

ENCODING, COMMIT = "server_encoding", "synchronous_commit"
_LOOK_AROUND = Statement(
    "SELECT current_setting('transaction_read_only') = 'off', pg_postmaster_start_time()::text,"
    f" current_setting('{ENCODING}'), current_setting('{COMMIT}')"
)
"""What is asked of each new connection, in one round trip. A standby's transactions only read."""

TCP: dict[str, Any] = {
    # A peer that vanished is noticed within about 15 s.
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


async def addresses_of(url: str) -> list[str]:
    """Return what to connect to, for each of a URL's hosts and each address that a host has.

    Raises: psycopg.OperationalError: no host has an address.
    """
    attempts = await conninfo_attempts_async(conninfo_to_dict(url))
    return [make_conninfo("", **each) for each in attempts]


@dataclass(frozen=True, slots=True)
class Connecting:
    """How a worker connects."""

    url: str
    lease_s: float
    is_prepared: bool
    has_row_security: bool = False
    answer_limit_s: float = STATEMENT_TIMEOUT_S + ANSWER_MARGIN_S
    tracer: Tracer = NO_TRACER

    @property
    def options(self) -> str:
        """What a session is told at its start, behind the options that the URL has."""
        lock_timeout_s = min(LOCK_TIMEOUT_MAX_S, self.lease_s / 3)
        idle_s = min(IDLE_IN_TRANSACTION_MAX_S, self.lease_s / 2)
        return options_of(
            self.url,
            lock_timeout=f"{int(lock_timeout_s * 1000)}ms",
            statement_timeout=f"{int(STATEMENT_TIMEOUT_S * 1000)}ms",
            # A claim of two statements is one transaction: a worker that is frozen between them
            # must not hold the conversation longer than a lease would.
            idle_in_transaction_session_timeout=f"{int(idle_s * 1000)}ms",
            timezone="UTC",
            # Switched on behind a worker's back, policies would hide all there is: fail instead.
            row_security="on" if self.has_row_security else "off",
        )

    async def connect(self, name: str) -> Connection:
        """Make a connection and ask it what it is good for.

        Args:
            name: of the set of connections that it is for.
        Raises: psycopg.Error; UnsafeDatabase: it would not keep Parley's promises.
        """
        tries = [partial(self._connect_to, each, name) for each in await addresses_of(self.url)]
        is_any_right = "target_session_attrs" in conninfo_to_dict(self.url)
        return await choose(tries, lambda each: each.is_writable or is_any_right)

    async def _connect_to(self, address: str, name: str) -> Connection:
        connection = await Connection.connect(
            address,
            autocommit=True,
            prepare_threshold=None,
            application_name=f"parley-{name}",
            client_encoding="UTF8",
            connect_timeout=5,
            options=self.options,
            **TCP,
        )
        try:
            await self._look_around(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _look_around(self, connection: Connection) -> None:
        connection.has_row_security = self.has_row_security
        connection.answer_limit_s = self.answer_limit_s
        connection.is_preparing = False  # it is asked once: preparing would be a second round trip
        ((is_writable, started, encoding, commit),) = await connection.run(_LOOK_AROUND, {})
        connection.is_preparing = self.is_prepared
        connection.tracer = self.tracer
        connection.server = Server(started, is_writable)
        check_setting(ENCODING, encoding)
        check_setting(COMMIT, commit)
