"""Upkeep of the feed: whose it is, and removing what is no longer kept, in small batches."""

import asyncio
import logging
import random
from contextlib import suppress
from datetime import timedelta
from time import monotonic

from parley_server.core.errors import StoreUnavailable
from parley_server.core.failures import raised_at
from parley_server.core.patience import waiting_until
from parley_server.core.ports import FeedUpkeep

log = logging.getLogger("parley.upkeep")

LOOK_S = 60.0
"""How often a worker looks for something that is too old."""
BATCH = 1000
"""How many entries one statement removes at most."""
AGAIN_S = 1.0
"""How soon it looks again whose the feed is, while the database takes no writes."""
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
        self._is_adopted = False
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running: asyncio.Task[None] | None = None

    async def adopt(self) -> None:
        """Have cursors expire if the feed was written on another server than this one.

        While the database takes no writes nothing ends either: then it is done in the background.
        """
        with suppress(StoreUnavailable), waiting_until(monotonic()):
            await self._store.adopt()
            self._is_adopted = True

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
                if not self._is_adopted:
                    await self.adopt()
                await self.trim()
            except StoreUnavailable:
                pass  # the next look tries again
            except Exception as error:
                log.exception("trimming failed", extra={"place": raised_at(error)})
            spread = random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
            look_s = LOOK_S if self._is_adopted else AGAIN_S
            await asyncio.wait([self._closing], timeout=look_s * spread)

    async def trim(self) -> None:
        """Remove all that is too old, batch after batch."""
        loop = asyncio.get_running_loop()
        count = BATCH
        while count == BATCH and not self._closing.done():
            began = loop.time()
            count = await self._store.trim(self._keep, limit=BATCH)
            await asyncio.sleep(REST * (loop.time() - began))
