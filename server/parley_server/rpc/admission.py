"""How much a worker takes on at once: what goes beyond is refused before it costs anything.

    Chat, StreamChat     PARLEY_MAX_OPEN_CHATS; turns that go on without their caller count as well
    CancelTurn           as many, counted by themselves: the way to free a place is never taken
    WatchConversation    counts in core/watches.py, where watches end
    all others           PARLEY_MAX_READS

A call keeps its place until its answer is sent. Answers that nobody takes stay in memory for as
long as their connection does, and gRPC cannot take them back, so there is a limit on these as well.
Health and reflection are no methods of Parley's, and never counted.
"""

from collections.abc import Callable, Mapping

from parley_server.core.errors import Overloaded


class Places:
    """So many at once, and no more."""

    def __init__(self, limit: int, *, others: Callable[[], int] = lambda: 0) -> None:
        """Make room.

        Args:
            others: how many places are taken without a call.
        """
        self._limit = limit
        self._others = others
        self._taken = 0

    def take(self, size: int = 1) -> None:
        """Take places. Raises: Overloaded: there are not enough."""
        if self._taken + self._others() + size > self._limit:
            raise Overloaded
        self._taken += size

    def leave(self, size: int = 1) -> None:
        """Give them back."""
        self._taken -= size


class Admission:
    """A worker's places, by method."""

    def __init__(
        self,
        *,
        max_open_chats: int,
        max_reads: int,
        max_unsent_bytes: int,
        left_behind: Callable[[], int],
    ) -> None:
        chats = Places(max_open_chats, others=left_behind)
        self._reads = Places(max_reads)
        self._by_method: Mapping[str, Places | None] = {
            "Chat": chats,
            "StreamChat": chats,
            "CancelTurn": Places(max_open_chats),
            "WatchConversation": None,
        }
        self.unsent_bytes = Places(max_unsent_bytes)

    def places_for(self, method: str) -> Places | None:
        """Return where a method's calls take a place; None: nowhere here."""
        return self._by_method.get(method, self._reads)
