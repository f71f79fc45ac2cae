"""Sending a statement again while the database does not answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from parley_server.core.errors import StoreUnavailable

RETRY_PAUSE_S = 0.2

T = TypeVar("T")


async def insist(statement: Callable[[], Awaitable[T]], deadline: float) -> T:
    """Run a statement that may be carried out twice, until the database says what became of it.

    Args:
        deadline: when to give up, on the loop's clock; it is tried once in any case.
    Raises: StoreUnavailable: the database did not answer until then.
    """
    while True:
        try:
            return await statement()
        except StoreUnavailable:
            loop = asyncio.get_running_loop()
            if loop.time() + RETRY_PAUSE_S >= deadline:
                raise StoreUnavailable from None
            await asyncio.sleep(RETRY_PAUSE_S)
