"""The store of conversations themselves: created, listed, changed, deleted, and removed."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from psycopg import Rollback

from parley_server.core.errors import (
    ConversationExists,
    ConversationNotFound,
    NotATurnBoundary,
    RequestIdReused,
    RevisionMismatch,
    SequenceNotReached,
)
from parley_server.core.model import (
    Conversation,
    ConversationChange,
    ConversationCursor,
    ConversationPage,
    ConversationQuery,
    Deleted,
    Deletion,
    DeletionStage,
    NewConversation,
    NewFork,
    Owner,
)
from parley_server.storage import rows
from parley_server.storage.driver.connection import Connection, Parameters, Row, Statement
from parley_server.storage.driver.connections import Connections
from parley_server.storage.statements import sql

_OF_SOURCE = len(rows.ForkRow._fields)
"""How many columns of FORK come before those of the conversation that it makes."""


class PostgresConversations:
    """Conversations in Postgres, without what is said in them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def create(
        self, owner: Owner, conversation_id: UUID, new: NewConversation
    ) -> tuple[Conversation, bool]:
        parameters: Parameters = {
            "owner": owner.id,
            "conversation": conversation_id,
            "tenant": owner.tenant,
            "user": owner.user,
            "request": new.request_id,
            "fingerprint": new.fingerprint(),
            "title": new.title,
            "labels": rows.labels_text(new.labels),
            "instructions": new.instructions or None,
            "agent": new.agent or None,
        }
        found = await self._made(sql.CREATE_CONVERSATION, parameters, bool)
        if found:
            return rows.conversation(found[0]), True
        return await self._known(owner, parameters), False

    async def fork(
        self, owner: Owner, conversation_id: UUID, new: NewFork
    ) -> tuple[Conversation, bool]:
        parameters: Parameters = {
            "owner": owner.id,
            "conversation": conversation_id,
            "tenant": owner.tenant,
            "user": owner.user,
            "request": new.request_id,
            "fingerprint": new.fingerprint(),
            "source": new.source_id,
            "up_to": new.up_to_sequence,
        }
        found = await self._made(sql.FORK, parameters, _is_forked)
        if _is_forked(found):
            return rows.conversation(found[0][_OF_SOURCE:]), True
        if not found:  # also if the request id is known, or if there is nothing to copy
            return await self._known(owner, parameters, else_missing=new.source_id), False
        source = rows.ForkRow(*found[0][:_OF_SOURCE])
        if source.up_to > source.last_sequence:
            raise SequenceNotReached(source.up_to, source.last_sequence, "up_to_sequence")
        if not source.is_whole:
            raise NotATurnBoundary(source.up_to, previous_boundary=source.up_to - 1)
        raise ConversationExists(conversation_id)

    async def _made(
        self, statement: Statement, parameters: Parameters, is_made: Callable[[list[Row]], bool]
    ) -> list[Row]:
        """Note the request id, and run a statement that makes a conversation: both or neither.

        Returns: the statement's rows; none as well: the request id is known.
        """

        async def work(connection: Connection) -> list[Row]:
            found: list[Row] = []
            async with connection.transaction() as transaction:
                is_first = parameters["request"] is None or await connection.run(
                    sql.CREATE_ONCE, parameters
                )
                if is_first:
                    found = await connection.run(statement, parameters)
                if not is_made(found):
                    raise Rollback(transaction)
            return found

        return await self._connections.with_connection(
            work, parameters["owner"], may_repeat=parameters["request"] is not None
        )

    async def _known(
        self, owner: Owner, parameters: Parameters, *, else_missing: UUID | None = None
    ) -> Conversation:
        """Return the conversation that a request id has created.

        Args:
            else_missing: what was not found, if the request id has created nothing.
        Raises: RequestIdReused; ConversationNotFound; ConversationExists: the id that the new one
            was to have is taken.
        """
        request_id = parameters["request"]
        if request_id is not None:
            found = await self._connections.repeat(sql.CREATED, parameters)
            if found:
                created_id, fingerprint = found[0]
                # Of a conversation that is deleted none is kept.
                if fingerprint and fingerprint != parameters["fingerprint"]:
                    raise RequestIdReused(request_id)
                return await self.get(owner, created_id)
        if else_missing is not None:
            raise ConversationNotFound(else_missing)
        raise ConversationExists(parameters["conversation"])

    async def get(
        self, owner: Owner, conversation_id: UUID, *, may_be_behind: bool = False
    ) -> Conversation:
        read = self._connections.read if may_be_behind else self._connections.repeat
        parameters = {"owner": owner.id, "conversation": conversation_id}
        found = await read(sql.GET_CONVERSATION, parameters)
        if not found:
            raise ConversationNotFound(conversation_id)
        return rows.conversation(found[0])

    async def list(self, owner: Owner, query: ConversationQuery) -> ConversationPage:
        parameters: Parameters = {
            "owner": owner.id,
            "labels": rows.labels_text(query.labels),
            "updated_after": query.updated_after,
            "after_time": query.after.update_time if query.after else None,
            "after_id": query.after.id if query.after else None,
            "limit": query.limit + 1,
        }
        if query.labels:
            return await self._listed_by_labels(parameters, query.limit)
        found = await self._connections.read(sql.CONVERSATIONS, parameters)
        conversations = await rows.in_slices(found[: query.limit], rows.conversation)
        last = conversations[-1] if len(found) > query.limit else None
        cursor = ConversationCursor(last.update_time, last.id) if last else None
        return ConversationPage(conversations, cursor)

    async def _listed_by_labels(self, parameters: Parameters, limit: int) -> ConversationPage:
        found = await self._connections.read(sql.CONVERSATIONS_BY_LABELS, parameters)
        page = [rows.ListedRow(row[0], row[1], row[2], row[3:]) for row in found[:limit]]
        matching = [row.conversation for row in page if row.conversation[0] is not None]
        conversations = await rows.in_slices(matching, rows.conversation)
        has_more = len(found) > limit or any(row.is_last for row in page)
        cursor = ConversationCursor(page[-1].update_time, page[-1].id) if has_more else None
        return ConversationPage(conversations, cursor)

    async def update(self, owner: Owner, change: ConversationChange) -> Conversation:
        parameters: Parameters = {
            "owner": owner.id,
            "conversation": change.conversation_id,
            "sets_title": change.title is not None,
            "title": change.title or "",
            "sets_labels": change.labels is not None,
            "labels": rows.labels_text(change.labels or {}),
            "sets_instructions": change.instructions is not None,
            "instructions": change.instructions or None,
            "sets_agent": change.agent is not None,
            "agent": change.agent or None,
            "expected": change.expected_revision,
        }

        async def work(connection: Connection) -> list[Row]:
            async with connection.transaction():
                found = await connection.run(sql.UPDATE_CONVERSATION, parameters)
                if found and change.labels is not None:
                    await connection.run(sql.RELABEL, parameters)
            return found

        found = await self._connections.with_connection(work, owner.id, may_repeat=True)
        if found:
            return rows.conversation(found[0])
        present = await self.get(owner, change.conversation_id)
        is_next = present.revision - 1 == change.expected_revision
        if is_next and change.is_made_in(present):
            return present
        raise RevisionMismatch(present.revision)

    async def delete(
        self, owner: Owner, conversation_id: UUID, *, trash: timedelta
    ) -> Deleted | None:
        parameters: Parameters = {
            "owner": owner.id,
            "conversation": conversation_id,
            "trash": trash,
        }

        async def work(connection: Connection) -> list[Row]:
            async with connection.transaction():
                if not await connection.run(sql.LOCK_CONVERSATION, parameters):
                    return []
                return await connection.run(sql.DELETE_CONVERSATION, parameters)

        found = await self._connections.with_connection(work, owner.id)
        return Deleted(*found[0][1:]) if found else None

    async def undelete(self, owner: Owner, conversation_id: UUID) -> Conversation:
        parameters = {"owner": owner.id, "conversation": conversation_id}
        while not (found := await self._connections.repeat(sql.UNDELETE_CONVERSATION, parameters)):
            # As long as something of its queue is left, it is not brought back.
            if not await self._connections.repeat(sql.CLEAR_QUEUE, parameters):
                return await self.get(owner, conversation_id)
        return rows.conversation(found[0])


def _is_forked(found: list[Row]) -> bool:
    return bool(found) and found[0][_OF_SOURCE] is not None


class PostgresDeletions:
    """What is due about deleted conversations of all owners."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def due(self, *, limit: int) -> list[Deletion]:
        found = await self._connections.repeat(sql.DUE_DELETIONS, {"limit": limit})
        return [Deletion(owner, id_, DeletionStage(stage)) for owner, id_, stage in found]

    async def purge(
        self, of: Deletion, *, limit: int, max_bytes: int, tombstone: timedelta
    ) -> tuple[bool, int]:
        found = await self._connections.run(
            sql.PURGE,
            {
                "owner": of.owner_id,
                "conversation": of.conversation_id,
                "limit": limit,
                "max_bytes": max_bytes,
                "tombstone": tombstone,
            },
        )
        if not found:
            return False, 0
        stage, count = found[0]
        return stage == DeletionStage.PURGING, count

    async def forget(self, of: Deletion, *, limit: int) -> bool:
        parameters = {"owner": of.owner_id, "conversation": of.conversation_id, "limit": limit}
        found = await self._connections.run(sql.FORGET, parameters)
        return bool(found) and not found[0][0]
