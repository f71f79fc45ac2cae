"""The queue of a conversation's callers that wait for their turn."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from parley_server.core.tasks import wait_any


class Queues:
    """A queue for each conversation: first come, first served; only the first one tries."""

    def __init__(self) -> None:
        self._places: dict[UUID, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """How many calls are in a queue, those that are first in one included."""
        return sum(map(len, self._places.values()))

    def is_empty(self, topic: UUID) -> bool:
        return topic not in self._places

    @asynccontextmanager
    async def first(self, topic: UUID, gone: asyncio.Future[None]) -> AsyncIterator[bool]:
        """Queue up, and hold the first place inside the block.

        Yields: True: first; False: `gone` was done before.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._places.setdefault(topic, deque())
        queue.append(place)
        try:
            if queue[0] is not place:
                await wait_any(place, gone)
            yield queue[0] is place
        finally:
            was_first = queue[0] is place
            queue.remove(place)
            if not queue:
                del self._places[topic]
            elif was_first and not queue[0].done():
                queue[0].set_result(None)
