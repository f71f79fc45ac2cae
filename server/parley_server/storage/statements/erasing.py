"""Statements of an erasure: its receipt, and the removal of what it has hidden, batch by batch.

Any worker runs them. A batch locks its row of `erasure`, so that no two workers do the same.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    Date,
    DateTime,
    Executable,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    column,
    delete,
    desc,
    func,
    literal_column,
    not_,
    or_,
    select,
    table,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as insert_unless

from parley_server.core.model import DeletionStage, Role
from parley_server.storage.schema.tables import (
    addition,
    conversation,
    conversation_label,
    creation,
    deletion,
    erasure,
    message,
    owner,
    queue_due,
    turn,
    turn_event,
    turn_feed,
    turn_queue,
    turn_step,
    turn_wait,
    usage_day,
    wait_due,
)
from parley_server.storage.statements.hiding import stage_of
from parley_server.storage.statements.parts import (
    LIMIT,
    MAX_BYTES,
    ONE,
    OWNER,
    REQUEST,
    ZERO,
    byte_size,
    compiled,
    is_any,
    literal,
)

OF_CONVERSATION: dict[Table, Any] = {
    conversation_label: conversation_label.c.conversation_id,
    creation: creation.c.conversation_id,
    queue_due: queue_due.c.conversation_id,
    # A worker of the release before may have gone on with the conversation.
    message: message.c.conversation_id,
    conversation: conversation.c.id,
    deletion: deletion.c.conversation_id,
}
"""What goes with a conversation, once its messages, turns, additions and queue are gone."""
ERASED_TABLES = frozenset(
    {
        *OF_CONVERSATION,
        addition,
        turn,
        turn_event,
        turn_step,
        turn_wait,
        wait_due,
        turn_queue,
        turn_feed,
        usage_day,
        owner,
    }
)
"""All that an erasure removes. A test looks for tables with an owner that are missing here."""

_UP_TO = bindparam("up_to", type_=Uuid)
_CONVERSATIONS = bindparam("max_conversations", type_=Integer)
_IS_IT = (erasure.c.owner_id == OWNER, erasure.c.request_id == REQUEST)
_IS_RUNNING = erasure.c.end_time.is_(None)
_RECEIPT = (
    erasure.c.owner_id,
    erasure.c.request_id,
    erasure.c.start_time,
    erasure.c.hide_time,
    erasure.c.end_time,
    erasure.c.conversations,
    erasure.c.messages,
    erasure.c.turns,
)


def _begin() -> Executable:
    """Note an erasure, unless it is noted. One row, if it was not."""
    return (
        insert_unless(erasure)
        .values(owner_id=OWNER, request_id=REQUEST)
        .on_conflict_do_nothing(index_elements=["owner_id", "request_id"])
        .returning(*_RECEIPT)
    )


def _running() -> Executable:
    """Read which erasures are under way, the oldest first: of each owner's only the first.

    So that what two of them have to remove is counted by the first.
    """
    before = erasure.alias("before")
    is_later = (
        select(ONE)
        .where(before.c.owner_id == erasure.c.owner_id, before.c.end_time.is_(None))
        .where(
            tuple_(before.c.start_time, before.c.request_id)
            < tuple_(erasure.c.start_time, erasure.c.request_id)
        )
        .exists()
    )
    return (
        select(*_RECEIPT)
        .where(_IS_RUNNING, not_(is_later))
        .order_by(erasure.c.start_time)
        .limit(LIMIT)
    )


def _is_settled() -> Executable:
    """Say whether every transaction of a worker's that began until then has ended."""
    activity = table(
        "pg_stat_activity",
        column("datname"),
        column("usename"),
        column("application_name", Text),
        column("xact_start", DateTime(timezone=True)),
    )
    until = cast(bindparam("until", type_=DateTime(timezone=True)), DateTime(timezone=True))
    open_ones = (
        select(ONE)
        .select_from(activity)
        .where(
            activity.c.datname == func.current_database(),
            activity.c.usename == literal_column("current_user"),
            activity.c.application_name.like(literal_column("'parley-%'")),
            activity.c.xact_start <= until,
        )
    )
    return select(not_(open_ones.exists()))


def _note_hidden() -> Executable:
    """Note that all is hidden, and remove the usage up to this day.

    Not earlier: open turns are counted when they are closed. What was used since the erasure began
    goes with it. So does the feed of turns, but for those of conversations that stay. One row, the
    receipt.
    """
    # A sharded database lets no COALESCE of an UPDATE ask for the time (decision 0039).
    begun = (
        select(erasure.c.start_time, func.now().label("now"))
        .where(*_IS_IT, erasure.c.hide_time.is_(None))
        .cte("begun")
    )
    is_new = select(begun.c.start_time).scalar_subquery().is_not(None)
    stays = (
        select(ONE)
        .select_from(turn)
        .join(
            conversation,
            and_(conversation.c.owner_id == OWNER, conversation.c.id == turn.c.conversation_id),
        )
        .where(turn.c.owner_id == OWNER, turn.c.id == turn_feed.c.turn_id)
        .where(stage_of(conversation.c.id).is_distinct_from(literal(DeletionStage.ERASING)))
        .exists()
    )
    feed_gone = (
        delete(turn_feed).where(turn_feed.c.owner_id == OWNER, is_new, not_(stays)).cte("feed_gone")
    )
    today = select(cast(func.timezone(literal_column("'UTC'"), begun.c.now), Date))
    usage_gone = (
        delete(usage_day)
        .where(usage_day.c.owner_id == OWNER, usage_day.c.day <= today.scalar_subquery())
        .cte("usage_gone")
    )
    return (
        update(erasure)
        .values(hide_time=func.coalesce(erasure.c.hide_time, select(begun.c.now).scalar_subquery()))
        .where(*_IS_IT)
        .returning(*_RECEIPT)
        .add_cte(usage_gone, feed_gone)
    )


def _job() -> CTE:
    """Lock the erasure. No row: there is nothing to do, or another worker is at it."""
    return (
        select(erasure.c.hide_time)
        .where(*_IS_IT, _IS_RUNNING, erasure.c.hide_time.is_not(None))
        .with_for_update(skip_locked=True)
        .cte("job")
    )


def _looked() -> CTE:
    """Read the next conversations that are marked, from the highest id down.

    Of them alone, and a few: joined with anything, all would be read to be put in order.
    """
    return (
        select(deletion.c.conversation_id)
        .where(deletion.c.owner_id == OWNER, deletion.c.stage == literal(DeletionStage.ERASING))
        .where(deletion.c.conversation_id <= _UP_TO)
        .order_by(desc(deletion.c.conversation_id))
        .limit(_CONVERSATIONS)
        .cte("looked")
    )


def _chosen(job: CTE, looked: CTE) -> CTE:
    """Choose those that this erasure removes: a later one of the owner may have marked others.

    It has hidden nothing that was made later than all was hidden.
    """
    hidden = select(job.c.hide_time).scalar_subquery()
    return (
        select(conversation.c.id.label("conversation_id"))
        .where(conversation.c.owner_id == OWNER, conversation.c.create_time <= hidden)
        .where(is_any(conversation.c.id, select(looked.c.conversation_id)))
        .cte("chosen")
    )


def _lowest(of: CTE) -> Any:
    return select(of.c.conversation_id).order_by(of.c.conversation_id).limit(ONE).scalar_subquery()


def _count(of: CTE) -> Any:
    return select(func.count()).select_from(of).scalar_subquery()


def _counted(job: CTE, **gone: CTE) -> CTE:
    """Add what the statement removes to the receipt, in the same statement: each row once."""
    return (
        update(erasure)
        .values({name: erasure.c[name] + _count(rows) for name, rows in gone.items()})
        .where(*_IS_IT, _count(job) == ONE)
        .cte("counted")
    )


def _turns_gone(conversations: Select[Any], ids: Select[Any]) -> tuple[CTE, list[CTE]]:
    """Remove turns of some conversations. Returns: they, and what is kept beside them.

    A message that was copied or appended may name a turn of another conversation, which stays.
    """
    turns_gone = (
        delete(turn)
        .where(turn.c.owner_id == OWNER, is_any(turn.c.id, ids))
        .where(is_any(turn.c.conversation_id, conversations))
        .returning(turn.c.id)
        .cte("turns_gone")
    )
    pieces_gone = [
        delete(table)
        .where(table.c.owner_id == OWNER, is_any(table.c.turn_id, ids))
        .cte(f"{table.name}_gone")
        for table in (turn_event, turn_step, turn_wait, wait_due)
    ]
    return turns_gone, pieces_gone


def _erase_messages() -> Executable:
    """Remove the next messages, with the turns that they began. One row, if it was due.

    How many messages; the lowest conversation of those that it tried to remove, and of those that
    were looked at; and how many were looked at. The newest messages of a conversation go first, so
    that an answer is never there without its turn.
    """
    job = _job()
    looked = _looked()
    chosen = _chosen(job, looked)
    # In order before messages are read, so that reading ends with the batch: before 17, an index
    # looked into for an array gives none, and the messages of all that are chosen would be sorted.
    ordered = (
        select(chosen.c.conversation_id)
        .order_by(desc(chosen.c.conversation_id))
        .subquery("ordered")
    )
    size = byte_size(message.c) + func.coalesce(func.octet_length(message.c.opaque_state), ZERO)
    newest = (
        select(
            message.c.sequence,
            message.c.turn_id,
            message.c.role,
            literal_column("message.ctid").label("place"),
            size.label("size"),
        )
        .where(message.c.owner_id == OWNER)
        .where(message.c.conversation_id == ordered.c.conversation_id)
        .order_by(desc(message.c.sequence))
        .limit(LIMIT)
        .lateral("newest")
    )
    order = (desc(ordered.c.conversation_id), desc(newest.c.sequence))
    sized = (
        select(
            ordered.c.conversation_id,
            newest.c.turn_id,
            newest.c.role,
            newest.c.place,
            newest.c.size,
            func.sum(newest.c.size).over(order_by=order, rows=(None, 0)).label("total"),
        )
        .select_from(ordered.join(newest, true()))
        .order_by(*order)
        .limit(LIMIT)
        .subquery("sized")
    )
    part = (
        select(sized.c.conversation_id, sized.c.turn_id, sized.c.role, sized.c.place)
        .where(or_(sized.c.total <= MAX_BYTES, sized.c.total == sized.c.size))
        .cte("part")
    )
    messages_gone = (
        delete(message)
        .where(message.c.owner_id == OWNER)
        # By their place in the table, which nothing moves: a message is never updated.
        .where(is_any(literal_column("message.ctid"), select(part.c.place)))
        .returning(message.c.sequence)
        .cte("messages_gone")
    )
    turns_gone, pieces_gone = _turns_gone(
        select(part.c.conversation_id),
        select(part.c.turn_id).where(part.c.role == literal(Role.USER)),
    )
    counted = _counted(job, messages=messages_gone, turns=turns_gone)
    return (
        select(_count(messages_gone), _lowest(part), _lowest(looked), _count(looked))
        .select_from(job)
        .add_cte(*pieces_gone, counted)
    )


def _some(chosen: CTE, id_: Any) -> CTE:
    """Choose the next rows that conversations have in a table, by this column of it."""
    its = (
        select(id_)
        .where(id_.table.c.owner_id == OWNER)
        .where(id_.table.c.conversation_id == chosen.c.conversation_id)
        .limit(LIMIT)
        .lateral(f"its_{id_.table.name}")
    )
    some = select(its.c[id_.name]).select_from(chosen.join(its, true()))
    return some.limit(LIMIT).cte(f"some_{id_.table.name}")


def _some_gone(chosen: CTE, id_: Any) -> tuple[CTE, CTE]:
    """Remove the next rows that conversations have in a table. Returns: which; their removal."""
    some = _some(chosen, id_)
    gone = delete(id_.table).where(id_.table.c.owner_id == OWNER).where(is_any(id_, select(some)))
    return some, gone.cte(f"{some.name}_gone")


def _erase_conversations() -> Executable:
    """Remove the next conversations, whose messages are gone, with all that is left of them.

    One row, if it was due: whether all of those that were looked at are gone, or only some of
    their turns, additions and queues; the lowest of them, and how many they are.
    """
    job = _job()
    looked = _looked()
    chosen = _chosen(job, looked)
    some = _some(chosen, turn.c.id)
    turns_gone, pieces_gone = _turns_gone(select(chosen.c.conversation_id), select(some.c.id))
    some_additions, additions_gone = _some_gone(chosen, addition.c.request_id)
    some_queued, queues_gone = _some_gone(chosen, turn_queue.c.turn_id)
    are_last = and_(*(_count(part) < LIMIT for part in (some, some_additions, some_queued)))
    gone: dict[Table, CTE] = {
        of: delete(of)
        .where(of.c.owner_id == OWNER, are_last)
        .where(is_any(key, select(chosen.c.conversation_id)))
        .returning(key)
        .cte(f"{of.name}_gone")
        for of, key in OF_CONVERSATION.items()
    }
    counted = _counted(
        job, conversations=gone[conversation], messages=gone[message], turns=turns_gone
    )
    return (
        select(are_last, _lowest(looked), _count(looked))
        .select_from(job)
        .add_cte(*gone.values(), *pieces_gone, additions_gone, queues_gone, counted)
    )


def _forget_owner() -> Executable:
    """Remove the note of an owner that has no conversation."""
    has_none = not_(select(ONE).where(conversation.c.owner_id == OWNER).exists())
    return delete(owner).where(owner.c.owner_id == OWNER, has_none)


def _finish() -> Executable:
    """Close an erasure, and note the owner again if it has come back meanwhile."""
    job = _job()
    back = (
        select(OWNER)
        .select_from(conversation)
        .where(conversation.c.owner_id == OWNER, _count(job) == ONE)
        .limit(ONE)
    )
    noted = (
        insert_unless(owner)
        .from_select(["owner_id"], back)
        .on_conflict_do_nothing(index_elements=["owner_id"])
        .cte("noted")
    )
    return (
        update(erasure)
        .values(end_time=func.now())
        .where(*_IS_IT, _count(job) == ONE)
        .returning(*_RECEIPT)
        .add_cte(noted)
    )


BEGIN_ERASURE = compiled(_begin())
"""Note that an erasure begins, unless its request id is known."""
ERASURE = compiled(select(*_RECEIPT).where(*_IS_IT))
"""Read the receipt of an erasure."""
RUNNING_ERASURES = compiled(_running())
"""Read which erasures are under way, of any owner."""
MOMENT = compiled(select(func.now()))
"""Read the time, on the clock by which transactions begin."""
IS_SETTLED = compiled(_is_settled())
"""Read whether all transactions of workers that were open at a time have ended."""
NOTE_HIDDEN = compiled(_note_hidden())
"""Note that no call finds anything any more of what an erasure removes, and remove usage."""
ERASE_MESSAGES = compiled(_erase_messages())
"""Remove the next messages that an erasure has hidden, and the turns that they began."""
ERASE_CONVERSATIONS = compiled(_erase_conversations())
"""Remove the next conversations that an erasure has emptied."""
FORGET_OWNER = compiled(_forget_owner())
"""Remove the note that an owner has conversations, if it has none."""
FINISH_ERASURE = compiled(_finish())
"""Close an erasure that has removed everything."""
