"""Work in the background: it rests, and is over when its worker goes."""

import asyncio
from datetime import timedelta

from parley_server.core.streams.trimming import Trimming

BATCH_S = 0.5


class SlowStore:
    """A store that takes its time."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def adopt(self) -> None:
        """Adopt nothing."""

    async def trim(self, keep: timedelta, *, limit: int) -> int:
        self.begun.set()
        await asyncio.sleep(BATCH_S)
        return limit


async def test_closing_waits_for_the_batch_and_for_no_rest() -> None:
    """Fails when the rest is slept through: six times a slow batch, before the worker drains."""
    store = SlowStore()
    trimming = Trimming(store, timedelta(days=1))
    trimming.open()
    await store.begun.wait()

    await asyncio.wait_for(trimming.close(), 3 * BATCH_S)
