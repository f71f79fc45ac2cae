"""How much a worker takes on at once, and how much of it for one owner.

    Chat, StreamChat     PARLEY_MAX_OPEN_CHATS; turns that go on without their caller count as well
    CancelTurn           as many, counted by themselves: the way to free a place is never taken
    WatchConversation    PARLEY_MAX_WATCHES
    all others           PARLEY_MAX_READS
    answers not taken    PARLEY_MAX_UNSENT_BYTES

Of each, one owner may have a share, PARLEY_OWNER_SHARE: what goes beyond is refused before it costs
anything, and nobody else is refused for it. A call keeps its place until its answer is sent.

Answers that nobody takes stay in memory for as long as their connection does, and gRPC cannot take
them back. So an owner with too many of them is refused before its next call does anything. What was
read may still be refused then, since it can be read again; the answer to a turn is always sent.

Messages on their way are bounded too, and taken in turn between owners (`core.turnstile`).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from math import ceil
from uuid import UUID

from parley_server.core.errors import Overloaded
from parley_server.core.turnstile import Turnstile

RECEIVING = 32
"""How many requests' messages may be on their way at once: most are there with their metadata."""
RECEIVING_FROM_ONE = 8
"""How many of them may be one owner's, or of strangers one connection's."""
HEALTH_WATCHES = 1_000
"""How many watches of the worker's health there may be: nobody needs a token for one."""
HEALTH_WATCHES_OF_ONE = 4
"""How many of them may be one connection's."""

Others = Callable[[], Mapping[Hashable, int]]


def _none() -> Mapping[Hashable, int]:
    return {}


class Places:
    """So many at once, a share of them for each owner, and no more."""

    def __init__(self, limit: int, owner_limit: int, *, others: Others = _none) -> None:
        """Make room.

        Args:
            owner_limit: how many one owner may have.
            others: how many places are taken without a call, by owner.
        """
        self._limit = limit
        self._owner_limit = owner_limit
        self._others = others
        self._taken: Counter[Hashable] = Counter()
        self.total = 0

    def take(self, owner: Hashable) -> None:
        """Take a place. Raises: Overloaded: there is none, or the owner has its share."""
        others = self._others()
        if self.total + sum(others.values()) >= self._limit:
            raise Overloaded
        if self._taken[owner] + others.get(owner, 0) >= self._owner_limit:
            raise Overloaded(is_owner_only=True)
        self._taken[owner] += 1
        self.total += 1

    def leave(self, owner: Hashable) -> None:
        """Give it back."""
        self.total -= 1
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]


class UnsentAnswers:
    """The bytes of answers that were given to gRPC and not taken by their callers yet."""

    def __init__(self, limit_bytes: int, owner_share: float) -> None:
        self._limit_bytes = limit_bytes
        self._owner_limit_bytes = int(limit_bytes * owner_share)
        self._bytes: Counter[UUID] = Counter()
        self.total_bytes = 0

    def check(self, owner: UUID, size: int = 1) -> None:
        """Raise Overloaded unless the owner may have as many bytes more."""
        if self.total_bytes + size > self._limit_bytes:
            raise Overloaded
        if self._bytes[owner] + size > self._owner_limit_bytes:
            raise Overloaded(is_owner_only=True)

    def add(self, owner: UUID, size: int) -> None:
        self._bytes[owner] += size
        self.total_bytes += size

    def remove(self, owner: UUID, size: int) -> None:
        self.total_bytes -= size
        self._bytes[owner] -= size
        if not self._bytes[owner]:
            del self._bytes[owner]


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

        def shared(limit: int, others: Others = _none) -> Places:
            return Places(limit, ceil(limit * owner_share), others=others)

        self.open_chats = shared(max_open_chats, left_behind)
        self.reads = shared(max_reads)
        self.watches = shared(max_watches)
        self.health_watches = Places(HEALTH_WATCHES, HEALTH_WATCHES_OF_ONE)
        self._by_method: Mapping[str, Places] = {
            "Chat": self.open_chats,
            "StreamChat": self.open_chats,
            "CancelTurn": shared(max_open_chats),
            "WatchConversation": self.watches,
        }
        self.unsent = UnsentAnswers(max_unsent_bytes, owner_share)
        self.receiving = Turnstile(RECEIVING, width_of_key=RECEIVING_FROM_ONE)
        self.receiving_from_strangers = Turnstile(RECEIVING, width_of_key=RECEIVING_FROM_ONE)

    def places_for(self, method: str) -> Places:
        """Return where a method's calls take a place."""
        return self._by_method.get(method, self.reads)
