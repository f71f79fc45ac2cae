"""Lets so many through at once, and those who wait in turn: one of each key, then the next round.

What is waited for on a worker is shared by all its owners. First come, first served would make all
others wait for each call of an owner with a thousand; in turn, they wait for one of them.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from types import TracebackType


class Turnstile:
    """So many at once, taken in turn between keys."""

    def __init__(self, width: int, *, width_of_key: int | None = None) -> None:
        """Make one.

        Args:
            width: how many may be inside at once.
            width_of_key: how many of one key; None: as many as there is room for.
        """
        self._width = width
        self._width_of_key = width if width_of_key is None else width_of_key
        self._inside: Counter[Hashable] = Counter()
        self._taken = 0
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def inside(self) -> int:
        """How many are inside."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def of(self, key: Hashable) -> "_Passage":
        """Wait for a place and hold it inside the block: `async with turnstile.of(owner): …`."""
        return _Passage(self, key)

    async def enter(self, key: Hashable) -> None:
        """Wait for a place. Guarantees: when this is cancelled, no place is held."""
        if not self._waiting and self._has_room(key):
            self._take(key)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(place)
        self._let_in()  # those who wait may all be of keys that have their share
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(key)
            else:
                self._forget(key, place)
            raise

    def leave(self, key: Hashable) -> None:
        """Give a place back."""
        self._taken -= 1
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key]
        self._let_in()

    def _has_room(self, key: Hashable) -> bool:
        return self._taken < self._width and self._inside[key] < self._width_of_key

    def _take(self, key: Hashable) -> None:
        self._taken += 1
        self._inside[key] += 1

    def _let_in(self) -> None:
        """Let in who is next, as long as there is room."""
        while self._taken < self._width:
            key = next((key for key in self._waiting if self._has_room(key)), None)
            if key is None:
                return
            queue = self._waiting[key]
            place = queue.popleft()
            self._waiting.move_to_end(key)
            if not queue:
                del self._waiting[key]
            if not place.done():
                self._take(key)
                place.set_result(None)

    def _forget(self, key: Hashable, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(key)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[key]


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
