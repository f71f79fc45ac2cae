"""The pool by itself: whose turn it is, what leaves, and that nothing is lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_server.storage.driver.connecting import Connecting
from parley_server.storage.driver.connection import Connection, Server, Statement
from parley_server.storage.driver.pool import NoConnection, Pool

SOON_S = 20.0


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    connecting = Connecting(database_url, lease_s=3, is_prepared=True)
    made = Pool(lambda: connecting.connect("test"), name="test", size=2)
    made.open()
    yield made
    await made.close()


async def take(pool: Pool, *, must_write: bool = True, within_s: float = SOON_S) -> Connection:
    until = asyncio.get_running_loop().time() + within_s
    return await pool.take(until, must_write=must_write)


async def until(claim: Callable[[], object]) -> None:
    while not claim():
        await asyncio.sleep(0.005)


async def test_pool_serves_in_the_order_of_coming(pool: Pool) -> None:
    held = [await take(pool), await take(pool)]
    served: list[int] = []

    async def borrow(n: int) -> None:
        connection = await take(pool)
        served.append(n)
        await pool.give(connection)

    borrowing = [asyncio.create_task(borrow(n)) for n in range(10)]
    await until(lambda: pool.waiting() == 10)
    for connection in held:
        await pool.give(connection)
    await asyncio.gather(*borrowing)

    assert list(range(10)) == served
    assert (0, 0) == (pool.in_use(), pool.waiting())


async def test_owners_get_connections_in_turn(pool: Pool) -> None:
    """Fails when a waiter behind a flood of another owner's waits for all of it."""
    held = [await take(pool), await take(pool)]
    served: list[str] = []

    async def borrow(owner: str, must_write: bool) -> None:
        until = asyncio.get_running_loop().time() + SOON_S
        connection = await pool.take(until, must_write=must_write, owner=owner)
        served.append(owner if must_write else owner.upper())
        await pool.give(connection)

    wanted = [("a", True)] * 5 + [("a", False)] * 5 + [("b", True), ("c", True), ("b", False)]
    borrowing = [asyncio.create_task(borrow(*each)) for each in wanted]
    await until(lambda: pool.waiting() == len(wanted))
    for connection in held:
        await pool.give(connection)
    await asyncio.gather(*borrowing)

    assert ["A", "B", "A", "A", "A"] == [each for each in served if each.isupper()][:5]
    assert ["a", "b", "c", "a", "a"] == [each for each in served if each.islower()][:5]
    assert {"b", "c", "B"} <= set(served[:6])


async def test_owner_with_its_share_waits_beside_an_idle_connection(database_url: str) -> None:
    """Fails when one owner, whose statements wait for a lock, may have every connection."""
    connecting = Connecting(database_url, lease_s=3, is_prepared=True)
    pool = Pool(lambda: connecting.connect("test"), name="test", size=2, owner_share=0.5)
    pool.open()
    until = asyncio.get_running_loop().time() + SOON_S
    one = await pool.take(until, must_write=True, owner="a")
    second = asyncio.create_task(pool.take(until, must_write=True, owner="a"))
    other = await pool.take(until, must_write=True, owner="b")
    assert not second.done()
    await pool.give(other)
    assert not second.done()
    await pool.give(one)
    assert one is await second
    await pool.give(one)

    assert (0, 0) == (pool.in_use(), pool.waiting())
    await pool.close()


async def test_pool_without_a_free_connection_says_so_in_time(pool: Pool) -> None:
    held = [await take(pool), await take(pool)]
    with pytest.raises(NoConnection):
        await take(pool, within_s=0.01)
    for connection in held:
        await pool.give(connection)

    assert 0 == pool.waiting()
    await pool.give(await take(pool))


async def test_cancelled_borrowers_cost_no_connections(pool: Pool) -> None:
    """Fails when a connection that comes at the moment of a cancellation is not given back."""
    for _ in range(50):
        held = [await take(pool), await take(pool)]
        borrowing = [asyncio.create_task(take(pool)) for _ in range(3)]
        await until(lambda: pool.waiting() == 3)
        await pool.give(held.pop())
        for task in borrowing:
            task.cancel()
        await asyncio.gather(*borrowing, return_exceptions=True)
        await pool.give(held.pop())

    assert (0, 0) == (pool.in_use(), pool.waiting())


async def test_siblings_of_a_lost_connection_leave(pool: Pool) -> None:
    """Fails when only the lost one is replaced: each of the others costs a call its own failure."""
    one, other = await take(pool), await take(pool)
    await pool.give(one)
    await pool.retire(other.generation)
    assert one.closed
    assert not other.closed  # it is in use, and goes when it comes back
    await pool.retire(other.generation)
    generation = pool.generation
    await pool.give(other)
    assert other.closed

    fresh = [await take(pool), await take(pool)]
    assert not {one, other} & set(fresh)
    assert {generation} == {connection.generation for connection in fresh}
    for connection in fresh:
        await pool.give(connection)


async def test_connection_that_leads_elsewhere_leaves_and_the_others_stay(pool: Pool) -> None:
    one, other = await take(pool), await take(pool)
    home = one.server
    one.server = Server("another", takes_writes=True)
    await pool.give(other)
    assert pool.leads_elsewhere(home)
    await pool.keep_only(home)
    await pool.give(one)

    assert one.closed
    assert not other.closed
    await until(lambda: pool.in_use() == 0)
    assert not pool.leads_elsewhere(home)


async def test_connection_in_a_transaction_is_not_lent_again(pool: Pool) -> None:
    connection = await take(pool)
    await connection.run(Statement("BEGIN"), {})
    await pool.give(connection)

    assert connection.closed


class Fake:
    """As much of a connection as a pool sees. What is told of it is the test's to choose."""

    generation = 0

    def __init__(self, is_writable: bool) -> None:
        self.server = Server("", is_writable)
        self.closed = False

    @property
    def is_writable(self) -> bool:
        return self.server.takes_writes

    @property
    def is_usable(self) -> bool:
        return not self.closed

    async def close(self) -> None:
        self.closed = True


@given(writable=st.lists(st.booleans(), min_size=1, max_size=4), wanted=st.lists(st.booleans()))
@settings(max_examples=60, deadline=None)
def test_writers_get_what_writes_and_readers_the_rest_only_if_there_is_nothing_else(
    writable: list[bool], wanted: list[bool]
) -> None:
    async def play() -> None:
        coming = iter([Fake(each) for each in writable])

        async def connect() -> Connection:
            return next(coming)  # type: ignore[return-value]

        pool = Pool(connect, name="test", size=len(writable))
        pool.open()
        await until(lambda: pool.in_use() == 0)

        async def borrow(must_write: bool) -> None:
            connection = await take(pool, must_write=must_write)
            assert connection.is_writable or not (must_write or any(writable))
            await asyncio.sleep(0)
            await pool.give(connection)

        feasible = [must_write for must_write in wanted if any(writable) or not must_write]
        async with asyncio.timeout(SOON_S):
            await asyncio.gather(*(borrow(must_write) for must_write in feasible))
        assert (0, 0) == (pool.in_use(), pool.waiting())
        await pool.close()

    asyncio.run(play())


async def test_reader_passes_a_writer_that_waits_for_what_writes() -> None:
    """Fails when readers queue behind writers while there is nothing that writes."""

    async def connect() -> Connection:
        return Fake(is_writable=False)  # type: ignore[return-value]

    pool = Pool(connect, name="test", size=1)
    pool.open()
    writer = asyncio.create_task(take(pool))
    await until(lambda: pool.waiting() == 1)
    await pool.give(await take(pool, must_write=False))

    assert not writer.done()
    await pool.close()
    with pytest.raises(NoConnection):
        await writer


async def test_connecting_goes_on_until_it_succeeds() -> None:
    """Fails when a pool gives up: it is then without connections for good."""
    tries = 0

    async def connect() -> Connection:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError
        return Fake(is_writable=True)  # type: ignore[return-value]

    pool = Pool(connect, name="test", size=2)
    pool.open()
    await pool.give(await take(pool))
    await until(lambda: pool.in_use() == 0)

    assert 5 == tries
    await pool.close()
