"""The statement that stores events of an attempt under way."""

from sqlalchemy import JSON, Executable, Integer, Text, bindparam, cast, column, func, select
from sqlalchemy.dialects.postgresql import insert

from parley_server.storage.schema.tables import conversation, turn_event
from parley_server.storage.statements.parts import (
    ATTEMPT,
    CONVERSATION,
    FENCE,
    OWNER,
    TURN,
    compiled,
)


def _append() -> Executable:
    """Store events while the lease is this attempt's. One row, its fence, if it is.

    An index that is there already was stored by an earlier try whose outcome got lost. The lock
    keeps the conversation from being deleted meanwhile; no other statement of a turn waits for it.
    """
    ours = (
        select(conversation.c.fence)
        .where(conversation.c.owner_id == OWNER, conversation.c.id == CONVERSATION)
        .where(conversation.c.fence == FENCE, conversation.c.open_turn_id == TURN)
        .with_for_update(read=True, key_share=True)
        .cte("ours")
    )
    given = (
        func.json_to_recordset(cast(bindparam("events", type_=Text), JSON))
        .table_valued(column("index", Integer), column("text", Text), column("tool_call", Text))
        .render_derived(name="given", with_types=True)
    )
    stored = (
        insert(turn_event)
        .from_select(
            ["owner_id", "turn_id", "attempt", "index", "text", "tool_call"],
            select(OWNER, TURN, ATTEMPT, given.c.index, given.c.text, given.c.tool_call).where(
                ours.c.fence == FENCE
            ),
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "turn_id", "attempt", "index"])
        .cte("stored")
    )
    return select(ours.c.fence).add_cte(stored)


APPEND = compiled(_append())
"""Store pieces of an answer under way, under the fence."""
