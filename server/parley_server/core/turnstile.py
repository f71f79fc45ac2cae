"""Lets so many through at once, and those who wait in turn: one of each key, then the next round.

What is waited for on a worker is shared by all its owners. First come, first served would make all
others wait for each call of an owner with a thousand; in turn, they wait for one of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


K = TypeVar("K")


def subtract(counts: dict[K, int], key: K, amount: int = 1) -> None:
    """Take an amount, which may be 0, from a count; a count of zero is forgotten."""
    left = counts.get(key, 0) - amount
    if left:
        counts[key] = left
    else:
        counts.pop(key, None)


class InTurn(Generic[T]):
    """What waits, by key: one of each key, then the next round."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[T]] = {}
        """The key whose turn is next comes first."""

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, key: Hashable, item: T) -> None:
        """Let something wait behind all others of its key."""
        self._queues.setdefault(key, deque()).append(item)

    def remove(self, key: Hashable, item: T) -> None:
        """Let something wait no longer, if it still does."""
        queue = self._queues.get(key)
        if queue is not None and item in queue:
            queue.remove(item)
            if not queue:
                del self._queues[key]

    def next(self, suits: Callable[[Hashable], bool] = lambda _: True) -> tuple[Hashable, T] | None:
        """Take what is next, with its key, among the keys that suit; None: there is none."""
        for key, queue in self._queues.items():
            if suits(key):
                del self._queues[key]
                item = queue.popleft()
                if queue:
                    self._queues[key] = queue
                return key, item
        return None


class Turnstile:
    """So many at once, taken in turn between keys."""

    def __init__(self, width: int, *, width_of_key: int | None = None) -> None:
        """Make one.

        Args:
            width: how many may be inside at once.
            width_of_key: how many of one key; None: as many as there is room for.
        """
        self.limit = width
        self._width_of_key = width if width_of_key is None else width_of_key
        self._inside: dict[Hashable, int] = {}
        self._taken = 0
        self._waiting: InTurn[asyncio.Future[None]] = InTurn()

    @property
    def in_use(self) -> int:
        """How many are inside."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def of(self, key: Hashable) -> "_Passage":
        """Wait for a place and hold it inside the block: `async with turnstile.of(owner): …`."""
        return _Passage(self, key)

    def enter_at_once(self, key: Hashable) -> bool:
        """Take a place if there is one and no caller waits. Returns: whether one was taken."""
        if self._waiting or not self._has_room(key):
            return False
        self._take(key)
        return True

    async def enter(self, key: Hashable) -> None:
        """Wait for a place. Guarantees: when this is cancelled, no place is held."""
        if self.enter_at_once(key):
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(key, place)
        self._let_in()  # those who wait may all be of keys that have their share
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(key)
            else:
                self._waiting.remove(key, place)
            raise

    def leave(self, key: Hashable, *, rest_s: float = 0) -> None:
        """Give a place back.

        Args:
            rest_s: how long it still counts as one of the key's. Others may have it at once.
        """
        self._taken -= 1
        if rest_s:
            asyncio.get_running_loop().call_later(rest_s, self._rested, key)
        else:
            subtract(self._inside, key)
        self._let_in()

    def _rested(self, key: Hashable) -> None:
        subtract(self._inside, key)
        self._let_in()

    def _has_room(self, key: Hashable) -> bool:
        return self._taken < self.limit and self._inside.get(key, 0) < self._width_of_key

    def _take(self, key: Hashable) -> None:
        self._taken += 1
        self._inside[key] = self._inside.get(key, 0) + 1

    def _let_in(self) -> None:
        """Let in who is next, as long as there is room."""
        while (
            self._waiting
            and self._taken < self.limit
            and (found := self._waiting.next(self._has_room))
        ):
            key, place = found
            if not place.done():
                self._take(key)
                place.set_result(None)


class _Passage:
    """A place, held inside a block."""

    def __init__(self, turnstile: Turnstile, key: Hashable) -> None:
        self._turnstile = turnstile
        self._key = key

    async def __aenter__(self) -> None:
        await self._turnstile.enter(self._key)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._turnstile.leave(self._key)
