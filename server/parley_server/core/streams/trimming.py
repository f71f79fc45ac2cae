"""Upkeep of the feed: whose it is, and removing what is no longer kept, in small batches."""

from contextlib import suppress
from datetime import timedelta
from time import monotonic

from parley_server.core.errors import StoreUnavailable
from parley_server.core.patience import waiting_until
from parley_server.core.ports import FeedUpkeep
from parley_server.core.upkeep import Upkeep

LOOK_S = 60.0
"""How often a worker looks for something that is too old."""
AGAIN_S = 1.0
"""How soon it looks again whose the feed is, while the database takes no writes."""
BATCH = 1000
"""How many entries one statement removes at most."""


class Trimming(Upkeep):
    """Removes entries that are older than they are kept, from `open` to `close`."""

    def __init__(self, store: FeedUpkeep, keep: timedelta) -> None:
        """Remove nothing yet.

        Args:
            keep: how long; nothing: no feed is kept.
        """
        super().__init__()
        self._store = store
        self._keep = keep
        # Without a feed there are no cursors, and a cluster refuses the statement (decision 0039).
        self.look_s = AGAIN_S if keep else LOOK_S

    async def adopt(self) -> None:
        """Have cursors expire if the feed was written on another server than this one.

        While the database takes no writes nothing ends either: then it is done in the background.
        It is asked again at each look: the database's address may lead to another server by then.
        """
        if not self._keep:
            return
        with suppress(StoreUnavailable), waiting_until(monotonic()):
            await self._store.adopt()
            self.look_s = LOOK_S

    async def work(self) -> bool:
        """Remove all that is too old, once it is known whose the feed is."""
        await self.adopt()
        await self.trim()
        return False

    async def trim(self) -> None:
        """Remove all that is too old, batch after batch."""
        count = BATCH
        while count == BATCH and not self.is_closing:
            count = await self.rested(self._store.trim(self._keep, limit=BATCH))
