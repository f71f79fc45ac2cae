"""Removing what the feed no longer keeps: in small batches, with rests, by any worker."""

import asyncio
import logging
import random
from datetime import timedelta

from parley_server.core.errors import StoreUnavailable
from parley_server.core.failures import raised_at
from parley_server.core.ports import FeedUpkeep

log = logging.getLogger("parley.upkeep")

LOOK_S = 60.0
"""How often a worker looks for something that is too old."""
BATCH = 1000
"""How many entries one statement removes at most."""
REST = 3
"""How long it rests after each statement, in times of what that took: turns go first."""


class Trimming:
    """Removes entries that are older than they are kept, from `open` to `close`."""

    def __init__(self, store: FeedUpkeep, keep: timedelta) -> None:
        """Remove nothing yet.

        Args:
            keep: how long; nothing: no feed is kept.
        """
        self._store = store
        self._keep = keep
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, once the statement under way has ended."""
        if not self._closing.done():
            self._closing.set_result(None)
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        while not self._closing.done():
            try:
                await self.trim()
            except StoreUnavailable:
                pass  # the next look tries again
            except Exception as error:
                log.exception("trimming failed", extra={"place": raised_at(error)})
            spread = random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
            await asyncio.wait([self._closing], timeout=LOOK_S * spread)

    async def trim(self) -> None:
        """Remove all that is too old, batch after batch."""
        loop = asyncio.get_running_loop()
        count = BATCH
        while count == BATCH and not self._closing.done():
            began = loop.time()
            count = await self._store.trim(self._keep, limit=BATCH)
            await asyncio.sleep(REST * (loop.time() - began))
