"""Statements that create, change, delete and bring back conversations."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Executable,
    Interval,
    Text,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    func,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from parley_server.core.model import DeletionStage
from parley_server.storage.schema.tables import (
    conversation,
    conversation_label,
    creation,
    deletion,
    turn_queue,
)
from parley_server.storage.statements.hiding import QUEUE_PART, held_columns, hidden
from parley_server.storage.statements.listing import conversation_columns, stored_columns
from parley_server.storage.statements.parts import (
    AGENT,
    CONVERSATION,
    FINGERPRINT,
    IN_QUEUE,
    IS_IT,
    IS_THERE,
    ONE,
    OWNER,
    REQUEST,
    TENANT,
    TITLE,
    USER,
    ZERO,
    compiled,
    is_any,
    labelled,
    literal,
    noted_owner,
    one_row,
)

_LABELS = bindparam("labels", type_=Text)
_INSTRUCTIONS = bindparam("instructions", type_=Text)
_IS_IN_TRASH = (
    deletion.c.owner_id == OWNER,
    deletion.c.conversation_id == CONVERSATION,
    deletion.c.stage == literal(DeletionStage.TRASHED),
    deletion.c.due_time > func.now(),
)
"""Of a deletion, that its conversation can be brought back."""


def _create_conversation() -> Executable:
    """Make an empty conversation unless there is one. One row, as it is then, or none."""
    made = (
        insert(conversation)
        .from_select(
            [
                "owner_id",
                "id",
                "tenant_id",
                "user_id",
                "title",
                "last_sequence",
                "preview",
                "fence",
                "labels",
                "instructions",
                "agent",
            ],
            select(
                OWNER,
                CONVERSATION,
                TENANT,
                USER,
                TITLE,
                ZERO,
                literal_column("''", Text),
                ZERO,
                _LABELS,
                _INSTRUCTIONS,
                AGENT,
            ).select_from(one_row()),
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "id"])
        .returning(*stored_columns())
        .cte("made")
    )
    return select(*conversation_columns(with_instructions=True, of=made)).add_cte(
        labelled(made, made.c.labels, made.c.update_time), noted_owner(made)
    )


def _create_once() -> Executable:
    """Note that a request id creates a conversation. One row, unless it has done so before."""
    return (
        insert(creation)
        .values(
            owner_id=OWNER,
            request_id=REQUEST,
            fingerprint=FINGERPRINT,
            conversation_id=CONVERSATION,
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "request_id"])
        .returning(creation.c.conversation_id)
    )


def _update_conversation() -> Executable:
    """Change a conversation that is there and has the right revision. One row, as it is then."""
    expected = bindparam("expected", type_=BigInteger)

    def changed(name: str, value: Any) -> Any:
        is_given = cast(bindparam(f"sets_{name}", type_=Boolean), Boolean)
        return case((is_given, value), else_=conversation.c[name])

    written = (
        update(conversation)
        .values(
            title=changed("title", TITLE),
            labels=changed("labels", _LABELS),
            instructions=changed("instructions", _INSTRUCTIONS),
            agent=changed("agent", AGENT),
            revision=conversation.c.revision + ONE,
        )
        .where(*IS_IT, IS_THERE)
        .where(conversation.c.revision == func.coalesce(expected, conversation.c.revision))
        .returning(*stored_columns())
        .cte("written")
    )
    return select(*conversation_columns(with_instructions=True, of=written))


def _relabel() -> Executable:
    """Write the labels of a conversation for lists, and remove those that it had before.

    The conversation is locked by this transaction, so its labels are not changed meanwhile.
    """
    present = select(conversation.c.labels, conversation.c.update_time).where(*IS_IT).cte("present")
    kept = (
        func.json_each_text(cast(present.c.labels, JSON))
        .table_valued(column("key", Text), column("value", Text))
        .lateral("kept")
    )
    removed = (
        delete(conversation_label)
        .where(conversation_label.c.owner_id == OWNER)
        .where(conversation_label.c.conversation_id == CONVERSATION)
        .where(
            conversation_label.c.key.not_in(
                select(kept.c.key).select_from(present.join(kept, true()))
            )
        )
        .cte("removed")
    )
    return (
        select(func.count())
        .select_from(present)
        .add_cte(removed, labelled(present, present.c.labels, present.c.update_time))
    )


def _delete_conversation() -> Executable:
    """Take a conversation from every reader's and every worker's sight.

    One row, its id, the turn that was open and when it goes for good; none: there is none.
    Its open turn is closed, so that it can be tried again if the conversation is brought back. The
    transaction has locked the conversation before.
    """
    trash = cast(bindparam("trash", type_=Interval), Interval)
    held = held_columns().where(*IS_IT).cte("held")
    return hidden(held, literal(DeletionStage.TRASHED), func.now() + trash)


def _clear_queue() -> Executable:
    """Remove a part of what is left of a queue in the trash. A row for each turn of that part."""
    held = (
        select(deletion.c.conversation_id)
        .where(*_IS_IN_TRASH)
        .with_for_update(key_share=True)
        .cte("held")
    )
    part = (
        select(turn_queue.c.turn_id)
        .select_from(turn_queue.join(held, true()))
        .where(*IN_QUEUE)
        .limit(QUEUE_PART)
    )
    return (
        delete(turn_queue)
        .where(turn_queue.c.owner_id == OWNER, is_any(turn_queue.c.turn_id, part))
        .returning(turn_queue.c.turn_id)
    )


def _undelete_conversation() -> Executable:
    """Bring back a conversation of which nothing is removed yet. One row, as it is then.

    None as well: something of its queue is left, which has to go first.
    """
    kept = (
        delete(deletion)
        .where(*_IS_IN_TRASH)
        .where(~exists(select(turn_queue.c.turn_id).where(*IN_QUEUE)))
        .returning(deletion.c.update_time)
        .cte("kept")
    )
    back = (
        update(conversation)
        .values(delete_time=null(), update_time=kept.c.update_time)
        .where(*IS_IT)
        .returning(*stored_columns())
        .cte("back")
    )
    return select(*conversation_columns(with_instructions=True, of=back)).add_cte(
        labelled(back, back.c.labels, back.c.update_time)
    )


CREATE_ONCE = compiled(_create_once())
"""Note that a request id creates a conversation, unless it has done so before."""
CREATE_CONVERSATION = compiled(_create_conversation())
"""Create an empty conversation, unless its id is taken."""
CREATED = compiled(
    select(creation.c.conversation_id, creation.c.fingerprint).where(
        creation.c.owner_id == OWNER, creation.c.request_id == REQUEST
    )
)
"""Read which conversation a request id has created."""
UPDATE_CONVERSATION = compiled(_update_conversation())
"""Change a conversation that has the expected revision."""
RELABEL = compiled(_relabel())
"""Write a conversation's labels for lists."""
LOCK_CONVERSATION = compiled(select(conversation.c.id).where(*IS_IT, IS_THERE).with_for_update())
"""Lock a conversation, so that what follows in the transaction sees all that was done before."""
DELETE_CONVERSATION = compiled(_delete_conversation())
"""Hide a conversation from every call, and end its open turn."""
CLEAR_QUEUE = compiled(_clear_queue())
"""Remove what started turns of a deleted conversation would have said, a part of very much."""
UNDELETE_CONVERSATION = compiled(_undelete_conversation())
"""Bring back a deleted conversation of which nothing is removed yet."""
