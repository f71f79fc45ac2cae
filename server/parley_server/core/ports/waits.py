"""Where it is kept what turns wait for."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from parley_server.core.model import (
    Answer,
    CallerTool,
    Given,
    Lease,
    Owner,
    PendingCall,
    Turn,
    Usage,
    Wait,
    WaitEnd,
    WaitKey,
)


class Looked(NamedTuple):
    """A turn as it stands, and what is known of its wait, read together."""

    turn: Turn
    wait: Wait | None
    """None: it never waited. Of a turn that has ended only the digests are left."""
    message: str
    """The turn's own; empty: it never began."""
    tools: tuple[CallerTool, ...]
    """Those of the caller that it waited with."""


class WaitStore(Protocol):
    """Where it is kept what turns wait for.

    Any of its methods raises StoreUnavailable when the database did not carry it out, and
    StoreOutcomeUnknown when it may have. None is cancelled (decision 0004).
    """

    async def wait(
        self,
        owner: Owner,
        lease: Lease,
        answer: Answer,
        calls: Sequence[PendingCall],
        tools: Sequence[CallerTool],
        *,
        spent: Usage | None,
    ) -> bool | None:
        """End an attempt: its turn waits from now on, and no lease is held.

        Args:
            answer: what was said so far.
            tools: the caller's.
            spent: what the attempt has used, as far as it is known.
        Returns: True: it waits; False: it is to be stopped, and nothing was written; None: the
            lease was lost, maybe to an earlier try of this.
        Guarantees: the fence is another one then: nothing that the attempt still writes counts.
        """
        ...

    async def look(self, owner: Owner, conversation_id: UUID, turn_id: UUID) -> Looked | None:
        """Read a turn with its wait."""
        ...

    async def give(self, owner: Owner, looked: Looked, given: Sequence[Given]) -> bool:
        """Store what was given for some of the calls that a turn waits for.

        Returns: False: the turn, or what it was given, has changed since it was looked at.
        Guarantees: all or nothing. Steps are stored in the order of `given`.
        """
        ...

    async def resume(self, owner: Owner, looked: Looked, given: Sequence[Given]) -> Lease | None:
        """Store what was given for the last calls, and take the lease for a new attempt.

        Returns: None: the turn, or what it was given, has changed since it was looked at.
        Guarantees: as `give`. Of several callers one gets the lease.
        """
        ...

    async def end(
        self, owner: Owner, turn: Turn, why: WaitEnd, *, only_if_over: bool = False
    ) -> Lease | None:
        """Take the lease of a waiting turn in order to end it as cancelled.

        Args:
            only_if_over: only if the time is over for which it may wait.
        Returns: the lease, of the same attempt and the next fence; None: the turn does not wait
            any more, or waits again.
        Guarantees: from here on it is to be stopped. If that does not happen, `due` returns it
            once the lease has passed.
        """
        ...

    async def due(self, *, limit: int) -> list[WaitKey]:
        """Read which turns have waited for too long, of any owner, the longest first.

        The same for those that were being ended by a worker that went away.
        """
        ...

    async def find(self, key: WaitKey) -> tuple[Owner, Turn] | None:
        """Read a turn that is due, and whose it is."""
        ...

    async def forget(self, key: WaitKey) -> None:
        """Have `due` not return a turn any more that has ended."""
        ...
