"""What must hold between the rows of a database. No foreign key says so (decision 0022).

Each rule is a query for what breaks it. All are asked in one snapshot, so that turns under way are
seen as they were before or after each of their statements, and nothing waits for this or is kept
from ending. Every table is read whole: it takes about as long as a dump.
"""

from dataclasses import dataclass

from psycopg import IsolationLevel

from parley_server.storage.schema import version
from parley_server.storage.schema.reaching import (
    NO_LIMITS,
    WORKERS_URL,
    UnsafeDatabase,
    connected,
)

_SOME = "SELECT broken.*, count(*) OVER () FROM ({query}) AS broken LIMIT 3"
"""Three examples of what breaks a rule, each with how many there are."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that holds for every row."""

    broken: str
    """What is so where it does not hold."""
    query: str
    """Returns owner and id of everything that breaks it."""


_IS_PURGED = """EXISTS (
            SELECT FROM deletion WHERE deletion.owner_id = {table}.owner_id
                AND deletion.conversation_id = {column} AND stage <> 'TRASHED')"""
"""Of a deleted conversation messages are missing once their removal has begun."""
_QUEUE = """(SELECT * FROM turn_queue WHERE NOT EXISTS (
                SELECT FROM deletion WHERE deletion.owner_id = turn_queue.owner_id
                    AND deletion.conversation_id = turn_queue.conversation_id)) AS queued_turn"""
"""Of a deleted conversation something of a very long queue may be left for a while."""
_CONVERSATION_IS_PURGED = _IS_PURGED.format(table="conversation", column="conversation.id")
_TURN_IS_PURGED = _IS_PURGED.format(table="turn", column="turn.conversation_id")

RULES = (
    Rule(
        "a turn without its conversation",
        """SELECT owner_id, id FROM turn WHERE NOT EXISTS (
            SELECT FROM conversation
            WHERE conversation.owner_id = turn.owner_id AND conversation.id = conversation_id)""",
    ),
    Rule(
        "a message without its conversation",
        """SELECT owner_id, conversation_id FROM message WHERE NOT EXISTS (
            SELECT FROM conversation WHERE conversation.owner_id = message.owner_id
                AND conversation.id = conversation_id)""",
    ),
    # Appended messages have no turn here, nor have copies in a fork. What has one is part of it.
    Rule(
        "a message of a turn that is neither what was asked in it nor its answer",
        """SELECT message.owner_id, message.conversation_id FROM message JOIN turn
            ON turn.owner_id = message.owner_id AND turn.id = turn_id
                AND turn.conversation_id = message.conversation_id
        WHERE NOT coalesce(CASE role WHEN 'USER' THEN sequence = user_sequence
            WHEN 'ASSISTANT' THEN sequence = response_sequence END, false)""",
    ),
    Rule(
        "a message without its turn, behind all that was copied or appended",
        """SELECT message.owner_id, message.conversation_id FROM message JOIN conversation
            ON conversation.owner_id = message.owner_id AND conversation.id = conversation_id
        WHERE sequence > greatest(forked_from_sequence, appended_sequence) AND NOT EXISTS (
            SELECT FROM turn WHERE turn.owner_id = message.owner_id AND turn.id = turn_id
                AND turn.conversation_id = message.conversation_id)""",
    ),
    Rule(
        "an event without its turn",
        """SELECT DISTINCT owner_id, turn_id FROM turn_event WHERE NOT EXISTS (
            SELECT FROM turn WHERE turn.owner_id = turn_event.owner_id AND turn.id = turn_id)""",
    ),
    Rule(
        "a step without its turn, or of a turn that is answered",
        """SELECT DISTINCT owner_id, turn_id FROM turn_step WHERE NOT EXISTS (
            SELECT FROM turn WHERE turn.owner_id = turn_step.owner_id AND turn.id = turn_id
                AND state IN ('QUEUED', 'RUNNING', 'WAITING', 'FAILED'))""",
    ),
    Rule(
        "a conversation whose messages are not 1, 2, 3 … up to its last sequence",
        f"""SELECT owner_id, id FROM conversation LEFT JOIN (
            SELECT owner_id, conversation_id AS id, count(*) AS messages,
                min(sequence) AS first, max(sequence) AS last
            FROM message GROUP BY 1, 2) AS said USING (owner_id, id)
        WHERE (coalesce(messages, 0) <> last_sequence
                OR messages IS NOT NULL AND (first, last) <> (1, last_sequence))
            AND NOT {_CONVERSATION_IS_PURGED}""",  # noqa: S608 - made of constants
    ),
    Rule(
        "a turn without its user's message",
        f"""SELECT owner_id, id FROM turn WHERE NOT (user_sequence = 0
                AND (state IN ('QUEUED', 'CANCELLED') OR error_reason = 'SEQUENCE_MISMATCH'))
            AND NOT EXISTS (
            SELECT FROM message WHERE message.owner_id = turn.owner_id
                AND message.conversation_id = turn.conversation_id
                AND sequence = user_sequence AND turn_id = turn.id AND role = 'USER')
            AND NOT {_TURN_IS_PURGED}""",  # noqa: S608 - made of constants
    ),
    Rule(
        "an answered turn without its answer",
        f"""SELECT owner_id, id FROM turn WHERE state IN ('COMPLETED', 'CANCELLED')
            AND (state, user_sequence) <> ('CANCELLED', 0) AND NOT EXISTS (
            SELECT FROM message WHERE message.owner_id = turn.owner_id
                AND message.conversation_id = turn.conversation_id
                AND sequence = response_sequence AND turn_id = turn.id AND role = 'ASSISTANT')
            AND NOT {_TURN_IS_PURGED}""",  # noqa: S608 - made of constants
    ),
    Rule(
        "an answer of a turn that is not marked as answered",
        """SELECT message.owner_id, message.turn_id FROM message JOIN turn
            ON turn.owner_id = message.owner_id AND turn.id = turn_id
                AND turn.conversation_id = message.conversation_id
        WHERE role = 'ASSISTANT' AND (state NOT IN ('COMPLETED', 'CANCELLED')
            OR response_sequence IS DISTINCT FROM sequence)""",
    ),
    Rule(
        "a conversation with a lease and no open turn, or with an open turn, which does not wait, "
        "and no lease",
        """SELECT owner_id, id FROM conversation
        WHERE open_turn_id IS NULL AND lease_expires_at IS NOT NULL
            OR open_turn_id IS NOT NULL AND (lease_expires_at IS NULL) <> EXISTS (
                SELECT FROM turn WHERE turn.owner_id = conversation.owner_id
                    AND turn.id = open_turn_id AND state = 'WAITING')""",
    ),
    Rule(
        "a conversation whose open turn neither runs nor waits in it",
        """SELECT owner_id, id FROM conversation
        WHERE open_turn_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM turn WHERE turn.owner_id = conversation.owner_id AND turn.id = open_turn_id
                AND conversation_id = conversation.id AND state IN ('RUNNING', 'WAITING'))""",
    ),
    Rule(
        "a turn that runs or waits and is not its conversation's open turn",
        """SELECT owner_id, id FROM turn WHERE state IN ('RUNNING', 'WAITING') AND NOT EXISTS (
            SELECT FROM conversation WHERE conversation.owner_id = turn.owner_id
                AND conversation.id = conversation_id AND open_turn_id = turn.id)""",
    ),
    Rule(
        "a waiting turn that does not say for what, or that is not looked at",
        """SELECT owner_id, id FROM turn
        LEFT JOIN (SELECT owner_id, turn_id AS id, calls FROM turn_wait) AS wait
            USING (owner_id, id)
        LEFT JOIN (SELECT owner_id, turn_id AS id, conversation_id AS due_in FROM wait_due) AS due
            USING (owner_id, id)
        WHERE state = 'WAITING' AND (calls IS NULL OR due_in IS DISTINCT FROM conversation_id)""",
    ),
    Rule(
        "what a turn has waited for, without the turn or behind its end",
        """SELECT owner_id, turn_id FROM turn_wait LEFT JOIN (
            SELECT owner_id, id AS turn_id, state FROM turn) AS its USING (owner_id, turn_id)
        WHERE state IS NULL OR calls IS NOT NULL AND state IN ('COMPLETED', 'CANCELLED')
        UNION SELECT owner_id, turn_id FROM wait_due LEFT JOIN (
            SELECT owner_id, id AS turn_id, state FROM turn) AS its USING (owner_id, turn_id)
        WHERE state IS NULL OR state IN ('COMPLETED', 'CANCELLED')""",
    ),
    Rule(
        "a conversation whose labels are not those that it is listed by",
        """SELECT owner_id, id FROM conversation LEFT JOIN (
            SELECT owner_id, conversation_id AS id, jsonb_object_agg(key, value) AS listed,
                min(update_time) AS first_time, max(update_time) AS last_time
            FROM conversation_label GROUP BY 1, 2) AS label USING (owner_id, id)
        WHERE listed IS DISTINCT FROM CASE WHEN delete_time IS NULL THEN labels::jsonb END
            OR (first_time, last_time) <> (update_time, update_time)""",
    ),
    Rule(
        "a label, or a request that has created a conversation or added to it, without it",
        """SELECT owner_id, conversation_id FROM (
            SELECT owner_id, conversation_id FROM conversation_label
            UNION SELECT owner_id, conversation_id FROM creation
            UNION SELECT owner_id, conversation_id FROM addition) AS part
        WHERE NOT EXISTS (SELECT FROM conversation WHERE conversation.owner_id = part.owner_id
            AND conversation.id = conversation_id)""",
    ),
    Rule(
        "a request that has added messages behind those that were appended",
        """SELECT addition.owner_id, conversation_id FROM addition JOIN conversation
            ON conversation.owner_id = addition.owner_id AND conversation.id = conversation_id
        WHERE addition.last_sequence > appended_sequence""",
    ),
    Rule(
        "a conversation that has more copied or appended messages than messages",
        """SELECT owner_id, id FROM conversation
        WHERE greatest(forked_from_sequence, appended_sequence) > last_sequence""",
    ),
    Rule(
        "a deleted conversation that is not to be removed, or that is listed or has an open turn",
        """SELECT owner_id, id FROM conversation WHERE delete_time IS NOT NULL
            AND (open_turn_id IS NOT NULL OR update_time > 'epoch' OR NOT EXISTS (
                SELECT FROM deletion WHERE deletion.owner_id = conversation.owner_id
                    AND deletion.conversation_id = conversation.id))""",
    ),
    Rule(
        "a conversation that does not know how many started turns it has, or is not looked at",
        f"""SELECT owner_id, id FROM conversation
        LEFT JOIN (SELECT owner_id, conversation_id AS id, count(*) AS queued
            FROM {_QUEUE} GROUP BY 1, 2) AS queue USING (owner_id, id)
        LEFT JOIN (SELECT owner_id, conversation_id AS id, turns FROM queue_due) AS due
            USING (owner_id, id)
        WHERE (queue_length, queue_length) <> (coalesce(queued, 0), coalesce(turns, 0))
            OR turns = 0""",  # noqa: S608 - made of constants
    ),
    Rule(
        "a started turn that is in no queue, or one in a queue that has ended",
        f"""SELECT owner_id, id FROM turn
        LEFT JOIN (SELECT owner_id, turn_id AS id, conversation_id AS queued_in FROM {_QUEUE})
            AS queue USING (owner_id, id)
        WHERE is_started <> (queued_in IS NOT NULL) OR queued_in <> conversation_id
            OR is_started AND state NOT IN ('QUEUED', 'RUNNING', 'WAITING')
            OR (state = 'QUEUED') > is_started""",  # noqa: S608 - made of constants
    ),
    Rule(
        "a place in a queue without its turn or its conversation",
        f"""SELECT owner_id, id FROM (
            SELECT owner_id, turn_id AS id, conversation_id FROM {_QUEUE}
            UNION SELECT owner_id, NULL, conversation_id FROM turn_queue
            UNION SELECT owner_id, NULL, conversation_id FROM queue_due) AS part
        WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM turn
                WHERE turn.owner_id = part.owner_id AND turn.id = part.id)
            OR NOT EXISTS (SELECT FROM conversation WHERE conversation.owner_id = part.owner_id
                AND conversation.id = conversation_id)""",  # noqa: S608 - made of constants
    ),
    Rule(
        "a conversation that is to be removed and is not deleted",
        """SELECT owner_id, conversation_id FROM deletion WHERE NOT EXISTS (
            SELECT FROM conversation WHERE conversation.owner_id = deletion.owner_id
                AND conversation.id = conversation_id AND delete_time IS NOT NULL)""",
    ),
    Rule(
        "a day of usage that counts below zero, or more failed attempts than attempts",
        """SELECT owner_id, day FROM usage_day
        WHERE least(input_tokens, output_tokens, cached_input_tokens, model_requests, turns,
                attempts, failed_attempts) < 0
            OR failed_attempts > attempts""",
    ),
    Rule(
        "a day of usage under another digest than its labels'",
        """SELECT owner_id, day FROM usage_day
        WHERE labels_digest <> md5(coalesce(labels, ''))::uuid""",
    ),
    Rule(
        "a conversation that an erasure has left",
        """SELECT owner_id, id FROM conversation JOIN erasure USING (owner_id)
        WHERE create_time <= start_time AND hide_time IS NOT NULL
            AND (end_time IS NOT NULL OR NOT EXISTS (
                SELECT FROM deletion WHERE deletion.owner_id = conversation.owner_id
                    AND deletion.conversation_id = conversation.id AND stage = 'ERASING'))""",
    ),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what was found."""

    conversations: int
    turns: int
    messages: int
    problems: tuple[str, ...]
    """A line for each rule that does not hold; empty: all do."""


def examine(url: str, setting: str = WORKERS_URL) -> Report:
    """Look whether every rule holds.

    Args:
        url: of a database, as a role that sees the rows of all owners.
        setting: where the URL is from, for errors to name it.
    Raises: DatabaseAway; UnsafeDatabase: there is no schema, one of another release, or row
        security hides rows from this role.
    """
    with connected(url, setting) as connection:
        version.check_schema(connection)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            connection.execute(NO_LIMITS)
            hidden = connection.execute("SELECT row_security_active('conversation')").fetchone()
            if hidden and hidden[0]:
                raise UnsafeDatabase(
                    "row security hides rows from this role: to check the data, name one with "
                    "BYPASSRLS, or a superuser, in PARLEY_MIGRATE_DATABASE_URL"
                )
            found = connection.execute(
                "SELECT (SELECT count(*) FROM conversation), (SELECT count(*) FROM turn),"
                " (SELECT count(*) FROM message)"
            ).fetchone()
            problems = []
            for rule in RULES:
                broken = connection.execute(_SOME.format(query=rule.query)).fetchall()
                if broken:
                    problems.append(_problem(rule, broken))
    conversations, turns, messages = found or (0, 0, 0)
    return Report(conversations, turns, messages, tuple(problems))


def _problem(rule: Rule, broken: list[tuple[object, ...]]) -> str:
    count = broken[0][2]
    named = ", ".join(f"{id_} of owner {owner}" for owner, id_, _ in broken)
    more = ", …" if count != len(broken) else ""
    return f"{rule.broken}: {count} ({named}{more})"
