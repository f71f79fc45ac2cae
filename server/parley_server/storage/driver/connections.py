"""A worker's connections to Postgres, and how a statement is run on one."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from uuid import UUID

import structlog

from parley_server.core.errors import StoreOutcomeUnknown, StoreUnavailable
from parley_server.core.patience import patience_ends_at
from parley_server.core.ports import NO_TRACER, Tracer
from parley_server.storage.driver.connecting import Connecting
from parley_server.storage.driver.connection import Connection, Parameters, Row, Statement
from parley_server.storage.driver.errors import Meaning, meaning_of
from parley_server.storage.driver.pool import Pool

log = structlog.get_logger("parley.storage")

STORE_WAIT_S = 10.0
AGAIN_S = 0.1
"""The pause before a statement that was not carried out is sent again."""

Work = Callable[[Connection], Awaitable[list[Row]]]


class Connections:
    """A pool in which every connection is in autocommit and knows its time limits.

    Statements are prepared at their first use on a connection; `is_prepared=False` is for a
    connection pooler that does not keep them. With row security they say whose they are.

    While the database is away a statement waits for it, as long as the call may for which it is run
    and not longer than `wait_s`. What was not carried out for certain is sent again meanwhile.
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
        wait_s: float = STORE_WAIT_S,
        owner_share: float = 1,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self.connecting = Connecting(url, lease_s, is_prepared, has_row_security, tracer=tracer)
        self.pool = Pool(
            partial(self.connecting.connect, name), name=name, size=size, owner_share=owner_share
        )
        self._wait_s = wait_s
        self.is_refusing = False
        """Whether statements are refused: the database is not what this worker's settings say."""

    async def open(self) -> None:
        """Start to connect; does not wait for it."""
        self.pool.open()

    async def close(self) -> None:
        await self.pool.close()

    def in_use(self) -> int:
        """How many connections are running a statement, or are being made."""
        return self.pool.in_use()

    def waiting(self) -> int:
        """How many statements wait for a connection."""
        return self.pool.waiting()

    async def run(self, statement: Statement, parameters: Parameters) -> list[Row]:
        """Run one statement in its own transaction and return its rows.

        Raises: StoreUnavailable: it was not carried out; StoreOutcomeUnknown: it may have been.
        Guarantees: one round trip; the connection is back in its pool when this returns.
        """
        return await self.with_connection(
            lambda connection: connection.run(statement, parameters), parameters.get("owner")
        )

    async def repeat(self, statement: Statement, parameters: Parameters) -> list[Row]:
        """Run a statement that may be carried out twice: sent again where its outcome is unknown.

        Raises: StoreUnavailable.
        """
        return await self.with_connection(
            lambda connection: connection.run(statement, parameters),
            parameters.get("owner"),
            may_repeat=True,
        )

    async def read(self, statement: Statement, parameters: Parameters) -> list[Row]:
        """Run a statement that only reads, on a standby if there is nothing else.

        A standby may be behind: this is for callers who look, not for what is decided on.

        Raises: StoreUnavailable.
        """
        return await self.with_connection(
            lambda connection: connection.run(statement, parameters),
            parameters.get("owner"),
            may_repeat=True,
            must_write=False,
        )

    async def with_connection(
        self,
        work: Work,
        owner: UUID | None = None,
        *,
        may_repeat: bool = False,
        must_write: bool = True,
    ) -> list[Row]:
        """Run several statements on one connection. Raises as `run` does.

        Args:
            owner: for whom. Owners that wait for a connection get one in turn.
            may_repeat: whether the work may be done twice.
            must_write: whether the connection must be one that can write.
        """
        if self.is_refusing:
            raise StoreUnavailable
        until = patience_ends_at(monotonic(), self._wait_s)
        while True:
            connection = None
            try:
                connection = await self.pool.take(until, must_write=must_write, owner=owner)
                return await work(connection)
            except Exception as error:
                meaning = _meaning_of(error)
                if connection is not None and meaning.is_lost:
                    await self.pool.retire(connection.generation)
                is_known = not isinstance(meaning.error, StoreOutcomeUnknown)
                is_tried_again = meaning.is_passing and (is_known or may_repeat)
                if not is_tried_again or monotonic() + AGAIN_S >= until:
                    raise meaning.error from None
            finally:
                if connection is not None:
                    await self.pool.give(connection)
            await asyncio.sleep(AGAIN_S)


def _meaning_of(error: Exception) -> Meaning:
    """Return what an error means, with nothing of the driver's text in it.

    Raises: StatementFailed.
    """
    meaning = meaning_of(error)
    state = getattr(error, "sqlstate", None)
    if meaning is None:
        log.error("statement failed", error=type(error).__name__, sqlstate=state)
        raise StatementFailed(type(error).__name__, state) from None
    log.warning("store unavailable", error=type(error).__name__, sqlstate=state)
    return meaning


class StatementFailed(Exception):
    """The database refused a statement: a defect of Parley's. Holds no text of the driver's."""

    def __init__(self, name: str, sqlstate: str | None) -> None:
        super().__init__(f"{name} {sqlstate}")
        self.sqlstate = sqlstate
