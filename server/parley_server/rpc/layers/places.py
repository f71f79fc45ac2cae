"""What there is so much of: places by the call, places by the message's arrival, and bytes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import UUID

from parley_server.core.errors import Overloaded
from parley_server.core.turnstile import subtract

SOON_S = 0.1
"""How soon a message that comes whole is there, even on a busy worker."""
SLOW_STRANGERS = 8
"""How many messages of strangers may take longer: gRPC holds what has come of each."""

Others = Callable[[], Mapping[Hashable, int]]


class Limited(Protocol):
    """Something of which there is so much and no more."""

    @property
    def in_use(self) -> int: ...

    @property
    def limit(self) -> int: ...


class Capacity:
    """So many at once, a share of them for each owner, and no more."""

    def __init__(self, limit: int, owner_limit: int, *, others: Others = dict) -> None:
        """Make room.

        Args:
            owner_limit: how many one owner may have.
            others: how many places are taken without a call, by owner.
        """
        self.limit = limit
        self._owner_limit = owner_limit
        self._others = others
        self._taken: dict[Hashable, int] = {}
        self._total = 0

    @property
    def in_use(self) -> int:
        """How many are taken, by calls or without one."""
        return self._total + sum(self._others().values())

    def has_others(self, owner: Hashable) -> bool:
        """Whether any other owner's call has a place."""
        return self._total > self._taken.get(owner, 0)

    def take(self, owner: Hashable) -> None:
        """Take a place. Raises: Overloaded: there is none, or the owner has its share."""
        taken, total = self._taken.get(owner, 0), self._total
        if others := self._others():
            total += sum(others.values())
            taken += others.get(owner, 0)
        if total >= self.limit:
            raise Overloaded
        if taken >= self._owner_limit:
            raise Overloaded(is_owner_only=True)
        self._taken[owner] = self._taken.get(owner, 0) + 1
        self._total += 1

    def leave(self, owner: Hashable) -> None:
        """Give it back."""
        self._total -= 1
        subtract(self._taken, owner)


class Arrivals:
    """So many at once: one more ends the one that has waited longest. Of each key so many only.

    For unauthenticated callers: a caller that sends its message whole is not in it for long. Of
    those that are, fewer may be in it.
    """

    def __init__(self, limit: int, limit_of_key: int, slow_limit: int = SLOW_STRANGERS) -> None:
        self.limit = limit
        self._limit_of_key = limit_of_key
        self._slow_limit = slow_limit
        self._waiting: dict[asyncio.Timeout, Hashable] = {}
        self._slow: dict[asyncio.Timeout, None] = {}
        """Those of them that have waited for SOON_S."""
        self._by_key: Counter[Hashable] = Counter()

    @property
    def in_use(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def of(self, key: Hashable, most_s: float) -> AsyncIterator[None]:
        """Wait inside the block for something to arrive.

        Raises: Overloaded: the key has its share; TimeoutError: it took too long, or others came.
        """
        if self._by_key[key] >= self._limit_of_key:
            raise Overloaded(is_owner_only=True)
        async with asyncio.timeout(most_s) as timeout:
            if len(self._waiting) >= self.limit:
                self._end(next(iter(self._waiting)))
            self._waiting[timeout] = key
            self._by_key[key] += 1
            timer = asyncio.get_running_loop().call_later(SOON_S, self._slow_down, timeout)
            try:
                yield
            finally:
                timer.cancel()
                self._forget(timeout)

    def _slow_down(self, timeout: asyncio.Timeout) -> None:
        """Count one that still waits as slow; too many of them end the first."""
        if timeout in self._waiting:
            self._slow[timeout] = None
            if len(self._slow) > self._slow_limit:
                self._end(next(iter(self._slow)))

    def _end(self, timeout: asyncio.Timeout) -> None:
        self._forget(timeout)
        if not timeout.expired():
            timeout.reschedule(0)

    def _forget(self, timeout: asyncio.Timeout) -> None:
        if timeout in self._waiting:
            self._slow.pop(timeout, None)
            subtract(self._by_key, self._waiting.pop(timeout))


class Bytes:
    """So many bytes at once, and a share of them for each owner."""

    def __init__(self, limit_bytes: int, owner_share: float) -> None:
        self.limit = limit_bytes
        self._owner_limit_bytes = int(limit_bytes * owner_share)
        self._bytes: dict[UUID, int] = {}
        self.in_use = 0

    def check(self, owner: UUID, size: int = 1) -> None:
        """Raise Overloaded unless the owner may have as many bytes more."""
        if self.in_use + size > self.limit:
            raise Overloaded
        if self._bytes.get(owner, 0) + size > self._owner_limit_bytes:
            raise Overloaded(is_owner_only=True)

    def add(self, owner: UUID, size: int) -> None:
        self._bytes[owner] = self._bytes.get(owner, 0) + size
        self.in_use += size

    def remove(self, owner: UUID, size: int) -> None:
        self.in_use -= size
        subtract(self._bytes, owner, size)
