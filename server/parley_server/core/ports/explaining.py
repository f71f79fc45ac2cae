"""Where it is read what a turn's agent was shown and did."""

from typing import Protocol
from uuid import UUID

from parley_server.core.model import Owner, Rehearsed, TurnRecord, WindowMessage


class ExplainStore(Protocol):
    """Reads for explaining and for rehearsals. None of its methods writes anything.

    Any of them raises StoreUnavailable when the database did not carry it out. None is cancelled
    (decision 0004).
    """

    async def record(self, owner: Owner, conversation_id: UUID, turn_id: UUID) -> TurnRecord | None:
        """Read a turn with its message, its attempts, and what its agent was told."""
        ...

    async def shown(
        self, owner: Owner, conversation_id: UUID, first: int, before: int
    ) -> list[WindowMessage]:
        """Read messages as `Store.window`, however much text they have, without opaque states.

        Args:
            first, before: the sequences from which on, and up to which, they are read.
        """
        ...

    async def check_limits(
        self, owner: Owner, agent: str, tokens_a_day: int | None, rehearsed: Rehearsed
    ) -> None:
        """Look whether the owner has reached one of its limits, with what it has rehearsed.

        Args:
            tokens_a_day: what it may use with this agent. None: no limit.
        Raises: TurnLimitReached, BudgetExhausted.
        """
        ...
