"""Statements that add messages without an agent, that copy a conversation, and that export."""

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    DateTime,
    Executable,
    Integer,
    Interval,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from parley_server.core.model import CLOCKS_DIFFER_S, NO_TURN, Role
from parley_server.storage.schema.tables import (
    addition,
    conversation,
    message,
    turn,
    turn_event,
    turn_step,
    turn_wait,
)
from parley_server.storage.statements.counting import overrun
from parley_server.storage.statements.listing import conversation_columns, stored_columns
from parley_server.storage.statements.parts import (
    CONVERSATION,
    EXPECTED,
    FINGERPRINT,
    FORGOTTEN_WAIT,
    IS_IT,
    IS_THERE,
    LIMIT,
    ONE,
    OWNER,
    PREVIEW,
    REQUEST,
    TENANT,
    TITLE,
    USER,
    ZERO,
    compiled,
    held_conversation,
    is_next,
    is_open,
    labelled,
    literal,
    noted_owner,
)

_SOURCE = bindparam("source", type_=Uuid)
_UP_TO = bindparam("up_to", type_=BigInteger)
_NO_TURN = literal_column(f"'{NO_TURN}'::uuid", Uuid)
_TOLERANCE = literal_column(f"interval '{CLOCKS_DIFFER_S} seconds'", Interval)
_PREVIEW_CHARACTERS = literal_column("200", Integer)


def _given(held: CTE) -> CTE:
    """Return the messages to add, a row each, if the conversation is there."""
    rows = (
        func.json_to_recordset(cast(bindparam("messages", type_=Text), JSON))
        .table_valued(
            column("number", Integer),
            column("turn_id", Uuid),
            column("role", Text),
            column("content", Text),
            column("tool_calls", Text),
            column("usage", Text),
            column("model", Text),
            column("finish_reason", Text),
            column("create_time", DateTime(timezone=True)),
        )
        .render_derived(name="given", with_types=True)
    )
    return select(rows).select_from(held.join(rows, true())).cte("given")


def _add_messages() -> Executable:
    """Add messages to a conversation that has no open turn, or say why not.

    One row, `rows.AdditionRow`, or none: no such conversation. A turn whose lease has passed is
    ended, as by a claim, and the fence rises: its worker writes nothing any more.
    """
    held = held_conversation()
    given = _given(held)
    clash = (
        select(func.min(given.c.number))
        .select_from(given.join(turn, turn.c.id == given.c.turn_id))
        .where(turn.c.owner_id == OWNER, turn.c.conversation_id == CONVERSATION)
        .scalar_subquery()
    )
    latest = bindparam("latest", type_=DateTime(timezone=True))
    place = (
        select(
            (held.c.last_sequence + ONE).label("first"),
            (held.c.last_sequence + bindparam("count", type_=BigInteger)).label("last"),
        )
        .where(is_next(held), or_(EXPECTED.is_(None), held.c.last_sequence == EXPECTED))
        .where(clash.is_(None), or_(latest.is_(None), latest <= func.now() + _TOLERANCE))
        .cte("place")
    )
    noted = (
        postgres_insert(addition)
        .from_select(
            [
                "owner_id",
                "request_id",
                "fingerprint",
                "conversation_id",
                "first_sequence",
                "last_sequence",
            ],
            select(OWNER, REQUEST, FINGERPRINT, CONVERSATION, place.c.first, place.c.last).where(
                REQUEST.is_not(None)
            ),
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "request_id"])
        .returning(addition.c.first_sequence)
        .cte("noted")
    )
    added = (
        select(place.c.first, place.c.last)
        .where(or_(REQUEST.is_(None), exists(select(noted.c.first_sequence))))
        .cte("added")
    )
    written = (
        insert(message)
        .from_select(
            [
                "owner_id",
                "conversation_id",
                "sequence",
                "turn_id",
                "role",
                "content",
                "tool_calls",
                "usage",
                "model",
                "finish_reason",
                "create_time",
            ],
            select(
                OWNER,
                CONVERSATION,
                added.c.first + given.c.number,
                given.c.turn_id,
                given.c.role,
                given.c.content,
                given.c.tool_calls,
                given.c.usage,
                given.c.model,
                given.c.finish_reason,
                func.coalesce(given.c.create_time, func.now()),
            ).select_from(added.join(given, true())),
        )
        .cte("written")
    )
    is_first = and_(
        conversation.c.last_sequence == ZERO, conversation.c.title == literal_column("''", Text)
    )
    taken = (
        update(conversation)
        .values(
            title=case((is_first, TITLE), else_=conversation.c.title),
            last_sequence=added.c.last,
            appended_sequence=added.c.last,
            fence=conversation.c.fence + ONE,
            preview=PREVIEW,
            open_turn_id=null(),
            lease_expires_at=null(),
            update_time=func.now(),
        )
        .where(*IS_IT)
        .where(added.c.last > ZERO)
        .returning(conversation.c.labels)
        .cte("taken")
    )
    return (
        select(
            added.c.first,
            added.c.last,
            held.c.last_sequence,
            held.c.open_turn_id,
            held.c.lease_expires_at,
            held.c.update_time,
            is_next(held).label("is_free"),
            clash.label("clash"),
            func.now().label("now"),
        )
        .select_from(held.outerjoin(added, true()))
        .add_cte(
            written,
            *overrun(held, added.c.last > ZERO),
            *_pieces_gone(held, added),
            labelled(taken, taken.c.labels, func.now()),
        )
    )


def _pieces_gone(held: CTE, added: CTE) -> list[CTE]:
    """Remove what is stored beside a turn before the messages without an answer: it is over."""
    superseded = (
        select(turn.c.id)
        .where(turn.c.owner_id == OWNER, turn.c.conversation_id == CONVERSATION)
        .where(turn.c.user_sequence == select(held.c.last_sequence).scalar_subquery())
        .where(turn.c.response_sequence.is_(None))
    )
    wait_gone = (
        update(turn_wait)
        .values(FORGOTTEN_WAIT)
        .where(turn_wait.c.owner_id == OWNER, turn_wait.c.turn_id.in_(superseded))
        .where(exists(select(added.c.last)))
        .cte("wait_gone")
    )
    return [
        *(
            delete(table)
            .where(table.c.owner_id == OWNER, table.c.turn_id.in_(superseded))
            .where(exists(select(added.c.last)))
            .cte(f"{table.name}_gone")
            for table in (turn_event, turn_step)
        ),
        wait_gone,
    ]


def _added() -> Executable:
    """Read what was added under a request id, and whether its conversation is there still."""
    its_own = and_(
        conversation.c.owner_id == OWNER, conversation.c.id == addition.c.conversation_id, IS_THERE
    )
    return (
        select(
            addition.c.conversation_id,
            addition.c.fingerprint,
            addition.c.first_sequence,
            addition.c.last_sequence,
            conversation.c.id.is_not(None).label("is_there"),
        )
        .select_from(addition.outerjoin(conversation, its_own))
        .where(addition.c.owner_id == OWNER, addition.c.request_id == REQUEST)
    )


def _judged() -> CTE:
    """Read the conversation to copy, up to where, and whether that is not in the midst of a turn.

    A turn is a user's message and the answer of the same turn behind it, wherever both came from. A
    started turn whose attempt was interrupted has not ended either: another one follows.
    """
    goes_on = exists(
        select(turn.c.id)
        .where(turn.c.owner_id == OWNER, turn.c.conversation_id == _SOURCE, turn.c.is_started)
        .where(turn.c.user_sequence == conversation.c.last_sequence, turn.c.user_sequence > ZERO)
        .correlate(conversation)
    )
    open_ = or_(is_open(conversation), goes_on)
    source = (
        select(
            conversation.c.title,
            conversation.c.labels,
            conversation.c.instructions,
            conversation.c.agent,
            conversation.c.last_sequence,
            open_.label("is_open"),
            case(
                (_UP_TO > ZERO, _UP_TO),
                (open_, conversation.c.last_sequence - ONE),
                else_=conversation.c.last_sequence,
            ).label("up_to"),
        )
        .where(conversation.c.owner_id == OWNER, conversation.c.id == _SOURCE, IS_THERE)
        .cte("source")
    )
    asked, answer = message.alias("asked"), message.alias("answer")
    is_answered = exists(
        select(asked.c.sequence)
        .select_from(
            asked.join(
                answer,
                and_(
                    answer.c.owner_id == OWNER,
                    answer.c.conversation_id == _SOURCE,
                    answer.c.sequence == asked.c.sequence + ONE,
                    answer.c.turn_id == asked.c.turn_id,
                ),
            )
        )
        .where(asked.c.owner_id == OWNER, asked.c.conversation_id == _SOURCE)
        .where(asked.c.sequence == source.c.up_to, asked.c.turn_id != _NO_TURN)
        .where(asked.c.role == literal(Role.USER), answer.c.role == literal(Role.ASSISTANT))
        .correlate(source)
    )
    is_running = and_(source.c.is_open, source.c.up_to == source.c.last_sequence)
    is_whole = and_(source.c.up_to <= source.c.last_sequence, not_(is_answered), not_(is_running))
    return select(source, is_whole.label("is_whole")).cte("judged")


def _fork() -> Executable:
    """Copy a conversation, unless the new id is taken.

    One row, `rows.ForkRow`; none: there is no such conversation.
    """
    judged = _judged()
    newest = (
        select(func.left(message.c.content, _PREVIEW_CHARACTERS))
        .where(message.c.owner_id == OWNER, message.c.conversation_id == _SOURCE)
        .where(message.c.sequence == judged.c.up_to)
        .correlate(judged)
        .scalar_subquery()
    )
    made = (
        postgres_insert(conversation)
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
                "forked_from_id",
                "forked_from_sequence",
            ],
            select(
                OWNER,
                CONVERSATION,
                TENANT,
                USER,
                judged.c.title,
                judged.c.up_to,
                func.coalesce(newest, literal_column("''", Text)),
                ZERO,
                judged.c.labels,
                judged.c.instructions,
                judged.c.agent,
                _SOURCE,
                judged.c.up_to,
            ).where(judged.c.is_whole),
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "id"])
        .returning(*stored_columns())
        .cte("made")
    )
    copied = [
        message.c.sequence,
        message.c.turn_id,
        message.c.role,
        message.c.content,
        message.c.tool_calls,
        message.c.usage,
        message.c.model,
        message.c.finish_reason,
        message.c.opaque_state,
        message.c.create_time,
    ]
    written = (
        insert(message)
        .from_select(
            ["owner_id", "conversation_id", *(of.name for of in copied)],
            select(OWNER, CONVERSATION, *copied)
            .select_from(message.join(made, message.c.sequence <= made.c.last_sequence))
            .where(message.c.owner_id == OWNER, message.c.conversation_id == _SOURCE),
        )
        .cte("written")
    )
    return (
        select(
            judged.c.last_sequence.label("source_last_sequence"),
            judged.c.up_to,
            judged.c.is_whole,
            *conversation_columns(with_instructions=True, of=made),
        )
        .select_from(judged.outerjoin(made, true()))
        .add_cte(written, labelled(made, made.c.labels, made.c.update_time), noted_owner(made))
    )


def _exported() -> Executable:
    """Read the next conversations in the order of their ids, with their instructions."""
    return (
        select(*conversation_columns(with_instructions=True))
        .where(conversation.c.owner_id == OWNER, IS_THERE)
        .where(conversation.c.id >= bindparam("from_id", type_=Uuid))
        .order_by(conversation.c.id)
        .limit(LIMIT)
    )


ADD_MESSAGES = compiled(_add_messages())
"""Add messages to a conversation without an open turn, once for each request id."""
ADDED = compiled(_added())
"""Read which messages a request id has added."""
FORK = compiled(_fork())
"""Create a conversation with the messages of another one, up to the end of a turn."""
EXPORTED_CONVERSATIONS = compiled(_exported())
"""Read an owner's next conversations in the order of their ids."""
