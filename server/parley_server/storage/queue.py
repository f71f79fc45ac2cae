"""The store of started turns: accepted, found by workers, begun."""

from datetime import timedelta
from uuid import UUID

from psycopg import Rollback

from parley_server.core.errors import ConversationNotFound, QueueFull
from parley_server.core.model import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_MAX_QUEUED_TURNS,
    Backlog,
    Begun,
    Interrupted,
    Lease,
    NewTurn,
    NotBegun,
    Owner,
    QueueKey,
    RefusedTurn,
    Turn,
    TurnRequest,
    TurnState,
)
from parley_server.storage import rows
from parley_server.storage.driver.connection import Connection, Parameters, Row, Statement
from parley_server.storage.driver.connections import Connections
from parley_server.storage.queue_lengths import QueueLengths
from parley_server.storage.statements import sql
from parley_server.storage.store import PREVIEW_CHARACTERS, TITLE_CHARACTERS, PostgresStore

BACKLOG_LIMIT = 10_000
"""How many conversations are looked at to tell how much there is to do."""


class PostgresQueue:
    """Started turns in Postgres."""

    def __init__(
        self,
        store: PostgresStore,
        *,
        lease_s: float,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        max_queued_turns: int = DEFAULT_MAX_QUEUED_TURNS,
    ) -> None:
        """Make the store.

        Args:
            store: where turns are read, and whose connections and limits are used.
        """
        self._store = store
        self._connections: Connections = store.claiming
        self._lease = timedelta(seconds=lease_s)
        self._max_attempts = max_attempts
        self._max_queued = max_queued_turns
        self._lengths = QueueLengths(max_queued_turns)

    async def accept(self, owner: Owner, new: NewTurn) -> Turn:
        while True:
            is_counted = self._lengths.is_to_count(owner.id)
            row, limited = await self._try_accept(owner, new, is_counted=is_counted)
            if row is not None and row.id is not None:
                self._lengths.accepted(owner.id, (row.queued or 0) if is_counted else None)
                return _accepted(new, row)
            known = await self._stored(owner, new)
            if known is not None:
                return known
            if new.request_id is not None:
                await self._store.check_not_deleted(owner, new.request_id)
            if row is None and not new.is_new_conversation:
                raise ConversationNotFound(new.conversation_id)
            self._store.refuse_limited(limited)
            if row is not None and (row.queued or 0) >= self._max_queued:
                raise QueueFull(self._max_queued)
            if row is not None and new.request_id is None:
                # An earlier try has stored it, and its conversation was deleted since.
                raise ConversationNotFound(new.conversation_id)
            # What stood in the way is gone again.

    async def _stored(self, owner: Owner, new: NewTurn) -> Turn | None:
        """Return the turn that was accepted, by an earlier call or an earlier try of this one."""
        if new.request_id is not None:
            return await self._store.find(owner, new.request_id)
        return await self._store.turn(owner, new.conversation_id, new.id)

    async def _try_accept(
        self, owner: Owner, new: NewTurn, *, is_counted: bool
    ) -> tuple[rows.Accepted | None, rows.Limited]:
        """Try to accept.

        Args:
            is_counted: whether the owner's queue is counted, and the turn refused if it is full.
        Returns: None: there is no such conversation.
        """
        is_limited = self._store.is_limited(new)
        parameters: Parameters = {
            "owner": owner.id,
            "conversation": new.conversation_id,
            "turn": new.id,
            "request": new.request_id,
            "fingerprint": new.fingerprint,
            "agent": new.agent,
            "content": new.message,
            "expected": new.expected_sequence,
            "tools": rows.tools_text(new.tools),
            "max_queued": self._max_queued if is_counted else None,
            **self._store.limits(),
            "tenant": owner.tenant,
            "user": owner.user,
            "title": "",
            "feed": self._store.feed_of(owner),
        }
        if new.is_new_conversation:
            statement = sql.ACCEPT_NEW_LIMITED if is_limited else sql.ACCEPT_NEW
        else:
            statement = sql.ACCEPT_LIMITED if is_limited else sql.ACCEPT
        found = await self._connections.repeat(statement, parameters)
        if not found and new.allow_missing:
            found = await self._accepted_under_new_id(owner, statement, parameters)
        if not found:
            return None, rows.Limited()
        columns = len(rows.Accepted._fields)
        return rows.Accepted(*found[0][:columns]), rows.Limited(*found[0][columns:])

    async def _accepted_under_new_id(
        self, owner: Owner, accept: Statement, parameters: Parameters
    ) -> list[Row]:
        """Make the conversation and accept, both or neither."""

        async def work(connection: Connection) -> list[Row]:
            found: list[Row] = []
            async with connection.transaction() as transaction:
                await connection.run(sql.CREATE, parameters)
                found = await connection.run(accept, parameters)
                if not found or found[0][0] is None:  # deleted, or over a limit
                    raise Rollback(transaction)
            return found

        return await self._connections.with_connection(work, owner.id, may_repeat=True)

    async def requeue(self, owner: Owner, turn: Turn, new: NewTurn) -> bool:
        found = await self._connections.run(
            sql.REQUEUE,
            {
                "owner": owner.id,
                "conversation": turn.conversation_id,
                "turn": turn.id,
                "content": new.message,
                "tools": rows.tools_text(new.tools),
                "expected": None,
                "max_attempts": self._max_attempts,
                "feed": self._store.feed_of(owner),
            },
        )
        return bool(found)

    async def due(self, *, limit: int) -> list[QueueKey]:
        found = await self._connections.repeat(sql.DUE_QUEUES, {"limit": limit})
        return [QueueKey(*row) for row in found]

    async def begin(self, key: QueueKey) -> Begun | Interrupted | RefusedTurn | NotBegun:
        found = await self._connections.run(
            sql.BEGIN,
            {
                "owner": key.owner_id,
                "conversation": key.conversation_id,
                "lease": self._lease,
                "title_characters": TITLE_CHARACTERS,
                "preview_characters": PREVIEW_CHARACTERS,
            },
        )
        if not found:
            return NotBegun.CONTENDED
        row = rows.BeginRow(*found[0])
        if not row.is_current:
            return NotBegun.CONTENDED
        owner = Owner(row.tenant, row.user, key.owner_id)
        if row.user_sequence is not None and not row.user_sequence:
            return RefusedTurn(owner)
        if not row.is_free or row.turn_id is None or row.message is None:
            return NotBegun.BUSY
        if row.user_sequence is None:
            tools = rows.tools(row.tools)
            return Interrupted(owner, key.conversation_id, row.turn_id, row.message, tools)
        lease = Lease(
            key.conversation_id,
            row.turn_id,
            attempt=1,
            fence=row.fence + 1,
            user_sequence=row.user_sequence,
            is_taken_over=row.open_turn_id is not None,
            instructions=row.instructions or "",
            is_started=True,
            agent=row.agent or "",
        )
        ask = TurnRequest(
            key.conversation_id,
            row.message,
            request_id=row.request_id,
            agent=row.agent or "",
            tools=rows.tools(row.tools),
        )
        return Begun(owner, lease, ask)

    async def give_up(self, of: Interrupted) -> None:
        await self._connections.repeat(
            sql.GIVE_UP,
            {
                "owner": of.owner.id,
                "conversation": of.conversation_id,
                "turn": of.turn_id,
                "feed": self._store.feed_of(of.owner),
            },
        )

    async def wake(self, owner: Owner, conversation_id: UUID) -> None:
        parameters = {"owner": owner.id, "conversation": conversation_id}
        await self._connections.repeat(sql.WAKE_QUEUE, parameters)

    async def backlog(self) -> Backlog:
        ((started, age_s, waiting),) = await self._connections.repeat(
            sql.BACKLOG, {"limit": BACKLOG_LIMIT}
        )
        return Backlog(int(started), float(age_s), waiting)


def _accepted(new: NewTurn, row: rows.Accepted) -> Turn:
    """Return a turn that was just stored, as reading it would."""
    return Turn(
        id=new.id,
        conversation_id=new.conversation_id,
        request_id=new.request_id,
        fingerprint=new.fingerprint,
        agent=new.agent,
        state=TurnState.QUEUED,
        attempt=0,
        user_sequence=0,
        response_sequence=None,
        error_reason=None,
        error_text="",
        create_time=row.create_time,
        end_time=None,
        context=None,
        answer=None,
        is_newest=False,
        fence=row.fence,
        is_cancel_requested=False,
        last_sequence=row.last_sequence,
    )
