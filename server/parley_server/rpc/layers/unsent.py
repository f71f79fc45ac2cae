"""Messages of watches that are on their way to callers, and a bound on all of them together.

gRPC holds a message back while its caller's window is closed, without an end, and nothing takes it
back: it stays in memory until the call is over, for the caller or with its connection. So it is
counted until then.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

import grpc

from parley_server.core.turnstile import subtract

UNSENT_BYTES = 64 * 1024 * 1024
"""Of all watches of a worker together, as their messages are sent."""
OWNER_BYTES = 16 * 1024 * 1024
"""Of all watches of one owner together; as much again may wait until it may be sent."""

Context = grpc.aio.ServicerContext[Any, Any]


class Unsent:
    """What watches have written and their callers have not taken."""

    limit = UNSENT_BYTES

    def __init__(self) -> None:
        self.in_use = 0
        self._by_owner: Counter[UUID] = Counter()
        self._waiting: dict[UUID, deque[tuple[asyncio.Future[None], int]]] = {}
        """By owner, those who wait for room, first come first."""
        self._waiting_bytes: Counter[UUID] = Counter()

    async def send(self, context: Context, owner_id: UUID, message: Any, take_s: float) -> bool:
        """Send a message of a watch, once there is room for it.

        Returns: False: the caller did not take it within `take_s` seconds, or there was no room for
            it; at once if too much of this owner waits for room already.
        Guarantees: an owner whose callers take nothing makes no other owner wait, unless several
            such owners take up all there is.
        """
        size = message.ByteSize()
        if self._waiting_bytes[owner_id] + size > OWNER_BYTES:
            return False
        is_held = False
        try:
            async with asyncio.timeout(take_s):
                await self._room(owner_id, size)
                is_held = True
                await context.write(message)
        except TimeoutError:
            if is_held:
                is_held = False
                context.add_done_callback(self._leave_later(owner_id, size))  # type: ignore[arg-type] # by position
            return False
        finally:
            if is_held:
                self._leave(owner_id, size)
        return True

    async def _room(self, owner_id: UUID, size: int) -> None:
        """Wait for room, and take it."""
        if owner_id not in self._waiting and self._has_room(owner_id, size):
            self._take(owner_id, size)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (granted, size)
        self._waiting.setdefault(owner_id, deque()).append(place)
        self._waiting_bytes[owner_id] += size
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._leave(owner_id, size)
            else:
                self._forget(owner_id, place)
                self._grant(owner_id)  # a shorter one behind it may fit
            raise

    def _has_room(self, owner_id: UUID, size: int) -> bool:
        fits_in_all = self.in_use + size <= UNSENT_BYTES
        return fits_in_all and self._by_owner[owner_id] + size <= OWNER_BYTES

    def _take(self, owner_id: UUID, size: int) -> None:
        self.in_use += size
        self._by_owner[owner_id] += size

    def _leave(self, owner_id: UUID, size: int) -> None:
        was_full = self.in_use + OWNER_BYTES > UNSENT_BYTES
        self.in_use -= size
        subtract(self._by_owner, owner_id, size)
        if self._waiting:
            for each in list(self._waiting) if was_full else (owner_id,):
                self._grant(each)

    def _leave_later(self, owner_id: UUID, size: int) -> Callable[[object], None]:
        return lambda _: self._leave(owner_id, size)

    def _grant(self, owner_id: UUID) -> None:
        """Let those go on for whom there is room."""
        while waiting := self._waiting.get(owner_id):
            granted, size = waiting[0]
            if not self._has_room(owner_id, size):
                return
            self._forget(owner_id, waiting[0])
            if not granted.done():
                self._take(owner_id, size)
                granted.set_result(None)

    def _forget(self, owner_id: UUID, place: tuple[asyncio.Future[None], int]) -> None:
        waiting = self._waiting.get(owner_id)
        if waiting is None or place not in waiting:
            return
        waiting.remove(place)
        subtract(self._waiting_bytes, owner_id, place[1])
        if not waiting:
            del self._waiting[owner_id]
