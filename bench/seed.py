"""Conversations to begin with, the same in Parley's schema, the plain flow's and the peer's.

They lie as real ones do: what was said at about the same time is stored side by side, so that the
messages of one conversation are spread over the table.
"""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path

import psycopg

from parley_server.auth.tokens import mint
from parley_server.core.model import Owner
from parley_server.storage.schema import version

SECRET = "known to the benchmark and to nobody else, so far"
ISSUER = AUDIENCE = "parley-bench"
TEXT = ("So it was said, and so it was answered, again and again. " * 4)[:200]
CONVERSATIONS_EACH = 20
"""How many conversations a user has."""


@dataclass(frozen=True)
class Part:
    """Conversations of one length. `name` tells apart what is measured one by one."""

    name: str
    conversations: int
    messages: int


_PARLEY = """
INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence, preview, fence)
SELECT owner_id, id, '', user_id, 'Seed', %(messages)s, left(%(text)s, 200), %(messages)s / 2
FROM seed;
INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state, attempt,
    user_sequence, response_sequence, context_first_sequence, context_message_count,
    context_omitted_count, end_time)
SELECT owner_id, uuidv7(), id, gen_random_uuid()::text, sha256(id::text::bytea), '', 'COMPLETED', 1,
    number * 2 - 1, number * 2, 1, number * 2 - 1, 0, now()
FROM generate_series(1, %(messages)s / 2) AS number, seed
ORDER BY number, id;
INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content, model,
    finish_reason)
SELECT turn.owner_id, conversation_id, user_sequence + answer, turn.id,
    CASE answer WHEN 0 THEN 'USER' ELSE 'ASSISTANT' END, %(text)s,
    CASE answer WHEN 1 THEN 'echo' END, CASE answer WHEN 1 THEN 'STOP' END
FROM turn JOIN seed ON seed.owner_id = turn.owner_id AND seed.id = turn.conversation_id,
    generate_series(0, 1) AS answer
ORDER BY user_sequence, turn.conversation_id, answer;
"""
_PLAIN = """
INSERT INTO conversations (id, user_id, title) SELECT id, user_id, 'Seed' FROM seed;
INSERT INTO messages (conversation_id, role, content, created_at)
SELECT id, CASE number %% 2 WHEN 1 THEN 'user' ELSE 'assistant' END, %(text)s,
    now() - interval '1 day' + number * interval '1 second'
FROM generate_series(1, %(messages)s) AS number, seed
ORDER BY number, id;
"""
_PEER = """
INSERT INTO agent_sessions (session_id) SELECT user_id || '/' || id FROM seed;
INSERT INTO agent_messages (session_id, created_at, message_data)
SELECT user_id || '/' || id, now() - interval '1 day' + number * interval '1 second',
    CASE number %% 2 WHEN 1
        THEN json_build_object('role', 'user', 'content', %(text)s)
        ELSE json_build_object('id', 'answer', 'type', 'message', 'role', 'assistant',
            'status', 'completed', 'content', json_build_array(json_build_object(
                'type', 'output_text', 'text', %(text)s, 'annotations', json_build_array()))) END
FROM generate_series(1, %(messages)s) AS number, seed
ORDER BY number, id;
"""


def seed(parley_url: str, plain_url: str, parts: list[Part], folder: Path) -> dict[str, str]:
    """Make the schemas and fill them; the plain flow's and the peer's are in one database.

    Returns: by part, the file that the callers take their conversations from.
    """
    version.migrate(parley_url)
    asyncio.run(_create_plain(plain_url))
    files = {}
    for part in parts:
        rows = _rows(part)
        _fill(parley_url, _PARLEY, part, rows)
        _fill(plain_url, _PLAIN + _PEER, part, rows)
        path = folder / f"{part.name}.json"
        path.write_text(json.dumps(_for_callers(rows)))
        files[part.name] = str(path)
    for url in (parley_url, plain_url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
    return files


def _rows(part: Part) -> list[tuple[str, str, str]]:
    """Return user, owner id and conversation id of each conversation; neighbours differ in user."""
    users = max(1, part.conversations // CONVERSATIONS_EACH)
    rows = []
    for number in range(part.conversations):
        user = f"{part.name}-{number % users}"
        conversation_id = f"{number:08x}-{part.messages:04x}-7000-8000-{os.urandom(6).hex()}"
        rows.append((user, str(Owner.of("", user).id), conversation_id))
    return rows


def _for_callers(rows: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    tokens = {
        user: mint(SECRET.encode(), user, "", 86_400, ISSUER, AUDIENCE, None)
        for user in {user for user, _, _ in rows}
    }
    return [(tokens[user], conversation_id) for user, _, conversation_id in rows]


def _fill(url: str, sql: str, part: Part, rows: list[tuple[str, str, str]]) -> None:
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(
            "CREATE TEMPORARY TABLE seed (user_id text, owner_id uuid, id uuid) ON COMMIT DROP"
        )
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY seed (user_id, owner_id, id) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)
        connection.execute("ANALYZE seed")
        connection.execute(sql, {"messages": part.messages, "text": TEXT})


async def _create_plain(url: str) -> None:
    from agents.extensions.memory import SQLAlchemySession
    from plain import Base
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await SQLAlchemySession("any", engine=engine, create_tables=True).get_items()
    await engine.dispose()
