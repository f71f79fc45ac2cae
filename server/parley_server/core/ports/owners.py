"""Where it is kept what owners used, and what of theirs is to go."""

from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from parley_server.core.model import DayUsage, Erasure, Hidden, Owner, Removed, UsageQuery


class UsageStore(Protocol):
    """Where it is kept what turns used."""

    async def usage(self, owner: Owner, query: UsageQuery, *, limit: int) -> list[DayUsage]:
        """Read the sums of what attempts used, by day and what else is asked for.

        Returns: at most `limit`, by day, agent and value of the label; nothing for days without an
            attempt.
        Raises: StoreUnavailable.
        """
        ...


class ErasureStore(Protocol):
    """What is known of erasures, and what they remove.

    Raises as `ConversationStore`. Every method may be called again when its outcome is unknown.
    """

    async def begin(self, owner: Owner, request_id: str) -> Erasure:
        """Note that an erasure begins now, or find the one of this request id."""
        ...

    async def running(self, *, limit: int) -> list[Erasure]:
        """Read which erasures are under way, of all owners: of each one its first."""
        ...

    async def hide(
        self, of: Erasure, from_id: UUID, *, limit: int
    ) -> tuple[list[Hidden], bool, UUID | None]:
        """Hide those of an owner's next conversations that the erasure removes.

        Args:
            from_id: the first id to look at.
            limit: how many to look at, at most.
        Returns: those that were hidden; whether there was anything to do, which another call may
            have done meanwhile; and the id to go on from, None: there are no more.
        """
        ...

    async def moment(self) -> datetime:
        """Return the present time, on the clock by which transactions begin."""
        ...

    async def is_settled(self, until: datetime) -> bool:
        """Say whether every transaction of a worker's that began until then has ended."""
        ...

    async def note_hidden(self, of: Erasure) -> Erasure:
        """Note that everything is hidden. Returns: the receipt as it is then."""
        ...

    async def remove_messages(
        self, of: Erasure, up_to: UUID, *, limit: int, max_bytes: int
    ) -> Removed | None:
        """Remove the next messages that are hidden, with the turns that they began.

        Args:
            up_to: the highest id of a conversation to look at.
            limit, max_bytes: how many messages, and how many bytes of text, at most; one in any
                case.
        Returns: None: another worker is at it, or it is over.
        Guarantees: each message is counted once in the receipt.
        """
        ...

    async def remove_conversations(self, of: Erasure, up_to: UUID, *, limit: int) -> Removed | None:
        """Remove the next conversations, whose messages are gone, and all that is left of them.

        Args and returns as above.
        """
        ...

    async def forget(self, of: Erasure) -> None:
        """Remove the note that the owner has conversations, if it has none."""
        ...

    async def finish(self, of: Erasure) -> Erasure | None:
        """Close the erasure, whose owner may have come back. None: it is closed."""
        ...


class RetentionStore(Protocol):
    """Which conversations have become too old, of all owners. Raises as `ConversationStore`."""

    async def due_owners(self, every: timedelta, *, limit: int) -> list[UUID]:
        """Read which owners were not looked at for this long, the longest first."""
        ...

    async def take(self, owner_id: UUID, every: timedelta) -> bool:
        """Note that an owner is looked at now. False: another worker has done so."""
        ...

    async def delete_idle(self, owner_id: UUID, idle: timedelta, *, limit: int) -> list[Hidden]:
        """Delete conversations that nothing has happened in for this long, but for open turns.

        Returns: those that were deleted; fewer than the limit: there are no more.
        """
        ...

    async def delete_aged(
        self, owner_id: UUID, age: timedelta, from_id: UUID, *, limit: int
    ) -> tuple[list[Hidden], UUID | None]:
        """Delete those of the next conversations that are older than this, but for open turns.

        Args:
            from_id: the first id to look at.
        Returns: those that were deleted, and the id to go on from; None: there are no more.
        """
        ...
