"""Reading everything that an owner has stored, page by page."""

import asyncio
import random
from collections.abc import AsyncGenerator

from parley_server.core.errors import ConversationNotFound, ExportExpired, WorkerDrained
from parley_server.core.model import (
    FIRST_ID,
    ExportCursor,
    ExportDone,
    ExportPage,
    ExportPart,
    HistoryQuery,
    Owner,
    next_id,
)
from parley_server.core.ports import HistoryStore, Store
from parley_server.core.streams.watches import WATCH_S
from parley_server.core.tasks import Tasks

PAGE_CONVERSATIONS = 50
"""How many are read at once: their instructions may have 8 KiB each."""
PAGE_MESSAGES = 500


class Exports:
    """The exports of this worker's callers."""

    def __init__(self, store: Store, histories: HistoryStore) -> None:
        self._store = store
        self._histories = histories
        self._tasks = Tasks()
        self._is_draining = False

    def drain(self) -> None:
        """End every export, and begin no more."""
        self._is_draining = True

    async def export(
        self, owner: Owner, after: ExportCursor | None
    ) -> AsyncGenerator[ExportPage, None]:
        """Yield conversations in the order of their ids, each with its messages behind it.

        Args:
            after: the place to continue from; None: the beginning.
        Yields: pages of at most PAGE_CONVERSATIONS conversations, or of at most PAGE_MESSAGES
            messages and 1 MiB; the last part is ExportDone.
        Raises: StoreUnavailable; ExportExpired after about four minutes; WorkerDrained.
        Guarantees: of what is there all the time, every part once. A part's cursor leads to the
            parts behind it. A conversation that is deleted meanwhile ends where it is.
        """
        spread = random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        ends_at = asyncio.get_running_loop().time() + WATCH_S * spread
        reached = after
        async for page in self._pages(owner, after):
            self._check_over(ends_at)
            reached = page[-1].cursor
            yield page
            self._check_over(ends_at)
        yield [ExportPart(ExportDone(), reached)]

    def _check_over(self, ends_at: float) -> None:
        """Raise WorkerDrained or ExportExpired once an export is to end."""
        if self._is_draining:
            raise WorkerDrained
        if asyncio.get_running_loop().time() >= ends_at:
            raise ExportExpired

    async def _pages(
        self, owner: Owner, after: ExportCursor | None
    ) -> AsyncGenerator[ExportPage, None]:
        if after is not None:
            async for page in self._messages(owner, after):
                yield page
        from_id = FIRST_ID if after is None else next_id(after.conversation_id)
        while from_id is not None:
            found = await self._tasks.shielded(
                self._histories.exported(owner, from_id, limit=PAGE_CONVERSATIONS)
            )
            for conversation in found:
                beginning = ExportCursor(conversation.id, 0)
                itself = ExportPart(conversation, beginning)
                if not conversation.last_sequence:
                    yield [itself]
                    continue
                async for page in self._messages(owner, beginning, itself):
                    yield page
            is_last = len(found) < PAGE_CONVERSATIONS
            from_id = None if is_last else next_id(found[-1].id)

    async def _messages(
        self, owner: Owner, after: ExportCursor, *lead: ExportPart
    ) -> AsyncGenerator[ExportPage, None]:
        """Yield the messages of a conversation behind a place, page by page.

        Args:
            lead: what comes before them, on the first page.
        """
        conversation_id, sequence = after
        has_more = True
        while has_more:
            query = HistoryQuery(conversation_id, limit=PAGE_MESSAGES, above=sequence)
            try:
                found = await self._tasks.shielded(self._store.history(owner, query))
            except ConversationNotFound:
                return  # deleted meanwhile
            has_more = found.has_more
            page = [
                ExportPart(message, ExportCursor(conversation_id, message.sequence))
                for message in found.messages
            ]
            if page or lead:
                yield [*lead, *page]
                lead = ()
            if page:
                sequence = found.messages[-1].sequence
