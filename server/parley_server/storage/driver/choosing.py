"""Choosing one of several addresses of the database: one that takes writes, if any does.

They are not tried one after another: the first may be a machine without power, which answers
nothing for as long as a try to connect may take, and the others would never get their turn.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from parley_server.storage.schema.reaching import UnsafeDatabase

NEXT_ADDRESS_S = 0.25
"""When the next address is tried beside those that have not answered yet."""
WRITER_S = 0.75
"""How long one that only reads waits for another one to turn out to take writes."""

C = TypeVar("C", bound=psycopg.AsyncConnection[Any])


async def choose(
    tries: Sequence[Callable[[], Awaitable[C]]], takes_writes: Callable[[C], bool]
) -> C:
    """Make one connection.

    Args:
        tries: one for each address, in the order in which they are preferred; not empty.
        takes_writes: whether a connection does, so that no other needs to be waited for.
    Raises: psycopg.Error, UnsafeDatabase, TimeoutError: none could be made; the last one's reason.
    Guarantees: none but the returned connection stays open.
    """
    if len(tries) == 1:
        return await tries[0]()
    begun: list[asyncio.Future[C]] = []
    chosen: C | None = None
    loop = asyncio.get_running_loop()
    readers_turn = loop.time() + WRITER_S
    try:
        while chosen is None:
            if len(begun) < len(tries):
                begun.append(asyncio.ensure_future(tries[len(begun)]()))
            is_last = len(begun) == len(tries)
            pending = [each for each in begun if not each.done()]
            made = _made(begun)
            wait_s = NEXT_ADDRESS_S if not is_last else readers_turn - loop.time() if made else None
            if pending:
                await asyncio.wait(pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            made = _made(begun)
            writable = [each for each in made if takes_writes(each)]
            if writable:
                chosen = writable[0]
            elif is_last and all(each.done() for each in begun):
                chosen = made[0] if made else begun[-1].result()
            elif is_last and made and loop.time() >= readers_turn:
                chosen = made[0]
        return chosen
    finally:
        await _let_go(begun, chosen)


def _made(begun: Sequence[asyncio.Future[C]]) -> list[C]:
    """Return the connections that were made.

    Raises: what is neither an outage nor a database that must not be used: a defect.
    """
    made = []
    for each in begun:
        if each.done():
            with suppress(psycopg.Error, UnsafeDatabase, TimeoutError):
                made.append(each.result())
    return made


async def _let_go(begun: Sequence[asyncio.Future[C]], chosen: C | None) -> None:
    for each in begun:
        each.cancel()
    for found in await asyncio.gather(*begun, return_exceptions=True):
        if isinstance(found, psycopg.AsyncConnection) and found is not chosen:
            await found.close()
