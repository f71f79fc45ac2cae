"""Creating, copying, changing, deleting and bringing back conversations."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from parley_server.core.bells import Bells, topic_of
from parley_server.core.errors import ConversationNotFound
from parley_server.core.model import (
    Conversation,
    ConversationChange,
    Deleted,
    NewConversation,
    NewFork,
    Owner,
)
from parley_server.core.ports import ConversationStore, Ids
from parley_server.core.tasks import Tasks


class Conversations:
    """Changes conversations for this worker's callers. What is begun is carried out."""

    def __init__(
        self,
        store: ConversationStore,
        bells: Bells,
        ids: Ids,
        *,
        trash: timedelta,
        on_turn_ended: Callable[[UUID], None],
        on_deleted: Callable[[], None],
    ) -> None:
        """Make the changes.

        Args:
            trash: how long a deleted conversation can be brought back.
            on_turn_ended: called with the turn that was open in a conversation that is deleted.
            on_deleted: called once a conversation is deleted.
        """
        self._store = store
        self._bells = bells
        self._ids = ids
        self._trash = trash
        self._on_turn_ended = on_turn_ended
        self._on_deleted = on_deleted
        self._tasks = Tasks()

    @property
    def has_trash(self) -> bool:
        """Whether a deleted conversation can be brought back at all."""
        return bool(self._trash)

    async def create(self, owner: Owner, new: NewConversation) -> tuple[Conversation, bool]:
        """Create an empty conversation, or return the one that the request id has created.

        Returns: the conversation as it is now, and whether an earlier call had created it.
        Raises: ConversationExists; RequestIdReused; ConversationNotFound: the request id has
            created one that is deleted.
        """
        identity = new.conversation_id or self._ids()
        created, is_new = await self._tasks.shielded(self._store.create(owner, identity, new))
        return created, not is_new

    async def fork(self, owner: Owner, new: NewFork) -> tuple[Conversation, bool]:
        """Copy a conversation, or return the copy that the request id has created.

        Returns: the new conversation as it is now, and whether an earlier call had created it.
        Raises: as `create`; ConversationNotFound: there is none to copy; SequenceNotReached,
            NotATurnBoundary: it cannot be copied up to there.
        """
        identity = new.conversation_id or self._ids()
        forked, is_new = await self._tasks.shielded(self._store.fork(owner, identity, new))
        return forked, not is_new

    async def update(self, owner: Owner, change: ConversationChange) -> Conversation:
        """Change a conversation; a change that an earlier try has made counts as made.

        Raises: ConversationNotFound, RevisionMismatch.
        """
        return await self._tasks.shielded(self._store.update(owner, change))

    async def delete(
        self, owner: Owner, conversation_id: UUID, *, allow_missing: bool
    ) -> Deleted | None:
        """Delete a conversation, and stop the turn that is open in it.

        Returns: what came of it; None: there is none, which is allowed.
        Raises: ConversationNotFound.
        Guarantees: when this returns, no call finds the conversation any more.
        """
        deleted = await self._tasks.shielded(self._deleted(owner, conversation_id))
        if deleted is None and not allow_missing:
            raise ConversationNotFound(conversation_id)
        return deleted

    async def _deleted(self, owner: Owner, conversation_id: UUID) -> Deleted | None:
        deleted = await self._store.delete(owner, conversation_id, trash=self._trash)
        if deleted is not None:
            self._bells.ring(topic_of(owner, conversation_id))
            if deleted.open_turn_id is not None:
                self._on_turn_ended(deleted.open_turn_id)
                self._bells.ring(deleted.open_turn_id)
            self._on_deleted()
        return deleted

    async def undelete(self, owner: Owner, conversation_id: UUID) -> Conversation:
        """Bring a deleted conversation back; one that is not deleted stays as it is.

        Raises: ConversationNotFound: there is none, or it cannot be brought back any more.
        """
        return await self._tasks.shielded(self._store.undelete(owner, conversation_id))
