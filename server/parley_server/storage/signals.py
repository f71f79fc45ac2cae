"""How workers tell each other that something has changed: Postgres' LISTEN and NOTIFY.

One connection a worker listens. What is to be told is gathered for 20 ms and sent in one statement:
a NOTIFY in each turn's own statement would have all commits of the database wait for each other.
Workers greet each other, so that one that is alone sends nothing but a greeting now and then.
A worker that may have sent too little, because it did not know a peer or could not send, says so.
One that falls silent without a farewell may have died before it told what it had stored.
"""

import asyncio
import math
import secrets
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from functools import partial
from time import monotonic
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import structlog

from parley_server.core.endless import endless
from parley_server.core.errors import StoreUnavailable
from parley_server.core.patience import waiting_until
from parley_server.storage.driver.choosing import choose
from parley_server.storage.driver.connecting import TCP, addresses_of
from parley_server.storage.driver.connection import Statement
from parley_server.storage.driver.connections import Connections, StatementFailed
from parley_server.storage.driver.pool import CONNECT_S

log = structlog.get_logger("parley.signals")

CHANNEL = "parley"
GATHER_S = 0.02
RECONNECT_S = 1.0
LOOK_S = 1.0
"""How often it is looked whether the connection still leads to the right server."""
ASK_S = 5.0
"""How often the listening connection has to show that it still answers."""
GREETING_S = 10.0
"""How often a worker says that it listens."""
GREETED_BACK_S = 1.0
"""How soon a new worker has heard from all the others."""
PEER_S = 30.0
"""How long a worker that said so is taken to listen."""
TOPICS_A_SIGNAL = 300
"""How many ids fit into the 8,000 bytes of one notification."""
GAP = UUID(int=0)
"""In the place of a topic: look for yourselves, something may not have been told."""
FAREWELL = UUID(int=1)
"""The same: the sender has told all it had to tell, and ends."""
_ID_BYTES = 16
_SENDER_CHARACTERS = 8
_NOTIFY = Statement(f"SELECT pg_notify('{CHANNEL}', $1)", ("payload",), name="notify")

OnSignal = Callable[[UUID], None]


class NoSignals:
    """For connection poolers that pass no notifications on: each worker looks for itself."""

    are_live = False

    def open(self, on_signal: OnSignal, on_gap: Callable[[], None]) -> None:
        """Listen to nothing."""

    async def close(self) -> None:
        """Nothing was opened."""

    def send(self, topic: UUID) -> None:
        """Do nothing."""


class PostgresSignals:
    """Signals by notifications; while the listening connection is away, none arrive."""

    def __init__(self, url: str, connections: Connections) -> None:
        """Make the signals.

        Args:
            connections: which the notifications are sent on.
        """
        self._url = url
        self._connections = connections
        self._sender = secrets.token_urlsafe(_SENDER_CHARACTERS)[:_SENDER_CHARACTERS]
        self._pending: dict[UUID, None] = {}
        self._peers: dict[str, float] = {}
        """The workers that listen, and when each was last heard."""
        self._listening: asyncio.Task[None] | None = None
        self._greeting: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._is_gathering = False
        self._is_gap_due = False
        self._is_closed = False
        self._alone_from = math.inf
        """When it would have heard from every worker there is, on the loop's clock."""
        self.are_live = False

    @property
    def peers(self) -> int:
        """How many other workers were heard of lately."""
        return len(self._peers)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way: no signal to the others, no look at what was missed."""
        return not (self._pending or self._sending or self._is_gap_due)

    def open(self, on_signal: OnSignal, on_gap: Callable[[], None]) -> None:
        """Begin to listen.

        Args:
            on_signal: called for each topic that another worker has sent.
            on_gap: called when signals may have been missed, and not more than once a second.
        """
        listen = partial(self._listen, on_signal, on_gap)
        self._listening = asyncio.create_task(endless("listening", listen))
        self._greet(on_gap)

    async def close(self) -> None:
        """Tell what is still to be told, and listen no more."""
        self._is_closed = True
        if self._greeting is not None:
            self._greeting.cancel()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        if self._peers:
            self._pending[FAREWELL] = None
        self._send_soon()
        await asyncio.gather(*self._sending)

    def send(self, topic: UUID) -> None:
        """Tell the other workers within about 20 ms, each topic once; no-op if there are none."""
        if not self._peers and monotonic() > self._alone_from:
            return
        self._pending[topic] = None
        if not self._is_gathering:
            self._is_gathering = True
            asyncio.get_running_loop().call_later(GATHER_S, self._send_soon)

    def _send_soon(self) -> None:
        self._is_gathering = False
        topics, self._pending = list(self._pending), {}
        for first in range(0, len(topics), TOPICS_A_SIGNAL):
            self._send_now(topics[first : first + TOPICS_A_SIGNAL])

    def _send_now(self, topics: list[UUID]) -> None:
        sending = asyncio.create_task(self._notify(topics))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def _notify(self, topics: list[UUID]) -> None:
        payload = self._sender + b64encode(b"".join(topic.bytes for topic in topics)).decode()
        try:
            with waiting_until(asyncio.get_running_loop().time() + RECONNECT_S):
                await self._connections.run(_NOTIFY, {"payload": payload})
        except (StoreUnavailable, StatementFailed):  # as where the queue of notifications is full
            if topics and not self._is_closed:
                asyncio.get_running_loop().call_later(RECONNECT_S, self.send, GAP)

    def _greet(self, on_gap: Callable[[], None]) -> None:
        """Say that this worker listens, and forget those who have not said so for a while."""
        loop = asyncio.get_running_loop()
        # First: this must not be the last.
        self._greeting = loop.call_later(GREETING_S, self._greet, on_gap)
        for peer, heard_at in list(self._peers.items()):
            if heard_at < loop.time() - PEER_S:
                del self._peers[peer]
                self._look_soon(on_gap)
        if self.are_live:
            self._send_now([])

    async def _listen(self, on_signal: OnSignal, on_gap: Callable[[], None]) -> None:
        greeted_within_s = GREETED_BACK_S
        while True:
            try:
                generation = self._connections.pool.generation
                async with asyncio.timeout(CONNECT_S):
                    tries = [partial(_listening, to) for to in await addresses_of(self._url)]
                    connection = await choose(tries, lambda _: True)  # no standby lets it listen
                async with connection:
                    self.are_live = True
                    self._alone_from = asyncio.get_running_loop().time() + greeted_within_s
                    greeted_within_s = GREETING_S * 1.5  # who knows it does not greet it back
                    self._send_now([])
                    on_gap()
                    async for notification in self._heard_on(connection, generation):
                        self._heard(notification.payload, on_signal, on_gap)
            except (psycopg.Error, TimeoutError) as error:
                if self.are_live:
                    log.warning("signals lost", error=type(error).__name__)
            finally:
                self.are_live = False
                self._alone_from = math.inf
            on_gap()
            await asyncio.sleep(RECONNECT_S)

    async def _heard_on(
        self, connection: psycopg.AsyncConnection[Any], generation: int
    ) -> AsyncIterator[psycopg.Notify]:
        """Yield what is heard, until the pool's connections are replaced: it may be elsewhere then.

        Raises: TimeoutError: the connection does not answer any more, in a path that stays open.
        """
        loop = asyncio.get_running_loop()
        answered_at = loop.time()
        while generation == self._connections.pool.generation:
            async for notification in connection.notifies(timeout=LOOK_S):
                yield notification
            if loop.time() > answered_at + ASK_S:
                await _answered(connection, "SELECT")
                answered_at = loop.time()

    def _heard(self, payload: str, on_signal: OnSignal, on_gap: Callable[[], None]) -> None:
        sender, data = payload[:_SENDER_CHARACTERS], payload[_SENDER_CHARACTERS:]
        if sender == self._sender:
            return
        try:
            ids = b64decode(data, validate=True)
        except ValueError:
            return  # not one of ours: anybody may notify
        if sender not in self._peers:
            self._send_now([GAP])  # greets it back, and it was told nothing so far
        self._peers[sender] = asyncio.get_running_loop().time()
        for at in range(0, len(ids) - _ID_BYTES + 1, _ID_BYTES):
            topic = UUID(bytes=ids[at : at + _ID_BYTES])
            if topic == GAP:
                self._look_soon(on_gap)
            elif topic == FAREWELL:
                self._peers.pop(sender, None)
            else:
                on_signal(topic)

    def _look_soon(self, on_gap: Callable[[], None]) -> None:
        """Have all waiters look within a second; many workers that join at once cause one look."""

        def look() -> None:
            self._is_gap_due = False
            on_gap()

        if not self._is_gap_due:
            self._is_gap_due = True
            asyncio.get_running_loop().call_later(secrets.randbelow(1000) / 1000, look)


async def _listening(address: str) -> psycopg.AsyncConnection[Any]:
    """Connect and listen. Raises: psycopg.Error, a standby's too; TimeoutError."""
    connection = await psycopg.AsyncConnection.connect(
        address, autocommit=True, application_name="parley-signals", connect_timeout=5, **TCP
    )
    try:
        await _answered(connection, f"LISTEN {CHANNEL}")
    except BaseException:
        await connection.close()
        raise
    return connection


async def _answered(connection: psycopg.AsyncConnection[Any], statement: LiteralString) -> None:
    """Run a statement. Raises: psycopg.Error; TimeoutError: it gets no answer."""
    asking = asyncio.create_task(connection.execute(statement))
    try:
        await asyncio.wait([asking], timeout=CONNECT_S)
        if not asking.done():
            raise TimeoutError
        await asking
    finally:
        if not asking.done():
            connection.pgconn.finish()  # else psycopg would wait for its cancelling to be confirmed
            asking.cancel()
