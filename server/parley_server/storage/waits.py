"""The store of what turns wait for."""

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from parley_server.core.attempts.given import digest, given_body
from parley_server.core.model import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_WAITING,
    Answer,
    CallerTool,
    Given,
    Lease,
    Owner,
    PendingCall,
    Turn,
    Usage,
    WaitEnd,
    WaitKey,
)
from parley_server.core.ports import Looked
from parley_server.storage import rows
from parley_server.storage.driver.connection import Parameters
from parley_server.storage.statements import sql
from parley_server.storage.store import NOTHING_SPENT, PostgresStore


class PostgresWaits:
    """Waiting turns in Postgres."""

    def __init__(
        self,
        store: PostgresStore,
        *,
        lease_s: float,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        waiting: timedelta = DEFAULT_WAITING,
    ) -> None:
        """Make the store.

        Args:
            store: whose connections are used.
            waiting: how long a turn waits for its caller.
        """
        self._store = store
        self._lease = timedelta(seconds=lease_s)
        self._max_attempts = max_attempts
        self._waiting = waiting

    async def wait(
        self,
        owner: Owner,
        lease: Lease,
        answer: Answer,
        calls: Sequence[PendingCall],
        tools: Sequence[CallerTool],
        *,
        spent: Usage | None,
    ) -> bool | None:
        found = await self._store.ending.repeat(
            sql.WAIT,
            {
                "owner": owner.id,
                "conversation": lease.conversation_id,
                "turn": lease.turn_id,
                "fence": lease.fence,
                "waiting": self._waiting,
                "calls": rows.pending_text(calls),
                "content": answer.text,
                "tool_calls": rows.tool_calls_text(answer.tool_calls),
                "usage": rows.usage_text(answer.usage),
                "model": answer.model,
                "tools": rows.tools_text(tools),
                **(spent or NOTHING_SPENT)._asdict(),
                "feed": self._store.feed_of(owner),
            },
        )
        return not found[0][0] if found else None

    async def look(self, owner: Owner, conversation_id: UUID, turn_id: UUID) -> Looked | None:
        found = await self._store.claiming.repeat(
            sql.LOOK_AT_WAIT,
            {"owner": owner.id, "conversation": conversation_id, "turn": turn_id},
        )
        if not found:
            return None
        *row, message, tools = found[0]
        turn = rows.turn(tuple(row), self._max_attempts)
        return Looked(turn, rows.wait(tuple(row)), message or "", rows.tools(tools))

    async def give(self, owner: Owner, looked: Looked, given: Sequence[Given]) -> bool:
        return bool(await self._store.claiming.run(sql.GIVE, _giving(owner, looked, given)))

    async def resume(self, owner: Owner, looked: Looked, given: Sequence[Given]) -> Lease | None:
        parameters = {**_giving(owner, looked, given), "lease": self._lease}
        found = await self._store.claiming.run(sql.RESUME, parameters)
        return rows.lease(found[0], looked.turn) if found else None

    async def end(
        self, owner: Owner, turn: Turn, why: WaitEnd, *, only_if_over: bool = False
    ) -> Lease | None:
        found = await self._store.claiming.run(
            sql.END_WAIT,
            {
                **_as_seen(owner, turn),
                "lease": self._lease,
                "why": why.value,
                "only_if_over": only_if_over,
            },
        )
        return rows.lease(found[0], turn) if found else None

    async def due(self, *, limit: int) -> list[WaitKey]:
        found = await self._store.claiming.repeat(sql.DUE_WAITS, {"limit": limit})
        return [WaitKey(*row) for row in found]

    async def find(self, key: WaitKey) -> tuple[Owner, Turn] | None:
        found = await self._store.claiming.repeat(
            sql.DUE_TURN,
            {"owner": key.owner_id, "conversation": key.conversation_id, "turn": key.turn_id},
        )
        if not found:
            return None
        *row, tenant, user = found[0]
        return Owner(tenant, user, key.owner_id), rows.turn(tuple(row), self._max_attempts)

    async def forget(self, key: WaitKey) -> None:
        parameters = {"owner": key.owner_id, "turn": key.turn_id}
        await self._store.claiming.repeat(sql.FORGET_WAIT, parameters)


def _as_seen(owner: Owner, turn: Turn) -> Parameters:
    return {
        "owner": owner.id,
        "conversation": turn.conversation_id,
        "turn": turn.id,
        "fence": turn.fence,
    }


def _giving(owner: Owner, looked: Looked, given: Sequence[Given]) -> Parameters:
    """Return what the statements take that store what was given."""
    if looked.wait is None:
        raise AssertionError("something is given to a turn that never waited")
    known = dict(looked.wait.digests)
    new = {one.call_key: digest(one) for one in given}
    return {
        **_as_seen(owner, looked.turn),
        "known_digests": rows.digests_text(known),
        "digests": rows.digests_text({**known, **new}),
        "bodies": json.dumps([given_body(one) for one in given], ensure_ascii=False),
    }
