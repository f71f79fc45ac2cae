"""What reading usage asks of the world."""

from typing import Protocol

from parley_server.core.model import DayUsage, Owner, UsageQuery


class UsageStore(Protocol):
    """Where it is kept what turns used."""

    async def usage(self, owner: Owner, query: UsageQuery, *, limit: int) -> list[DayUsage]:
        """Read the sums of what attempts used, by day and what else is asked for.

        Returns: at most `limit`, by day, agent and value of the label; nothing for days without an
            attempt.
        Raises: StoreUnavailable.
        """
        ...
