"""Statements that read what a turn's agent was shown and did."""

from typing import Any

from sqlalchemy import Select, select

from parley_server.storage.schema.tables import conversation, turn
from parley_server.storage.statements.limiting import limits
from parley_server.storage.statements.parts import AGENT, compiled, one_row
from parley_server.storage.statements.waiting import looked_at


def _explain() -> Select[Any]:
    """Read a turn as LOOK_AT_WAIT does, and what is kept of it for explaining."""
    return looked_at().add_columns(
        conversation.c.instructions.label("told"),
        turn.c.instructions_digest,
        turn.c.attempt_time,
        turn.c.attempts,
    )


def _reached_limits() -> Select[Any]:
    """Read which limits an owner has reached, for one agent. One row, `rows.Limited`."""
    limit = limits(select(AGENT.label("agent")).select_from(one_row()))
    return select(*limit.columns()).select_from(one_row())


EXPLAIN = compiled(_explain())
"""Read a turn, its message, its attempts, and what its agent was told."""
REACHED_LIMITS = compiled(_reached_limits())
"""Read whether an owner has reached its turns of a minute or its tokens of a day, or an agent's."""
