"""Looking at the database all the time: whether it takes writes, and whether it is still the same.

The looks have a connection of their own, so that they say nothing of a busy pool. It is replaced
often: only a new connection shows where the database's address leads now.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

import psycopg

from parley_server.core.errors import StoreUnavailable
from parley_server.storage.driver.connecting import Connecting
from parley_server.storage.driver.connection import Connection, Row, Server, Statement
from parley_server.storage.driver.pool import Pool
from parley_server.storage.schema import row_security
from parley_server.storage.schema.reaching import UnsafeDatabase

ANSWER_S = 1.0
"""How long a look may take."""
CONNECT_S = 1.5
"""How long it may take to connect for one."""
KEEP_S = 2.0
"""How long one connection is looked through: what is written meanwhile to a server that the address
has left may be lost."""
KEEP_READING_S = 1.0
"""The same for one that cannot write: the next may."""

_LOOK = Statement(f"""
    SELECT coalesce((SELECT version FROM parley_schema), 0),
        coalesce((SELECT oldest_worker FROM parley_schema), 0),
        current_setting('transaction_read_only') = 'off', policies.*
    FROM ({row_security.LOOK.text}) AS policies
""")  # noqa: S608 - made of constants


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look has shown."""

    version: int
    """The schema's version; 0: there is none."""
    oldest_worker: int
    """The oldest worker that the schema is for."""
    is_writable: bool
    policies: Row
    """What row_security.LOOK returned."""


class Lookout:
    """Looks at the database, and has the pools' connections leave that do not lead there."""

    def __init__(self, connecting: Connecting, pools: Iterable[Pool]) -> None:
        self._connecting = replace(connecting, answer_limit_s=ANSWER_S, is_prepared=False)
        self._pools = list(pools)
        self._connection: Connection | None = None
        self._made_at = 0.0
        self._moved_to: Server | None = None
        """Another server than the pools', as the look before has seen it."""

    async def look(self) -> Sight:
        """Look once. One look at a time.

        Raises: StoreUnavailable: the database cannot be reached, or must not be used.
        Guarantees: ends within about 3 s.
        """
        try:
            connection = await self._current()
            ((version, oldest_worker, is_writable, *policies),) = await connection.run(_LOOK, {})
        except (psycopg.Error, UnsafeDatabase, TimeoutError):
            await self._give_up()
            raise StoreUnavailable from None
        return Sight(version, oldest_worker, is_writable, tuple(policies))

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _current(self) -> Connection:
        """Return the connection to look through: a new one if it is time and one can be made."""
        now = asyncio.get_running_loop().time()
        before = self._connection
        if before is not None and self._moved_to is None:
            keep_s = KEEP_S if before.is_writable else KEEP_READING_S
            if now - self._made_at < keep_s:
                return before
        self._made_at = now
        try:
            async with asyncio.timeout(CONNECT_S):
                new = await self._connecting.connect("look")
        except (psycopg.Error, UnsafeDatabase, TimeoutError):
            if before is None:
                raise
            return before  # the database may be full: that says nothing of who is in
        await self.close()
        self._connection = new
        await self._compare(new)
        return new

    async def _compare(self, new: Connection) -> None:
        """Have connections leave that do not lead where a new one does.

        Behind an address that leads to several servers in turn each look would see a move: only
        where two in a row lead, the pools follow. Where it is a matter of writing at all, one will
        do.
        """
        elsewhere = [pool for pool in self._pools if pool.leads_elsewhere(new.server)]
        is_confirmed = self._moved_to == new.server
        self._moved_to = new.server if elsewhere and not is_confirmed else None
        for pool in elsewhere:
            if is_confirmed or (new.is_writable and not pool.has_writable()):
                await pool.keep_only(new.server)

    async def _give_up(self) -> None:
        """Drop the connection. If it was lost, those of the pools are taken to be as well."""
        connection = self._connection
        if connection is not None and not connection.is_usable:
            for pool in self._pools:
                await pool.retire(pool.generation)
        await self.close()
