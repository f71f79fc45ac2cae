"""A fixed number of connections to Postgres: the one used last first, for owners in turn.

A connection is writable or only good for reading. One that only reads is lent to readers while
there is no other. Connections have a generation: when one turns out to be lost, all of its
generation leave, the idle ones at once and the others when they come back (decision 0017).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from math import ceil

import structlog

from parley_server.core.turnstile import InTurn
from parley_server.storage.driver.connection import Connection, Server
from parley_server.storage.schema.reaching import UnsafeDatabase

log = structlog.get_logger("parley.storage")

CONNECT_S = 5.0
"""How long one try to connect may take, with what is asked of a new connection."""
NEXT_TRY_S = 2.0
"""When another one is begun beside a try that is still under way: it may hang in a dead path."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Between tries, growing."""
LEAVING = -1
"""The generation of a connection that is closed when it comes back."""


class NoConnection(Exception):
    """No connection came free, nor could one be made, in the time there was."""


_Place = asyncio.Future[Connection]


class Pool:
    """Connections, made in the background, lent one at a time."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        name: str,
        size: int,
        owner_share: float = 1,
    ) -> None:
        """Make an empty pool.

        Args:
            connect: makes a connection that is fit for use. Raises psycopg.Error, UnsafeDatabase.
            name: for log lines.
            owner_share: how much of it one owner may have at once.
        """
        self._connect = connect
        self._name = name
        self._size = size
        self._owner_limit = ceil(size * owner_share)
        self._idle: list[Connection] = []
        """The one used last at the end: its backend has everything at hand (decision 0010)."""
        self._lent: dict[Connection, Hashable] = {}
        self._writers: InTurn[_Place] = InTurn()
        self._readers: InTurn[_Place] = InTurn()
        """Those who wait: for a connection that can write, or for any."""
        self._was_reader = False
        self._tries: set[asyncio.Task[bool]] = set()
        self._filling: asyncio.Task[None] | None = None
        self._is_open = False
        self._is_failing = False
        self.generation = 0
        """Rises whenever connections leave before their time."""

    def open(self) -> None:
        """Begin to connect; waits for nothing."""
        self._is_open = True
        self._fill()

    async def close(self) -> None:
        """Close what is idle, and the rest when it comes back. What waits gets NoConnection."""
        self._is_open = False
        tasks = [*self._tries, *([self._filling] if self._filling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for waiting in (self._writers, self._readers):
            while found := waiting.next():
                _refuse(found[1])
        await self._close_idle(lambda _: True)

    def in_use(self) -> int:
        """How many connections are lent, or are being made."""
        return self._size - len(self._idle)

    def waiting(self) -> int:
        """How many callers wait for one."""
        return len(self._writers) + len(self._readers)

    async def take(self, until: float, *, must_write: bool, owner: Hashable = None) -> Connection:
        """Borrow a connection, which is to be given back.

        Args:
            until: how long to wait for one, on the loop's clock.
            must_write: whether one that only reads is of no use.
            owner: for whom it is; None: for no owner in particular.
        Raises: NoConnection.
        Guarantees: one of each owner in turn, first come first served within an owner; those who
            must write and those who need not, in turn.
        """
        if self._has_room(owner):
            connection = self._taken(owner, must_write)
            if connection is not None:  # so no waiting caller could have used it
                return connection
        loop = asyncio.get_running_loop()
        place: _Place = loop.create_future()
        waiting = self._writers if must_write else self._readers
        waiting.add(owner, place)
        timer = loop.call_at(until, _refuse, place)
        try:
            return await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.exception() is None:
                await self.give(place.result())  # came at the same moment
            raise
        finally:
            timer.cancel()
            waiting.remove(owner, place)

    async def give(self, connection: Connection) -> None:
        """Give a connection back. It is closed and replaced unless it is as good as new."""
        self._lent.pop(connection, None)
        is_current = self._is_open and connection.generation == self.generation
        if is_current and connection.is_usable:
            self._idle.append(connection)
        else:
            await connection.close()
            self._fill()
        self._serve()

    async def retire(self, generation: int) -> None:
        """Have all connections of this generation leave. Later calls for the same do nothing."""
        if generation == self.generation:
            log.warning("connections replaced", pool=self._name)
            self.generation += 1
            await self._close_idle(lambda _: True)
            self._fill()

    def leads_elsewhere(self, server: Server) -> bool:
        """Whether any connection leads to another server than this one."""
        return any(each.server != server for each in (*self._idle, *self._lent))

    def has_writable(self) -> bool:
        """Whether any connection can write."""
        return any(each.is_writable for each in (*self._idle, *self._lent))

    async def keep_only(self, server: Server) -> None:
        """Have all connections leave that do not lead to this server."""
        log.warning("connections replaced", pool=self._name)
        before, self.generation = self.generation, self.generation + 1
        for each in (*self._idle, *self._lent):
            is_kept = each.generation == before and each.server == server
            each.generation = self.generation if is_kept else LEAVING
        await self._close_idle(lambda each: each.generation == LEAVING)
        self._fill()
        self._serve()

    async def _close_idle(self, is_meant: Callable[[Connection], bool]) -> None:
        meant = [connection for connection in self._idle if is_meant(connection)]
        self._idle = [connection for connection in self._idle if connection not in meant]
        for connection in meant:
            await connection.close()

    # Lending

    def _has_room(self, owner: Hashable) -> bool:
        if owner is None or len(self._lent) < self._owner_limit:
            return True
        return list(self._lent.values()).count(owner) < self._owner_limit

    def _taken(self, owner: Hashable, must_write: bool) -> Connection | None:
        """Take the idle connection that was used last among those that will do."""
        for at in range(len(self._idle) - 1, -1, -1):
            if self._idle[at].is_writable or not (must_write or self.has_writable()):
                connection = self._idle.pop(at)
                self._lent[connection] = owner
                return connection
        return None

    def _serve(self) -> None:
        """Hand idle connections to those who wait and have not their share."""
        while (self._writers or self._readers) and (found := self._next()):
            owner, place, must_write = found
            connection = None if place.done() else self._taken(owner, must_write)
            if connection is not None:
                place.set_result(connection)

    def _next(self) -> tuple[Hashable, _Place, bool] | None:
        """Take who is next among those whom an idle connection suits.

        Returns: for whom, its place, and whether it must write.
        """
        if any(each.is_writable for each in self._idle):
            suited = [self._readers, self._writers]
            if self._was_reader:
                suited.reverse()
        elif self._idle and not self.has_writable():
            suited = [self._readers]
        else:
            return None
        for waiting in suited:
            if found := waiting.next(self._has_room):
                self._was_reader = waiting is self._readers
                return *found, waiting is self._writers
        return None

    # Connecting

    @property
    def _missing(self) -> int:
        return self._size - len(self._idle) - len(self._lent) if self._is_open else 0

    def _fill(self) -> None:
        if self._missing > 0 and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._keep_filling())

    async def _keep_filling(self) -> None:
        """Connect until nothing is missing: all at once, and one by one once that has failed."""
        pause_s = FIRST_PAUSE_S
        are_answered = True
        while self._missing > 0:
            tries = [self._begin_try() for _ in range(self._missing if are_answered else 1)]
            await asyncio.wait(tries, timeout=NEXT_TRY_S)
            are_answered = all(each.done() and each.result() for each in tries)
            if are_answered:
                pause_s = FIRST_PAUSE_S
            else:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _begin_try(self) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._try())
        self._tries.add(task)
        task.add_done_callback(self._tries.discard)
        return task

    async def _try(self) -> bool:
        """Make one connection. Returns: whether it could be made."""
        generation = self.generation
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await self._connect()
        except Exception as error:  # whatever it is, the next try may go better
            if not self._is_failing:
                why = str(error) if isinstance(error, UnsafeDatabase) else type(error).__name__
                log.warning("cannot connect to the database", pool=self._name, why=why)
            self._is_failing = True
            return False
        self._is_failing = False
        if generation != self.generation or self._missing <= 0:
            await connection.close()
            return generation == self.generation
        connection.generation = generation
        self._idle.insert(0, connection)
        self._serve()
        return True


def _refuse(place: _Place) -> None:
    if not place.done():
        place.set_exception(NoConnection())
