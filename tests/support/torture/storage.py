"""What is stored, read past every worker."""

import asyncio

import psycopg

from parley_server.storage.schema import integrity
from support.databases import as_superuser
from support.torture.checker import Stored, StoredMessage, StoredTurn

_MESSAGES = """
SELECT conversation_id::text, sequence, role, content, coalesce(turn_id::text, '') FROM message
ORDER BY 1, 2
"""
_TURNS = """
SELECT id::text, conversation_id::text, request_id, state, user_sequence, response_sequence, attempt
FROM turn
"""
_STARTED = "SELECT count(*) FROM turn WHERE is_started AND state IN ('QUEUED', 'RUNNING')"


def read_stored(url: str) -> Stored:
    """Read what is stored, of every owner."""
    with psycopg.connect(as_superuser(url)) as connection:
        messages = [StoredMessage(*row) for row in connection.execute(_MESSAGES)]
        turns = [StoredTurn(*row) for row in connection.execute(_TURNS)]
    return Stored(messages, turns)


def broken_rules(url: str) -> list[str]:
    """Return what does not hold between rows, as `parley-server check-data` finds it."""
    return [f"integrity: {problem}" for problem in integrity.examine(as_superuser(url)).problems]


async def until_started_turns_end(url: str, within_s: float) -> bool:
    """Wait until no started turn is queued or runs. Returns: whether that came to be in time."""
    try:
        async with asyncio.timeout(within_s):
            while await asyncio.to_thread(_started, url):
                await asyncio.sleep(0.1)
    except TimeoutError:
        return False
    return True


def _started(url: str) -> int:
    with psycopg.connect(as_superuser(url)) as connection:
        row = connection.execute(_STARTED).fetchone()
    assert row is not None
    return int(row[0])
