"""What a worker knows of the length of each owner's queue: when an acceptance has to count it.

To count reads a row for each conversation with started turns, which would be most of what an
acceptance costs. So it is counted once, and again when this worker alone could have filled a part
of the room that was left then: nearer and nearer to the limit, and each time close to it.
"""

from uuid import UUID

PART = 32
"""With as many workers that accept for one owner, none lets it exceed the limit by much."""
OWNERS = 10_000
"""Of how many owners something is known; those that were counted first are forgotten first."""


class QueueLengths:
    """Of owners that this worker has lately accepted turns for, how many more it may accept."""

    def __init__(self, limit: int) -> None:
        """Know nothing yet.

        Args:
            limit: how many started turns that have not ended an owner may have.
        """
        self._limit = limit
        self._left: dict[UUID, int] = {}
        """How many turns may be accepted before the next count."""

    def is_to_count(self, owner: UUID) -> bool:
        """Say whether the next acceptance for an owner counts its queue."""
        return self._left.get(owner, 0) <= 0

    def accepted(self, owner: UUID, counted: int | None) -> None:
        """Take note of an accepted turn.

        Args:
            counted: how many there were before it; None: they were not counted.
        """
        if counted is None:
            if owner in self._left:
                self._left[owner] -= 1
            return
        self._left.pop(owner, None)
        self._left[owner] = (self._limit - counted - 1) // PART
        if len(self._left) > OWNERS:
            del self._left[next(iter(self._left))]
