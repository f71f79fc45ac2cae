"""Where the feed of turns is kept."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from parley_server.core.model import FeedPage, FeedPlace, FeedScope, Turn


class FeedStore(Protocol):
    """Where it is kept which turns ended. Any method raises StoreUnavailable."""

    async def feed(self, scope: FeedScope, after: FeedPlace, *, limit: int) -> FeedPage:
        """Read what comes behind a place.

        Returns: at most `limit` entries.
        Guarantees: what is told behind a place is the same, however often and wherever it is read,
            but for what was removed meanwhile.
        """
        ...

    async def fed_turns(
        self, owner_id: UUID, tenant: str, turns: Collection[UUID], labels: Mapping[str, str]
    ) -> dict[UUID, tuple[Turn, str]]:
        """Read turns of one owner as they stand now, and the owner's user.

        Args:
            labels: what their conversations must have.
        Returns: by id, without those whose conversations are deleted, lack a label, or are another
            tenant's. Answers come without text and tool calls.
        """
        ...

    async def settle(self) -> None:
        """Have the places that `feed` has returned so far outlive a crash of the database.

        Guarantees: no row appears before a horizon that was read before this began, not after a
            crash either, nor after a failover to a standby that commits wait for.
        """
        ...


class FeedUpkeep(Protocol):
    """Keeps the feed. Any method raises StoreUnavailable."""

    async def adopt(self) -> None:
        """Begin another epoch if the feed was written on another server than this one."""
        ...

    async def trim(self, keep: timedelta, *, limit: int) -> int:
        """Remove what is older than it is kept, at most `limit` entries.

        Args:
            keep: nothing: no feed is kept, and places in it mean nothing any more.
        Returns: how many were removed. Other workers may remove others at the same time.
        """
        ...
