"""The store of the feed of turns that ended."""

import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from uuid import UUID, uuid4

import structlog

from parley_server.core.model import (
    FailureReason,
    FeedEntry,
    FeedPage,
    FeedPlace,
    FeedScope,
    Turn,
    tenant_feed,
)
from parley_server.storage import rows
from parley_server.storage.driver.connection import Row
from parley_server.storage.driver.connections import Connections, StatementFailed
from parley_server.storage.statements import sql

log = structlog.get_logger("parley.storage")

INSUFFICIENT_PRIVILEGE = "42501"


class PostgresFeed:
    """The feed in Postgres. It is read on the primary only: a standby knows less, and forgets."""

    def __init__(self, connections: Connections, *, max_attempts: int) -> None:
        """Make the store.

        Args:
            max_attempts: how many attempts of a turn may fail in a row.
        """
        self._connections = connections
        self._max_attempts = max_attempts
        self._has_warned = False

    async def feed(self, scope: FeedScope, after: FeedPlace, *, limit: int) -> FeedPage:
        parameters = {"after_xid": after.xid, "after_turn": after.turn_id, "limit": limit}
        if scope.is_tenant:
            parameters["feed"] = tenant_feed(scope.owner.tenant)
            found = await self._connections.with_connection(
                lambda connection: connection.run(sql.FEED_OF_TENANT, parameters),
                scope.owner.id,
                may_repeat=True,
            )
        else:
            parameters["owner"] = scope.owner.id
            found = await self._connections.repeat(sql.FEED_OF_OWNER, parameters)
        epoch, removed_xid, horizon, next_xid = found[0][:4]
        ended = [_entry(row[4:]) for row in found if row[4] is not None]
        safe = tuple(entry for entry in ended if entry.place.xid < horizon)
        return FeedPage(
            safe,
            is_full=len(safe) == limit,
            is_pending=len(safe) < len(ended),
            epoch=epoch,
            horizon=FeedPlace(horizon),
            removed_xid=removed_xid,
            next_xid=next_xid,
        )

    async def fed_turns(
        self, owner_id: UUID, tenant: str, turns: Collection[UUID], labels: Mapping[str, str]
    ) -> dict[UUID, tuple[Turn, str]]:
        found = await self._connections.repeat(
            sql.FED_TURNS,
            {
                "owner": owner_id,
                "tenant": tenant,
                "turns": json.dumps([str(turn_id) for turn_id in turns]),
                "labels": rows.labels_text(labels),
            },
        )
        known = [(rows.turn(row[:-1], self._max_attempts), row[-1]) for row in found]
        return {turn.id: (turn, user) for turn, user in known}

    async def settle(self) -> None:
        await self._connections.repeat(sql.SETTLE_FEED, {})

    async def adopt(self) -> None:
        try:
            written_on = await self._connections.repeat(sql.ADOPT_FEED, {"epoch": uuid4()})
        except StatementFailed as error:
            if error.sqlstate != INSUFFICIENT_PRIVILEGE:
                raise
            if not self._has_warned:
                self._has_warned = True
                log.warning(
                    "cursors of the feed are not checked against the server they were made on: "
                    "grant EXECUTE on pg_control_system() to the server's role"
                )
            return
        if written_on and written_on[0][0] is not None:
            log.info("feed begun: cursors from another server count as expired")

    async def trim(self, keep: timedelta, *, limit: int) -> int:
        found = await self._connections.run(sql.TRIM_FEED, {"keep": keep, "limit": limit})
        count: int = found[0][0]
        return count


def _entry(row: Row) -> FeedEntry:
    owner_id, xid, turn_id, attempt, error_reason, end_time, is_waiting = row
    reason = None if error_reason is None else FailureReason(error_reason)
    return FeedEntry(owner_id, FeedPlace(xid, turn_id), attempt, reason, end_time, is_waiting)
