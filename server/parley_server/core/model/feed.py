"""The feed of turns that ended: whose it is, a place in it, and what is read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID, uuid5

from parley_server.core.model.owners import OWNER_NAMESPACE, Owner
from parley_server.core.model.turns import FailureReason, Turn

NO_TURN = UUID(int=0)


@lru_cache(maxsize=4096)
def tenant_feed(tenant: str) -> UUID:
    """Return what the feed of a tenant goes by: its rows, and its signals.

    Guarantees: a pure function that no owner's id can collide with; stored rows depend on it.
    """
    return uuid5(OWNER_NAMESPACE, f"feed:{tenant}")


class FeedPlace(NamedTuple):
    """A place in the feed: behind a turn that a transaction ended."""

    xid: int
    turn_id: UUID = NO_TURN
    """NO_TURN: before the first one of the transaction."""


BEGINNING = FeedPlace(0)


class FeedCursor(NamedTuple):
    """A place, and the epoch in which it means something."""

    epoch: UUID
    place: FeedPlace


class FeedScope(NamedTuple):
    """Whose turns are told."""

    owner: Owner
    """Who asks."""
    is_tenant: bool
    """Whether those of all owners of its tenant are told."""

    @property
    def id(self) -> UUID:
        """What tells feeds apart: it is also the topic of their signals."""
        return tenant_feed(self.owner.tenant) if self.is_tenant else self.owner.id


@dataclass(frozen=True, slots=True)
class FeedQuestion:
    """What is asked of a feed."""

    scope: FeedScope
    after: FeedCursor | None = None
    only_new: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


class FeedEntry(NamedTuple):
    """That an attempt ended, as its statement wrote it down."""

    owner_id: UUID
    place: FeedPlace
    attempt: int
    error_reason: FailureReason | None
    """None: the turn was answered, and does not change any more; or it waits."""
    end_time: datetime
    is_waiting: bool = False
    """It ended because it waits for its caller."""


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What comes behind a place, in order."""

    entries: tuple[FeedEntry, ...]
    """Those that may be told: none will appear before them any more."""
    is_full: bool
    """Whether more may be told at once."""
    is_pending: bool
    """Whether something has ended that may not be told yet."""
    epoch: UUID
    horizon: FeedPlace
    """Everything before it is over."""
    removed_xid: int
    """Nothing behind this transaction was removed."""
    next_xid: int
    """No transaction from here on has begun."""


class FedTurn(NamedTuple):
    """A turn that ended, whose it is, and the place behind it."""

    turn: Turn
    user: str
    cursor: FeedCursor


class FeedProgress(NamedTuple):
    """Says that all that had ended was told."""

    cursor: FeedCursor


FeedUpdate = FedTurn | FeedProgress
