"""How much a worker takes on at once, and how much of it for one owner.

    Chat, StreamChat,
    ResumeTurn,
    StreamResumeTurn,
    RehearseTurn,
    AppendMessages       PARLEY_MAX_OPEN_CHATS; turns that go on without their caller count as well
    CancelTurn           as many, counted by themselves: the way to free a place is never taken
    WatchConversation,
    WatchTurns,
    ExportConversations  PARLEY_MAX_WATCHES
    all others           PARLEY_MAX_READS
    answers not taken    PARLEY_MAX_UNSENT_BYTES
    requests             HELD_REQUEST_BYTES, of all calls under way
    watches' messages    `unsent`

Of each, one owner may have a share, PARLEY_OWNER_SHARE: what goes beyond is refused before it costs
anything, and no other owner is refused for it. A call keeps its place until its answer is sent.

Answers that are not read stay in memory for as long as their connection does, and gRPC cannot take
them back. So an owner with too many of them is refused before its next call does anything. What was
read may still be refused then, since it can be read again; the answer to a turn is always sent.

Messages on their way are bounded too, and taken in turn between owners (`core.turnstile`). Of
callers without a token the newest are waited for.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from math import ceil
from typing import Any, Protocol
from uuid import UUID

from parley_server.core.errors import Overloaded
from parley_server.core.turnstile import Turnstile, subtract
from parley_server.rpc.layers.call_record import current_call
from parley_server.rpc.layers.types import Context, Method
from parley_server.rpc.layers.unsent import Unsent

RECEIVING = 32
"""How many requests' messages may be on their way at once: most are there with their metadata."""
RECEIVING_FROM_ONE = 8
"""How many of them may be one owner's."""
STRANGERS = 128
"""How many messages of callers without a token may be on their way at once."""
STRANGERS_OF_ONE = 8
"""How many of them may be one connection's."""
SOON_S = 0.1
"""How soon a message that comes whole is there, even on a busy worker."""
SLOW_STRANGERS = 8
"""How many of them may take longer: gRPC holds what has come of each, up to 2 MiB by default."""
HEALTH_WATCHES = 500
"""How many watches of the worker's health there may be; they need no token."""
HEALTH_WATCHES_OF_ONE = 4
"""How many of them may be one connection's."""
HELD_REQUEST_BYTES = 128 * 1024 * 1024
"""How much the requests of all calls under way may be. A call that waits for a conversation holds
its message for minutes, and costs its caller nothing."""
SENDING = 4
"""How many messages of streams are made in one round of the loop. Others wait in turn."""
PAGES = 8
"""How many pages are read and made at once, each for another owner. Others wait in turn."""
PAGE_REST = 3
"""How long an owner's next page waits beside others' turns, in times of what the last one took."""
PAGE_REST_S = 0.1
"""And at most: what a page took may be the wait for a database that was away."""

Others = Callable[[], Mapping[Hashable, int]]


def _none() -> Mapping[Hashable, int]:
    return {}


class Limited(Protocol):
    """Something of which there is so much and no more."""

    @property
    def in_use(self) -> int: ...

    @property
    def limit(self) -> int: ...


class Capacity:
    """So many at once, a share of them for each owner, and no more."""

    def __init__(self, limit: int, owner_limit: int, *, others: Others = _none) -> None:
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


class Admission:
    """A worker's places, by method."""

    def __init__(
        self,
        *,
        max_open_chats: int,
        max_reads: int,
        max_watches: int,
        max_unsent_bytes: int,
        owner_share: float,
        left_behind: Others,
    ) -> None:
        """Make room.

        Args:
            owner_share: how much of everything one owner may have, above 0 and up to 1.
            left_behind: how many turns go on without a call, by owner.
        """

        def shared(limit: int, others: Others = _none) -> Capacity:
            return Capacity(limit, ceil(limit * owner_share), others=others)

        self.open_chats = shared(max_open_chats, left_behind)
        self.reads = shared(max_reads)
        self.watches = shared(max_watches)
        self.health_watches = Capacity(HEALTH_WATCHES, HEALTH_WATCHES_OF_ONE)
        self.cancels = shared(max_open_chats)
        self._by_method: Mapping[str, Capacity] = {
            "Chat": self.open_chats,
            "StreamChat": self.open_chats,
            "ResumeTurn": self.open_chats,
            "StreamResumeTurn": self.open_chats,
            "RehearseTurn": self.open_chats,
            "AppendMessages": self.open_chats,
            "CancelTurn": self.cancels,
            "WatchConversation": self.watches,
            "WatchTurns": self.watches,
            "ExportConversations": self.watches,
        }
        self.unsent = Bytes(max_unsent_bytes, owner_share)
        self.held_requests = Bytes(HELD_REQUEST_BYTES, owner_share)
        self.unsent_of_watches = Unsent()
        self.sending = Turnstile(SENDING)
        self.pages = Turnstile(PAGES, width_of_key=1)
        self.receiving = Turnstile(RECEIVING, width_of_key=RECEIVING_FROM_ONE)
        self.strangers = Arrivals(STRANGERS, STRANGERS_OF_ONE)

    def capacity_for(self, method: str) -> Capacity:
        """Return where a method's calls take a place."""
        return self._by_method.get(method, self.reads)

    @asynccontextmanager
    async def page_of(self, owner: UUID) -> AsyncIterator[None]:
        """Wait for the owner's turn to have a page made, inside the block.

        An owner that reads page after page while others chat has a part of the worker, not all of
        it: its next page waits, its answers do not.
        """
        loop = asyncio.get_running_loop()
        await self.pages.enter(owner)
        began = loop.time()
        rest_s = 0.0
        try:
            yield
            if self.open_chats.has_others(owner):
                rest_s = min(PAGE_REST * (loop.time() - began), PAGE_REST_S)
        finally:
            self.pages.leave(owner, rest_s=rest_s)

    def limited(self) -> Mapping[str, Limited]:
        """Return everything that is limited, by the name that metrics have for it."""
        return {
            "open_chats": self.open_chats,
            "cancels": self.cancels,
            "reads": self.reads,
            "watches": self.watches,
            "health_watches": self.health_watches,
            "held_request_bytes": self.held_requests,
            "unsent_answer_bytes": self.unsent,
            "unsent_watch_bytes": self.unsent_of_watches,
            "pages": self.pages,
            "requests_arriving": self.receiving,
            "strangers_requests_arriving": self.strangers,
        }


def admitted(places: Capacity, unsent: Bytes, method: Method, *, is_read: bool) -> Method:
    """Take a place until the answer is sent, and count the answer until then if it comes whole.

    An owner that leaves its answers untaken is refused here, before anything is done for it.

    Args:
        is_read: the answer may be thrown away and asked for again.
    """

    async def with_place(request: Any, context: Context) -> Any:
        owner = current_call.get().owner_id
        unsent.check(owner)
        places.take(owner)
        context.add_done_callback(lambda _: places.leave(owner))  # type: ignore[arg-type] # by position
        answer = await method(request, context)
        if answer is not None:
            size = answer.ByteSize()
            if is_read:
                try:
                    unsent.check(owner, size)
                except Overloaded:
                    del answer  # the error holds on to this frame, for as long as it is told
                    raise
            unsent.add(owner, size)
            context.add_done_callback(
                lambda _: unsent.remove(owner, size)  # type: ignore[arg-type] # the same
            )
        return answer

    return with_place


def limited(places: Capacity, method: Method) -> Method:
    """Take a place, of those that a connection may have, for as long as the call lasts."""

    async def with_place(request: Any, context: Context) -> Any:
        key = context.peer()
        places.take(key)
        try:
            return await method(request, context)
        finally:
            places.leave(key)

    return with_place
