"""Reading what is stored."""

from uuid import UUID

from parley_server.core.errors import SequenceNotReached, TurnNotFound
from parley_server.core.model import (
    Conversation,
    ConversationPage,
    ConversationQuery,
    HistoryPage,
    HistoryQuery,
    Owner,
    Turn,
    TurnRef,
)
from parley_server.core.ports import ConversationStore, Store
from parley_server.core.tasks import Tasks


class Reads:
    """Answers reads from the store."""

    def __init__(self, store: Store, conversations: ConversationStore, cap_s: float) -> None:
        """Make the reads.

        Args:
            cap_s: the server's cap on one call.
        """
        self._store = store
        self._conversations = conversations
        self._tasks = Tasks()
        self._cap_s = cap_s

    async def history(self, owner: Owner, query: HistoryQuery) -> HistoryPage:
        """Read a page of messages.

        Raises: ConversationNotFound; SequenceNotReached: it has not come to min_sequence yet.
        """
        page = await self._tasks.shielded(self._store.history(owner, query))
        if page.last_sequence < query.min_sequence:
            raise SequenceNotReached(query.min_sequence, page.last_sequence)
        return page

    async def conversations(self, owner: Owner, query: ConversationQuery) -> ConversationPage:
        """Read a page of the owner's conversations, the most recently active first."""
        return await self._tasks.shielded(self._conversations.list(owner, query))

    async def conversation(self, owner: Owner, conversation_id: UUID) -> Conversation:
        """Read a conversation, without its messages.

        Raises: ConversationNotFound.
        """
        return await self._tasks.shielded(
            self._conversations.get(owner, conversation_id, may_be_behind=True)
        )

    async def turn(self, owner: Owner, name: TurnRef) -> Turn:
        """Read a turn.

        Raises: TurnNotFound.
        """
        return await self._tasks.shielded(find_turn(self._store, owner, name, may_be_behind=True))


async def find_turn(
    store: Store, owner: Owner, name: TurnRef, *, may_be_behind: bool = False
) -> Turn:
    """Read a turn by its conversation and id, or by its request id.

    Raises: TurnNotFound.
    """
    if name.conversation_id is not None and name.turn_id is not None:
        found = await store.turn(
            owner, name.conversation_id, name.turn_id, may_be_behind=may_be_behind
        )
    else:
        found = await store.find(owner, name.request_id or "", may_be_behind=may_be_behind)
    if found is None:
        raise TurnNotFound(name.turn_id, name.request_id)
    return found
