"""A worker's connections to Postgres, and how a statement is run on one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog
from psycopg_pool import AsyncConnectionPool

from parley_server.core.errors import StoreOutcomeUnknown, StoreUnavailable
from parley_server.storage.driver_errors import translated
from parley_server.storage.running import Connection, Parameters, Row, Statement

log = structlog.get_logger("parley.storage")

STATEMENT_TIMEOUT_S = 5.0
LOCK_TIMEOUT_MAX_S = 2.0
CONNECTION_WAIT_S = 10.0
"""How long a statement waits for a connection of the pool."""
AWAY_WAIT_S = 1.0
"""The same while the database does not answer: nobody is helped by waiting longer."""
RECONNECT_TIMEOUT_S = 1.0
"""How long the pool tries by itself, in growing pauses. Then the next statement asks again."""


class _Stack(deque[Connection]):
    """Idle connections, the one used last on top: its backend has everything at hand.

    psycopg_pool hands out the one that has been idle longest, so that statements go through all
    backends in turn, each of them cold: half as slow again with one turn at a time (decision 0010).
    """

    popleft = deque.pop


class Connections:
    """A pool in which every connection is in autocommit and knows its time limits.

    Statements are prepared at their first use on a connection; `is_prepared=False` is for a
    connection pooler that does not keep them. With row security they say whose they are.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        size: int,
        lease_s: float,
        is_prepared: bool,
        has_row_security: bool = False,
    ) -> None:
        lock_timeout_s = min(LOCK_TIMEOUT_MAX_S, lease_s / 3)
        options = {
            "lock_timeout": f"{int(lock_timeout_s * 1000)}ms",
            "statement_timeout": f"{int(STATEMENT_TIMEOUT_S * 1000)}ms",
            "timezone": "UTC",
            # Switched on behind a worker's back, policies would hide all there is: fail instead.
            "row_security": "on" if has_row_security else "off",
        }
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            connection_class=Connection,
            configure=self._configure,
            name=name,
            min_size=size,
            max_size=size,
            open=False,
            timeout=CONNECTION_WAIT_S,
            reconnect_timeout=RECONNECT_TIMEOUT_S,
            kwargs={
                "autocommit": True,
                "prepare_threshold": None,
                "application_name": f"parley-{name}",
                "connect_timeout": 5,
                "options": " ".join(f"-c {key}={value}" for key, value in options.items()),
                # A peer that vanished is noticed within about 15 s.
                "keepalives_idle": 5,
                "keepalives_interval": 3,
                "keepalives_count": 3,
                "tcp_user_timeout": 15_000,
            },
        )
        self._pool._pool = _Stack()  # its one choice that is not to be set; a test holds it
        self._is_prepared = is_prepared
        self._has_row_security = has_row_security
        self._check: asyncio.Task[None] | None = None
        self._is_away = False
        self._answered_at = 0.0
        self.is_refusing = False
        """Whether statements are refused: the database is not what this worker's settings say."""

    async def _configure(self, connection: Connection) -> None:
        connection.is_preparing = self._is_prepared
        connection.has_row_security = self._has_row_security

    async def open(self) -> None:
        """Start to connect; does not wait for it."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close(timeout=2)

    def in_use(self) -> int:
        """How many connections are running a statement, or are being made."""
        found = self._pool.get_stats()
        return found["pool_size"] - found["pool_available"]

    def waiting(self) -> int:
        """How many statements wait for a connection."""
        return self._pool.get_stats()["requests_waiting"]

    async def run(self, statement: Statement, parameters: Parameters) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Raises: StoreUnavailable: it was not carried out; StoreOutcomeUnknown: nobody knows.
        Guarantees: one round trip; the connection is back in its pool when this returns.
        """
        return await self.with_connection(lambda connection: connection.run(statement, parameters))

    async def with_connection(
        self, work: Callable[[Connection], Awaitable[list[Row]]]
    ) -> list[Row]:
        """Run several statements on one connection. Raises as `run` does."""
        if self.is_refusing:
            raise StoreUnavailable
        try:
            wait_s = AWAY_WAIT_S if self._is_away else CONNECTION_WAIT_S
            connection = await self._pool.getconn(wait_s)
        except Exception as error:
            raise self._explained(error, is_begun=False) from None
        try:
            rows = await work(connection)
            self._is_away = False
            self._answered_at = monotonic()
            return rows
        except Exception as error:
            raise self._explained(error, is_begun=True) from None
        finally:
            await self._pool.putconn(connection)

    def _explained(self, error: Exception, *, is_begun: bool) -> Exception:
        """Return the domain error to raise instead, with nothing of the driver's text in it."""
        meaning = translated(error)
        state = getattr(error, "sqlstate", None)
        if meaning is None:
            log.error("statement failed", error=type(error).__name__, sqlstate=state)
            return StatementFailed(f"{type(error).__name__} {state}")
        log.warning("store unavailable", error=type(error).__name__, sqlstate=state)
        if not is_begun and monotonic() - self._answered_at > CONNECTION_WAIT_S:
            self._is_away = True  # else the pool is merely busy
        if isinstance(meaning, StoreOutcomeUnknown):
            self._is_away = True
            # One broken connection is seldom alone: have the idle ones looked at.
            if self._check is None or self._check.done():
                self._check = asyncio.create_task(self._pool.check())
            if not is_begun:
                return StoreUnavailable()
        return meaning


class StatementFailed(Exception):
    """The database refused a statement: a defect of Parley's. Holds no text of the driver's."""
