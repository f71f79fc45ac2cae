"""Statements that read what a turn's agent was shown and did."""

from typing import Any

from sqlalchemy import Select, and_, select

from parley_server.storage.schema.tables import conversation, message, turn, turn_wait
from parley_server.storage.statements.limiting import limits
from parley_server.storage.statements.parts import CONVERSATION, OWNER, TURN, compiled, one_row
from parley_server.storage.statements.reading import turn_as_read


def _explain() -> Select[Any]:
    """Read a turn with its message, and what is kept of it for explaining."""
    asked = message.alias("asked")
    its_own = and_(
        asked.c.owner_id == OWNER,
        asked.c.conversation_id == CONVERSATION,
        asked.c.sequence == turn.c.user_sequence,
    )
    return (
        turn_as_read(turn.c.id == TURN, turn.c.conversation_id == CONVERSATION)
        .outerjoin(asked, its_own)
        .add_columns(
            asked.c.content.label("asked_content"),
            turn_wait.c.tools,
            conversation.c.instructions.label("told"),
            turn.c.instructions_digest,
            turn.c.attempt_time,
            turn.c.attempts,
        )
    )


def _reached_limits() -> Select[Any]:
    """Read which of its limits an owner has reached. One row, `rows.Limited`."""
    limit = limits()
    return select(*limit.columns()).select_from(one_row())


EXPLAIN = compiled(_explain())
"""Read a turn, its message, its attempts, and what its agent was told."""
REACHED_LIMITS = compiled(_reached_limits())
"""Read whether an owner has reached its turns of a minute or its tokens of a day."""
