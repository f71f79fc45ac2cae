"""An owner with many conversations, or a long queue, by hand: calls would take too long."""

from uuid import UUID

import psycopg

from support.databases import as_superuser

_MANY = """
INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence, preview, fence,
    create_time, update_time, labels)
SELECT %(owner)s, gen_random_uuid(), '', 'ada', 't', 2 * %(turns)s, 'p', 1,
    now() - interval '1 hour', now() - interval '1 hour', '{"a": "b"}'
FROM generate_series(1, %(conversations)s);
INSERT INTO conversation_label (owner_id, conversation_id, key, value, update_time)
SELECT owner_id, id, 'a', 'b', update_time FROM conversation WHERE owner_id = %(owner)s;
INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state, attempt,
    user_sequence, response_sequence)
SELECT owner_id, gen_random_uuid(), id, id::text || n, '', '', 'COMPLETED', 1, 2 * n - 1, 2 * n
FROM conversation, generate_series(1, %(turns)s) n WHERE owner_id = %(owner)s;
INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)
SELECT owner_id, conversation_id, user_sequence, id, 'USER', repeat('x', %(bytes)s) FROM turn
WHERE owner_id = %(owner)s;
INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)
SELECT owner_id, conversation_id, response_sequence, id, 'ASSISTANT', repeat('x', %(bytes)s)
FROM turn WHERE owner_id = %(owner)s;
INSERT INTO owner (owner_id) VALUES (%(owner)s) ON CONFLICT DO NOTHING;
"""


def store_conversations(
    database_url: str, owner: UUID, conversations: int, turns: int, size: int = 50
) -> None:
    """Store conversations with turns that have ended, each with two messages of this size."""
    what = {"owner": owner, "conversations": conversations, "turns": turns, "bytes": size}
    with psycopg.connect(
        as_superuser(database_url), cursor_factory=psycopg.ClientCursor
    ) as connection:
        connection.execute(_MANY, what)
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("ANALYZE")


_QUEUE = """
INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state, attempt,
    user_sequence, is_started)
SELECT %(owner)s, gen_random_uuid(), %(conversation)s, gen_random_uuid()::text, '', '', 'QUEUED', 0,
    0, true
FROM generate_series(1, %(turns)s);
INSERT INTO turn_queue (owner_id, turn_id, conversation_id, position, message)
SELECT owner_id, id, conversation_id, row_number() OVER (), 'said' FROM turn
WHERE owner_id = %(owner)s AND conversation_id = %(conversation)s AND state = 'QUEUED';
INSERT INTO queue_due (owner_id, conversation_id, turns, due_time)
VALUES (%(owner)s, %(conversation)s, %(turns)s, now() + interval '1 hour');
UPDATE conversation SET queue_length = %(turns)s, queue_number = queue_number + %(turns)s
WHERE owner_id = %(owner)s AND id = %(conversation)s;
"""


def store_queue(database_url: str, owner: UUID, conversation_id: str, turns: int) -> None:
    """Store started turns of a conversation that has none; no worker looks at them for an hour."""
    what = {"owner": owner, "conversation": conversation_id, "turns": turns}
    with psycopg.connect(
        as_superuser(database_url), cursor_factory=psycopg.ClientCursor
    ) as connection:
        connection.execute(_QUEUE, what)
