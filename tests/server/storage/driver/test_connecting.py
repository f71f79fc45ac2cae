"""What a new connection is told, whatever the URL and the environment say."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from parley_server.storage.driver.connecting import Connecting
from parley_server.storage.driver.connection import Statement
from parley_server.storage.signals import PostgresSignals
from parley_server.storage.store import PostgresStore
from support.paths import Path

Ask = Callable[..., Awaitable[str]]


@pytest.fixture
def ask(database_url: str) -> Ask:
    """Ask a new connection for a setting of its session."""

    async def asked(setting: str, url: str = database_url) -> str:
        connection = await Connecting(url, lease_s=3, is_prepared=True).connect("test")
        rows = await connection.run(Statement(f"SELECT current_setting('{setting}')"), {})
        await connection.close()
        return rows[0][0]

    return asked


async def test_options_of_the_url_stay_beside_parleys_own(database_url: str, ask: Ask) -> None:
    """Fails when one takes the other's place: libpq knows only one `options`."""
    mark = "&" if "?" in database_url else "?"
    url = f"{database_url}{mark}options=-c%20geqo%3Doff%20-c%20statement_timeout%3D0"

    assert "off" == await ask("geqo", url)
    assert "5s" == await ask("statement_timeout", url)
    assert "1s" == await ask("lock_timeout", url)


async def test_options_of_the_environment_stay_as_well(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c geqo=off")

    assert "off" == await ask("geqo")


async def test_texts_go_over_the_wire_as_utf_8_whatever_the_environment_says(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")

    assert "UTF8" == await ask("client_encoding")


@pytest.mark.parametrize("lease_s", [1, 3, 30, 3600])
async def test_no_transaction_may_idle_as_long_as_a_lease(database_url: str, lease_s: int) -> None:
    connecting = replace(Connecting(database_url, 0, is_prepared=True), lease_s=lease_s)
    connection = await connecting.connect("test")
    setting = "SELECT current_setting('idle_in_transaction_session_timeout')::interval"
    ((limit,),) = await connection.run(Statement(f"{setting} < '{lease_s} s'"), {})
    await connection.close()

    assert limit


async def test_a_host_that_answers_nothing_keeps_no_connection_from_the_next_one(
    database_url: str,
) -> None:
    """Fails when hosts are tried in turn: the first takes all the time that a try may take."""
    parts = conninfo_to_dict(database_url)
    async with Path(lambda: asyncio.open_connection("127.0.0.1", 1)).running() as silent:
        silent.go_silent()
        url = make_conninfo(
            database_url,
            host=f"127.0.0.1,{parts.get('host') or ''}",
            port=f"{silent.port},{parts.get('port') or 5432}",
        )
        store = PostgresStore(url, pool_size=2, lease_s=3, is_prepared=True)
        signals = PostgresSignals(url, store.ending)
        await store.open()
        signals.open(lambda _: None, lambda: None)
        async with asyncio.timeout(10):
            assert (await store.look()).is_writable
            assert [(1,)] == await store.claiming.run(Statement("SELECT 1"), {})
            while not signals.are_live:
                await asyncio.sleep(0.02)
        await signals.close()
        await store.close()
