"""Where turns that are started wait."""

from typing import Protocol
from uuid import UUID

from parley_server.core.model import (
    Backlog,
    Begun,
    Interrupted,
    NewTurn,
    NotBegun,
    Owner,
    QueueKey,
    RefusedTurn,
    Turn,
)


class QueueStore(Protocol):
    """Where started turns are kept until they have ended, and where workers find them.

    Any of its methods raises StoreUnavailable when the database did not carry it out, and
    StoreOutcomeUnknown when it may have. None is cancelled (decision 0004).
    """

    async def accept(self, owner: Owner, new: NewTurn) -> Turn:
        """Store a turn to be begun later; or return the one that has its request id.

        Returns: the turn as it stands; of this call if its id is `new.id`.
        Raises: ConversationNotFound, TurnLimitReached, BudgetExhausted, QueueFull.
        Guarantees: may be called again with the same `new.id`: it is stored once.
        """
        ...

    async def requeue(self, owner: Owner, turn: Turn, new: NewTurn) -> bool:
        """Queue a failed or abandoned turn for another attempt, before all others.

        Args:
            new: as it is asked for.
        Returns: False: it runs, was answered, is not the newest any more, is to be stopped, or has
            no attempt left.
        """
        ...

    async def due(self, *, limit: int) -> list[QueueKey]:
        """Read where a turn may begin: each owner's first, then each owner's second, and so on."""
        ...

    async def begin(self, key: QueueKey) -> Begun | Interrupted | RefusedTurn | NotBegun:
        """Open the first turn of a queue, if its conversation is free.

        Guarantees: of several workers one begins it. Waits for no lock. A turn of Chat whose lease
            has passed becomes FAILED, TURN_ABANDONED.
        """
        ...

    async def give_up(self, of: Interrupted) -> None:
        """End a started turn that no worker runs and that is not run again, as FAILED."""
        ...

    async def wake(self, owner: Owner, conversation_id: UUID) -> None:
        """Have `due` return a conversation now."""
        ...

    async def backlog(self) -> Backlog:
        """Read how much there is to do, of all owners."""
        ...
