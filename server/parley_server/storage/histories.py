"""The store of messages that are added without an agent, and of exports."""

from collections.abc import Callable
from uuid import UUID

from psycopg import Rollback

from parley_server.core.errors import (
    ConversationNotFound,
    RequestIdReused,
    SequenceMismatch,
)
from parley_server.core.model import Added, Conversation, NewMessages, Owner
from parley_server.core.ports import NotAdded
from parley_server.storage import rows
from parley_server.storage.driver.connection import Connection, Parameters, Row
from parley_server.storage.driver.connections import Connections
from parley_server.storage.statements import sql
from parley_server.storage.store import PREVIEW_CHARACTERS, TITLE_CHARACTERS, refuse_busy


class PostgresHistories:
    """Messages in Postgres, as they are brought from elsewhere and taken out again."""

    def __init__(self, connections: Connections, feed_of: Callable[[Owner], UUID | None]) -> None:
        """Make the store.

        Args:
            feed_of: the feed of an owner's tenant; None: no feed is kept.
        """
        self._connections = connections
        self._feed_of = feed_of

    async def add(self, owner: Owner, new: NewMessages) -> Added | NotAdded:
        while True:
            held = await self._try_add(owner, new)
            if held is not None and held.first_sequence is not None:
                first, last = held.first_sequence, held.last_added or 0
                return Added(
                    new.conversation_id,
                    first,
                    last,
                    is_replayed=False,
                    has_ended_turn=held.open_turn_id is not None,
                )
            # The request id is known, or the conversation is busy. Checked in this order.
            known = await self.added(owner, new)
            if known is not None:
                return known
            if held is None:
                raise ConversationNotFound(new.conversation_id)
            if new.expected_sequence not in (None, held.last_sequence):
                raise SequenceMismatch(held.last_sequence)
            await refuse_busy(self._connections, owner, new.conversation_id, held)
            if held.clash is not None or _is_late(new, held):
                return NotAdded(held.clash, held.now)
            # What stood in the way is gone again: another call under this request id was undone.

    async def _try_add(self, owner: Owner, new: NewMessages) -> rows.AdditionRow | None:
        """Add the messages, or return the conversation as it was found; None: there is none."""
        times = [message.create_time for message in new.messages if message.create_time]
        parameters: Parameters = {
            "owner": owner.id,
            "conversation": new.conversation_id,
            "request": new.request_id,
            "fingerprint": new.fingerprint(),
            "expected": new.expected_sequence,
            "latest": max(times, default=None),
            "messages": rows.messages_text(new.messages),
            "count": len(new.messages),
            "title": new.messages[0].content[:TITLE_CHARACTERS],
            "preview": new.messages[-1].content[:PREVIEW_CHARACTERS],
            "feed": self._feed_of(owner),
        }
        may_repeat = new.request_id is not None
        found = await self._connections.with_connection(
            lambda connection: connection.run(sql.ADD_MESSAGES, parameters),
            owner.id,
            may_repeat=may_repeat,
        )
        if not found and new.allow_missing:
            made = {**parameters, "tenant": owner.tenant, "user": owner.user}

            async def work(connection: Connection) -> list[Row]:
                """Make the conversation and add the messages, both or neither."""
                found: list[Row] = []
                async with connection.transaction() as transaction:
                    await connection.run(sql.CREATE, made)
                    found = await connection.run(sql.ADD_MESSAGES, parameters)
                    if not found or found[0][0] is None:
                        raise Rollback(transaction)
                return found

            found = await self._connections.with_connection(work, owner.id, may_repeat=may_repeat)
        return rows.AdditionRow(*found[0]) if found else None

    async def added(self, owner: Owner, new: NewMessages) -> Added | None:
        if new.request_id is None:
            return None
        found = await self._connections.repeat(
            sql.ADDED, {"owner": owner.id, "request": new.request_id}
        )
        if not found:
            return None
        conversation_id, fingerprint, first, last, is_there = found[0]
        # Of a conversation that is deleted none is kept.
        if fingerprint and fingerprint != new.fingerprint():
            raise RequestIdReused(new.request_id)
        if not is_there:
            raise ConversationNotFound(conversation_id)
        return Added(conversation_id, first, last, is_replayed=True)

    async def exported(self, owner: Owner, from_id: UUID, *, limit: int) -> list[Conversation]:
        found = await self._connections.read(
            sql.EXPORTED_CONVERSATIONS, {"owner": owner.id, "from_id": from_id, "limit": limit}
        )
        return [rows.conversation(row) for row in found]


def _is_late(new: NewMessages, held: rows.AdditionRow) -> bool:
    """Whether one of the messages was written later than the store's clock allows."""
    return any(message.is_later_than(held.now) for message in new.messages)
