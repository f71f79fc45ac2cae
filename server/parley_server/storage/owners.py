"""The stores of erasure and retention."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from parley_server.core.model import DeletionStage, Erasure, Hidden, Owner, Removed, next_id
from parley_server.storage.driver.connection import Connection, Parameters, Row
from parley_server.storage.driver.connections import Connections
from parley_server.storage.statements import sql

MAX_CONVERSATIONS = 250
"""How many conversations a statement of an erasure looks at."""


class PostgresErasures:
    """What erasures remove, and their receipts."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def begin(self, owner: Owner, request_id: str) -> Erasure:
        keys = {"owner": owner.id, "request": request_id}
        found = await self._connections.repeat(sql.BEGIN_ERASURE, keys)
        if not found:
            found = await self._connections.repeat(sql.ERASURE, keys)
        return Erasure(*found[0])

    async def running(self, *, limit: int) -> list[Erasure]:
        found = await self._connections.repeat(sql.RUNNING_ERASURES, {"limit": limit})
        return [Erasure(*row) for row in found]

    async def hide(
        self, of: Erasure, from_id: UUID, *, limit: int
    ) -> tuple[list[Hidden], bool, UUID | None]:
        parameters: Parameters = {
            "owner": of.owner_id,
            "from_id": from_id,
            "start": of.start_time,
            "limit": limit,
        }
        seen = await self._connections.repeat(sql.TO_HIDE, parameters)
        due = [id_ for id_, is_due in seen if is_due]
        hidden = await self._hidden(of.owner_id, due) if due else []
        return hidden, bool(due), _next(seen, limit)

    async def _hidden(self, owner_id: UUID, due: list[UUID]) -> list[Hidden]:
        """Hide what is there, and take over what was deleted before.

        What changes between the two is still due when it is looked at again.
        """
        parameters: Parameters = {
            "owner": owner_id,
            "ids": _ids_text(due),
            "stage": DeletionStage.ERASING.value,
        }

        async def work(connection: Connection) -> list[Row]:
            async with connection.transaction():
                await connection.run(sql.LOCK_CONVERSATIONS, parameters)
                return await connection.run(sql.HIDE_CONVERSATIONS, parameters)

        found = await self._connections.with_connection(work, owner_id, may_repeat=True)
        hidden = [Hidden(*row) for row in found]
        if rest := set(due).difference(one.conversation_id for one in hidden):
            await self._connections.repeat(
                sql.ADOPT_DELETIONS, {"owner": owner_id, "ids": _ids_text(rest)}
            )
        return hidden

    async def moment(self) -> datetime:
        found = await self._connections.repeat(sql.MOMENT, {})
        moment: datetime = found[0][0]
        return moment

    async def is_settled(self, until: datetime) -> bool:
        found = await self._connections.repeat(sql.IS_SETTLED, {"until": until})
        return bool(found[0][0])

    async def note_hidden(self, of: Erasure) -> Erasure:
        found = await self._connections.repeat(sql.NOTE_HIDDEN, _keys(of))
        return Erasure(*found[0])

    async def remove_messages(
        self, of: Erasure, up_to: UUID, *, limit: int, max_bytes: int
    ) -> Removed | None:
        parameters = {**_batch(of, up_to, limit), "max_bytes": max_bytes}
        found = await self._connections.repeat(sql.ERASE_MESSAGES, parameters)
        if not found:
            return None
        messages, lowest_tried, lowest_seen, seen = found[0]
        # What was tried may have been removed by another worker meanwhile: then there may be more.
        return Removed(messages, lowest_tried or _below(lowest_seen, seen))

    async def remove_conversations(self, of: Erasure, up_to: UUID, *, limit: int) -> Removed | None:
        found = await self._connections.repeat(sql.ERASE_CONVERSATIONS, _batch(of, up_to, limit))
        if not found:
            return None
        are_gone, lowest_seen, seen = found[0]
        return Removed(0, _below(lowest_seen, seen) if are_gone else up_to)

    async def forget(self, of: Erasure) -> None:
        await self._connections.repeat(sql.FORGET_OWNER, _keys(of))

    async def finish(self, of: Erasure) -> Erasure | None:
        found = await self._connections.repeat(sql.FINISH_ERASURE, _keys(of))
        return Erasure(*found[0]) if found else None


class PostgresRetention:
    """Which conversations have become too old."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def due_owners(self, every: timedelta, *, limit: int) -> list[UUID]:
        found = await self._connections.repeat(sql.DUE_OWNERS, {"every": every, "limit": limit})
        return [row[0] for row in found]

    async def take(self, owner_id: UUID, every: timedelta) -> bool:
        parameters = {"owner": owner_id, "every": every}
        return bool(await self._connections.run(sql.TAKE_OWNER, parameters))

    async def delete_idle(self, owner_id: UUID, idle: timedelta, *, limit: int) -> list[Hidden]:
        parameters: Parameters = {"owner": owner_id, "age": idle, "limit": limit}

        async def work(connection: Connection) -> list[Row]:
            async with connection.transaction():
                found = await connection.run(sql.IDLE_CONVERSATIONS, parameters)
                return await _deleted(connection, owner_id, [id_ for (id_,) in found])

        found = await self._connections.with_connection(work, owner_id)
        return [Hidden(*row) for row in found]

    async def delete_aged(
        self, owner_id: UUID, age: timedelta, from_id: UUID, *, limit: int
    ) -> tuple[list[Hidden], UUID | None]:
        parameters: Parameters = {
            "owner": owner_id,
            "age": age,
            "from_id": from_id,
            "limit": limit,
        }
        seen: list[Row] = []

        async def work(connection: Connection) -> list[Row]:
            async with connection.transaction():
                seen[:] = await connection.run(sql.AGED_CONVERSATIONS, parameters)
                return await _deleted(connection, owner_id, [id_ for id_, is_old in seen if is_old])

        found = await self._connections.with_connection(work, owner_id)
        return [Hidden(*row) for row in found], _next(seen, limit)


async def _deleted(connection: Connection, owner_id: UUID, ids: list[UUID]) -> list[Row]:
    """Delete conversations that the transaction has locked, without a trash."""
    if not ids:
        return []
    return await connection.run(
        sql.HIDE_CONVERSATIONS,
        {"owner": owner_id, "ids": _ids_text(ids), "stage": DeletionStage.TRASHED.value},
    )


def _keys(of: Erasure) -> Parameters:
    return {"owner": of.owner_id, "request": of.request_id}


def _batch(of: Erasure, up_to: UUID, limit: int) -> Parameters:
    return {
        **_keys(of),
        "up_to": up_to,
        "limit": limit,
        "max_conversations": MAX_CONVERSATIONS,
    }


def _ids_text(ids: Iterable[UUID]) -> str:
    return json.dumps([str(id_) for id_ in ids])


def _next(seen: list[Row], limit: int) -> UUID | None:
    """Return where to go on behind what was seen, in the order of ids. None: that was all."""
    return None if len(seen) < limit else next_id(seen[-1][0])


def _below(lowest_seen: UUID | None, seen: int) -> UUID | None:
    """Return where to go on below what was seen. None: that was all."""
    if lowest_seen is None or seen < MAX_CONVERSATIONS or not lowest_seen.int:
        return None
    return UUID(int=lowest_seen.int - 1)
