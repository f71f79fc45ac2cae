"""What watches read: small pages of a conversation, shared, and dropped if they are not read."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from uuid import UUID

from parley_server.core.model import (
    ConversationState,
    HistoryPage,
    HistoryQuery,
    Message,
    Owner,
    Turn,
)
from parley_server.core.ports import Store
from parley_server.core.sharing import Shared

PAGE_MESSAGES = 100
PAGE_TURNS = 50
"""At least 3: the last turn told, one before it, and one that is new."""
PAGE_BYTES = 64 * 1024
HELD_BYTES = 16 * 1024 * 1024
"""How much all watches of a worker hold of pages that they have read and not yet delivered."""
_ROW_BYTES = 1024
"""What a message or a turn takes beside its text, about."""


class Page:
    """Turns from some place on, and messages from some place on, read in this order.

    Turns before messages: whatever a turn says that it has written is in the messages then.
    """

    def __init__(self, turns: list[Turn], history: HistoryPage, *, has_more_turns: bool) -> None:
        self.turns = turns
        self.messages = history.messages
        self.last_sequence = history.last_sequence
        self.has_more_turns = has_more_turns
        self.is_dropped = False
        self.readers = 0

    @property
    def bytes(self) -> int:
        text = sum(len(message.content) for message in self.messages)
        calls = sum(
            len(call.arguments) + len(call.result)
            for message in self.messages
            for call in message.tool_calls
        )
        return text + calls + _ROW_BYTES * (len(self.messages) + len(self.turns))

    def next_message(self, after: int) -> Message | None:
        """Return the message behind a sequence, if it is in the page."""
        at = bisect_right(self.messages, after, key=attrgetter("sequence"))
        return self.messages[at] if at < len(self.messages) else None

    def drop(self) -> None:
        """Forget what is in it: its watches read again from where they stand."""
        self.is_dropped = True
        self.turns.clear()
        self.messages.clear()


class Pages:
    """Reads pages for all watches of this worker, and bounds what they hold together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages: Shared[tuple[UUID, UUID, int, int], Page] = Shared()
        self._standings: Shared[tuple[UUID, UUID], ConversationState | None] = Shared()
        self._held: dict[Page, int] = {}
        """By page, its bytes; the page that was read first comes first."""
        self.held_bytes = 0

    async def standing(self, owner: Owner, conversation_id: UUID) -> ConversationState | None:
        """Return how a conversation stands, one statement for all that ask at the same time."""
        return await self._standings.read(
            (owner.id, conversation_id),
            lambda: self._store.standing(owner, conversation_id, may_be_behind=True),
        )

    async def read(self, owner: Owner, conversation_id: UUID, turns_from: int, above: int) -> Page:
        """Read the turn that was the newest at `turns_from`, those behind it, and messages.

        Raises: ConversationNotFound.
        Guarantees: the same statements serve all watches that stand at the same place.
        """
        return await self._pages.read(
            (owner.id, conversation_id, turns_from, above),
            lambda: self._read(owner, conversation_id, turns_from, above),
        )

    async def _read(self, owner: Owner, conversation_id: UUID, turns_from: int, above: int) -> Page:
        turns = await self._store.turns_since(
            owner, conversation_id, turns_from, limit=PAGE_TURNS + 1
        )
        query = HistoryQuery(
            conversation_id, limit=PAGE_MESSAGES, above=above, max_bytes=PAGE_BYTES
        )
        history = await self._store.history(owner, query)
        return Page(turns[:PAGE_TURNS], history, has_more_turns=len(turns) > PAGE_TURNS)

    @contextmanager
    def held(self, page: Page) -> Iterator[None]:
        """Count a page as held inside the block.

        Guarantees: a page is dropped, the one that was read first, while all together exceed their
            bound. The caller that takes least is the one to whom it happens.
        """
        page.readers += 1
        if page.readers == 1 and not page.is_dropped:
            self._held[page] = page.bytes
            self.held_bytes += self._held[page]
            while self.held_bytes > HELD_BYTES and len(self._held) > 1:
                self._drop_oldest()
        try:
            yield
        finally:
            page.readers -= 1
            if not page.readers and page in self._held:
                self.held_bytes -= self._held.pop(page)

    def _drop_oldest(self) -> None:
        page = next(iter(self._held))
        self.held_bytes -= self._held.pop(page)
        page.drop()
