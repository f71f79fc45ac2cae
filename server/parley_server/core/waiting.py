"""How calls on one worker wait for a conversation: bells, and a queue for each."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

Bell = asyncio.Future[None]
"""Done once it has rung."""


class Bells:
    """Tells the calls of this worker that an open turn of their conversation has ended."""

    def __init__(self) -> None:
        self._listening: dict[UUID, set[Bell]] = {}

    @contextmanager
    def listen(self, conversation_id: UUID) -> Iterator[Bell]:
        """Register for the next end. Do so before looking, so that no end is missed."""
        bell: Bell = asyncio.get_running_loop().create_future()
        listening = self._listening.setdefault(conversation_id, set())
        listening.add(bell)
        try:
            yield bell
        finally:
            listening.discard(bell)
            if not listening and self._listening.get(conversation_id) is listening:
                del self._listening[conversation_id]

    def ring(self, conversation_id: UUID) -> None:
        for bell in self._listening.pop(conversation_id, ()):
            if not bell.done():
                bell.set_result(None)


class Queues:
    """A queue for each conversation: first come, first served; only the first one tries."""

    def __init__(self) -> None:
        self._places: dict[UUID, deque[asyncio.Future[None]]] = {}

    def is_empty(self, conversation_id: UUID) -> bool:
        return conversation_id not in self._places

    @asynccontextmanager
    async def first(self, conversation_id: UUID, gone: asyncio.Future[None]) -> AsyncIterator[bool]:
        """Queue up, and hold the first place inside the block.

        Yields: True: first; False: `gone` was done before.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._places.setdefault(conversation_id, deque())
        queue.append(place)
        try:
            if queue[0] is not place:
                await either(place, gone)
            yield queue[0] is place
        finally:
            was_first = queue[0] is place
            queue.remove(place)
            if not queue:
                del self._places[conversation_id]
            elif was_first and not queue[0].done():
                queue[0].set_result(None)


async def either(*futures: asyncio.Future[None], timeout_s: float | None = None) -> None:
    """Wait until one of the futures is done, or the time is over."""
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
