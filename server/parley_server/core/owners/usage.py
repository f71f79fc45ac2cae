"""Reading what an owner's turns used."""

from parley_server.core.errors import InvalidRequest, Violation
from parley_server.core.model import DayUsage, Owner, UsageQuery
from parley_server.core.ports import UsageStore
from parley_server.core.tasks import Tasks

MAX_ROWS = 10_000
"""What fits into one answer, however long agents' names and labels are."""


class UsageReads:
    """Reads the ledger, which the statements that end attempts write."""

    def __init__(self, store: UsageStore) -> None:
        self._store = store
        self._tasks = Tasks()

    async def usage(self, owner: Owner, query: UsageQuery) -> list[DayUsage]:
        """Read what turns used, by day, agent and value of the label, as far as it is asked for.

        Raises: InvalidRequest: there are more rows than fit into an answer.
        """
        found = await self._tasks.shielded(self._store.usage(owner, query, limit=MAX_ROWS + 1))
        if len(found) > MAX_ROWS:
            raise InvalidRequest(
                [
                    Violation(
                        "start_date",
                        "TOO_MANY_ROWS",
                        f"leads to more than {MAX_ROWS} rows: ask for fewer days at once, or for "
                        "less than a row for each agent and label",
                    )
                ]
            )
        return found
