"""Where conversations themselves, and what is added to them, are kept."""

from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from parley_server.core.model import (
    Added,
    Conversation,
    ConversationChange,
    ConversationPage,
    ConversationQuery,
    Deleted,
    Deletion,
    NewConversation,
    NewFork,
    NewMessages,
    Owner,
)


class ConversationStore(Protocol):
    """Where conversations themselves are kept, without what is said in them.

    Every method filters by the owner, does all or nothing, and holds no connection when it returns.
    Any of them raises StoreUnavailable when the database did not carry it out, and
    StoreOutcomeUnknown when it may have. None is cancelled (decision 0004).
    """

    async def create(
        self, owner: Owner, conversation_id: UUID, new: NewConversation
    ) -> tuple[Conversation, bool]:
        """Create an empty conversation, or find the one that the request id has created.

        Args:
            conversation_id: the id that a new one gets.
        Returns: the conversation, and whether this call has created it.
        Raises: ConversationExists: the id is taken; RequestIdReused: the request id asked for
            something else; ConversationNotFound: what it created is deleted.
        """
        ...

    async def fork(
        self, owner: Owner, conversation_id: UUID, new: NewFork
    ) -> tuple[Conversation, bool]:
        """Create a conversation with copies of another one's messages, or find the one created.

        Args, Returns: as `create`.
        Raises: as `create`; ConversationNotFound also if there is none to copy; SequenceNotReached,
            NotATurnBoundary: the messages cannot be copied up to there.
        """
        ...

    async def get(
        self, owner: Owner, conversation_id: UUID, *, may_be_behind: bool = False
    ) -> Conversation:
        """Read a conversation.

        Args:
            may_be_behind: whether a standby may answer while there is nothing else.
        Raises: ConversationNotFound.
        """
        ...

    async def list(self, owner: Owner, query: ConversationQuery) -> ConversationPage:
        """Read a page of conversations, the most recently active first, without instructions."""
        ...

    async def update(self, owner: Owner, change: ConversationChange) -> Conversation:
        """Change a conversation, with the next revision.

        Returns: the conversation as it is then. Also if it has the revision behind the expected
            one and is as this change would leave it: an earlier try was carried out.
        Raises: ConversationNotFound, RevisionMismatch.
        """
        ...

    async def delete(
        self, owner: Owner, conversation_id: UUID, *, trash: timedelta
    ) -> Deleted | None:
        """Hide a conversation from all other methods and statements, and end its open turn.

        Args:
            trash: how long it can be brought back.
        Returns: None: there is none.
        Guarantees: nothing is written to it from then on.
        """
        ...

    async def undelete(self, owner: Owner, conversation_id: UUID) -> Conversation:
        """Bring a deleted conversation back, in its place in lists; or return one that is there.

        Raises: ConversationNotFound: there is none, or it cannot be brought back any more.
        """
        ...


class NotAdded(NamedTuple):
    """Why messages were not added: something is wrong with them."""

    clash: int | None
    """The first of them that names a turn of the conversation, counted from 0."""
    now: datetime
    """By the store's clock: none may have been written much later."""


class HistoryStore(Protocol):
    """Where messages are added without an agent, and where exports are read.

    Raises as `ConversationStore`.
    """

    async def add(self, owner: Owner, new: NewMessages) -> Added | NotAdded:
        """Add messages behind the last one of a conversation, once for each request id.

        Raises: ConversationNotFound: there is none, and none may be made; or the one that the
            request id was used in is deleted; RequestIdReused; SequenceMismatch; TurnInProgress: a
            turn holds a valid lease.
        Guarantees: all or nothing. A turn whose lease has passed becomes FAILED, TURN_ABANDONED;
            the worker that runs it writes nothing any more.
        """
        ...

    async def added(self, owner: Owner, new: NewMessages) -> Added | None:
        """Return what was added under the request id; None: nothing was.

        Raises: RequestIdReused; ConversationNotFound: it was added to one that is deleted.
        """
        ...

    async def exported(self, owner: Owner, from_id: UUID, *, limit: int) -> list[Conversation]:
        """Read the conversations from an id on, in the order of ids, with their instructions."""
        ...


class DeletionStore(Protocol):
    """What is due about deleted conversations of all owners.

    Raises as `ConversationStore`. Workers share the work: of two that are at the same
    conversation, one does nothing.
    """

    async def due(self, *, limit: int) -> list[Deletion]:
        """Read what is due, the longest first."""
        ...

    async def purge(
        self, of: Deletion, *, limit: int, max_bytes: int, tombstone: timedelta
    ) -> tuple[bool, int]:
        """Remove the next messages of a conversation, oldest first, and what belongs to them.

        Args:
            limit, max_bytes: how many messages, and how many bytes of text, at most; one in any
                case.
            tombstone: how long ids are kept once all messages are gone.
        Returns: whether there is more to do now, and how many messages were removed.
        """
        ...

    async def forget(self, of: Deletion, *, limit: int) -> bool:
        """Remove the next of the ids that were kept. Returns: whether there is more to do."""
        ...
