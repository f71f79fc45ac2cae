"""The store of what turns used."""

from parley_server.core.model import DayUsage, Owner, Usage, UsageQuery
from parley_server.storage import rows
from parley_server.storage.driver.connection import Row
from parley_server.storage.driver.connections import Connections
from parley_server.storage.statements import sql


class PostgresUsage:
    """The ledger in Postgres, as it is read."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def usage(self, owner: Owner, query: UsageQuery, *, limit: int) -> list[DayUsage]:
        found = await self._connections.read(
            sql.GET_USAGE,
            {
                "owner": owner.id,
                "first_day": query.first_day,
                "last_day": query.last_day,
                "by_agent": query.by_agent,
                "by_label": query.by_label,
                "labels": rows.labels_text(query.labels),
                "limit": limit,
            },
        )
        return await rows.in_slices(found, _day_usage)


def _day_usage(row: Row) -> DayUsage:
    day, agent, label_value, *used, turns, attempts, failed_attempts = row
    return DayUsage(day, agent, label_value, Usage(*used), turns, attempts, failed_attempts)
