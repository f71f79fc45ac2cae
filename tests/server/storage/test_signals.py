"""Signals between workers: nothing changed goes untold, and nobody is told without need."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import psycopg
import pytest

from parley_server.storage.driver.connections import Connections
from parley_server.storage.signals import PostgresSignals
from support.databases import as_superuser
from support.proxy import BEFORE, PostgresProxy

TOPIC = UUID(int=7)


async def until(claim: Callable[[], object]) -> None:
    while not claim():
        await asyncio.sleep(0.01)


def no_memory(*_: object, **__: object) -> bytes:
    raise MemoryError


class Peer:
    """A worker as far as signals go."""

    def __init__(self, url: str) -> None:
        self.heard: list[UUID] = []
        self.gaps = 0
        self._is_closed = False
        self.connections = Connections(url, name="test", size=2, lease_s=3, is_prepared=False)
        self.signals = PostgresSignals(url, self.connections)

    async def open(self) -> None:
        await self.connections.open()
        self.signals.open(self.heard.append, self._note_gap)
        await until(lambda: self.signals.are_live)

    def _note_gap(self) -> None:
        self.gaps += 1

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self.signals.close()
            await self.connections.close()


Join = Callable[[str], Awaitable[Peer]]


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    peers: list[Peer] = []

    async def joined(url: str) -> Peer:
        peer = Peer(url)
        peers.append(peer)
        await peer.open()
        return peer

    yield joined
    for peer in peers:
        await peer.close()


async def test_worker_that_comes_back_tells_those_whom_it_has_forgotten(
    join: Join, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others know it, and do not greet it back.

    Fails when a worker that has just begun to listen again takes itself to be alone.
    """
    monkeypatch.setattr("parley_server.storage.signals.RECONNECT_S", 0.05)
    monkeypatch.setattr("parley_server.storage.signals.GREETED_BACK_S", -1)
    one, two = await join(database_url), await join(database_url)
    await until(lambda: one.signals.peers and two.signals.peers)
    admin = database_url.replace("//parley@", "//postgres@")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'parley-signals' AND datname = current_database()"
            " ORDER BY backend_start DESC LIMIT 1"
        )
    await until(lambda: not two.signals.are_live)
    two.signals._peers.clear()  # noqa: SLF001 - as after half a minute without a greeting
    await until(lambda: two.signals.are_live)
    two.signals.send(TOPIC)

    await until(lambda: TOPIC in one.heard)


async def test_worker_that_joins_looks_for_what_it_was_not_told(
    join: Join, database_url: str
) -> None:
    """Fails when a worker greets a newcomer back without saying that there may be a gap."""
    one = await join(database_url)
    two = await join(database_url)
    at_start = two.gaps

    await until(lambda: two.gaps > at_start)
    assert not two.heard
    assert one.gaps > 0


async def test_signal_that_could_not_be_sent_becomes_a_look(
    join: Join, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a signal that the database refused is forgotten."""
    monkeypatch.setattr("parley_server.storage.signals.RECONNECT_S", 0.05)
    async with PostgresProxy(database_url).running() as proxy:
        sender, hearer = await join(proxy.url), await join(database_url)
        # Both have greeted each other, and nothing is on its way any more.
        await until(lambda: sender.signals.peers and hearer.signals.peers)
        await until(lambda: hearer.signals.is_quiet)
        before = hearer.gaps
        proxy.break_at("pg_notify", BEFORE)
        sender.signals.send(TOPIC)

        await until(lambda: hearer.gaps > before)
        assert 1 == proxy.broken
        assert TOPIC not in hearer.heard
        await sender.close()


async def test_signal_that_the_database_refuses_becomes_a_look(
    join: Join, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its queue of notifications is full. Fails when only outages are foreseen: watches of
    the others then see nothing more until they end."""
    monkeypatch.setattr("parley_server.storage.signals.RECONNECT_S", 0.05)
    sender, hearer = await acquainted(join, database_url)
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC")
        sender.signals.send(TOPIC)
        await until(lambda: sender.signals.is_quiet)
        connection.execute("GRANT EXECUTE ON FUNCTION pg_notify TO PUBLIC")

    async with asyncio.timeout(5):
        await until(lambda: hearer.gaps == 3)
    assert [] == hearer.heard


async def test_worker_that_falls_silent_has_the_others_look(
    join: Join, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have died before it told what it stored. Fails when it is only forgotten."""
    one, _ = await acquainted(join, database_url)
    monkeypatch.setattr("parley_server.storage.signals.PEER_S", -1)  # time is over at once
    one.signals._greet(one._note_gap)  # noqa: SLF001 - sooner than it would
    assert not one.signals.peers

    await until(lambda: one.gaps == 3)


async def acquainted(join: Join, database_url: str) -> tuple[Peer, Peer]:
    """Return two workers that have greeted each other, and looked for what they were not told."""
    one, two = await join(database_url), await join(database_url)
    await until(lambda: one.signals.peers and two.signals.peers and one.gaps == two.gaps == 2)
    return one, two


async def test_worker_that_ends_in_order_leaves_nothing_to_look_for(
    join: Join, database_url: str
) -> None:
    """Fails without its farewell: the others remember it for half a minute, and then look."""
    one, two = await acquainted(join, database_url)
    two.signals.send(TOPIC)
    await two.close()

    async with asyncio.timeout(5):
        await until(lambda: not one.signals.peers)
    assert [TOPIC] == one.heard
    assert one.signals.is_quiet
    assert 2 == one.gaps


async def test_worker_listens_again_after_an_error_that_nobody_foresaw(
    join: Join, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when such an error ends the listening: nothing is heard from then on, nor logged."""
    monkeypatch.setattr("parley_server.core.endless.PAUSE_S", 0.01)
    sender, hearer = await join(database_url), await join(database_url)
    await until(lambda: sender.signals.peers and hearer.signals.peers)
    monkeypatch.setattr("parley_server.storage.signals.b64decode", no_memory)
    sender.signals.send(TOPIC)
    await until(lambda: not hearer.signals.are_live)
    monkeypatch.undo()
    await until(lambda: hearer.signals.are_live)
    sender.signals.send(TOPIC)

    await until(lambda: TOPIC in hearer.heard)


async def test_lone_worker_sends_nothing(
    join: Join, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a worker that has heard of no other sends all the same."""
    monkeypatch.setattr("parley_server.storage.signals.GREETED_BACK_S", -1)
    one = await join(database_url)
    await until(lambda: one.signals.is_quiet)  # its greeting is sent
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("LISTEN parley")
        one.signals.send(TOPIC)

        assert one.signals.is_quiet
        assert not list(connection.notifies(timeout=0.1))
