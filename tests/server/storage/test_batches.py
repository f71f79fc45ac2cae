"""Two workers that remove the same: what one has removed, the other's batch may still see."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import psycopg
import pytest

from parley_server.core.model import Deletion, DeletionStage, Erasure
from parley_server.storage.conversations import PostgresDeletions
from parley_server.storage.driver.connections import Connections
from parley_server.storage.owners import PostgresErasures
from support.databases import as_superuser
from support.many_conversations import store_conversations
from support.services import until_true

OWNER, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)
HIGHEST = uuid.UUID(int=2**128 - 1)
ERASURE = Erasure(OWNER, "erasing", datetime.now(UTC), datetime.now(UTC), None, 0, 0, 0)
BATCH = 4
LOCK = 1
DELETED = """
UPDATE conversation SET delete_time = now();
INSERT INTO deletion (owner_id, conversation_id, stage, due_time)
SELECT owner_id, id, '{stage}', now() - interval '1 second' FROM conversation;
INSERT INTO addition (owner_id, request_id, fingerprint, conversation_id, first_sequence,
    last_sequence)
SELECT owner_id, request_id, 'digest', conversation_id, user_sequence, response_sequence FROM turn;
INSERT INTO erasure (owner_id, request_id, hide_time)
SELECT owner_id, 'erasing', now() FROM owner WHERE '{stage}' = 'ERASING';
"""
# A statement waits here after it has begun, and before it locks its row.
HELD = """
ALTER TABLE {job} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY held ON {job} USING (pg_advisory_xact_lock_shared({lock})::text = '');
"""


class Worker:
    """What one worker removes, a batch at a time, and how many messages that were."""

    def __init__(self, connections: Connections) -> None:
        self._deletions = PostgresDeletions(connections)
        self._erasures = PostgresErasures(connections)
        self.messages: list[int] = []

    async def purge(self, conversation: uuid.UUID) -> bool:
        job = Deletion(OWNER, conversation, DeletionStage.PURGING)
        has_more, messages = await self._deletions.purge(
            job, limit=BATCH, max_bytes=2**20, tombstone=timedelta(0)
        )
        self.messages.append(messages)
        return has_more

    async def forget(self, conversation: uuid.UUID) -> bool:
        return await self._deletions.forget(
            Deletion(OWNER, conversation, DeletionStage.TOMBSTONE), limit=BATCH
        )

    async def erase_messages(self, _: uuid.UUID) -> bool:
        removed = await self._erasures.remove_messages(
            ERASURE, HIGHEST, limit=BATCH, max_bytes=2**20
        )
        assert removed is not None
        self.messages.append(removed.messages)
        return removed.rest is not None

    async def erase_conversations(self, _: uuid.UUID) -> bool:
        removed = await self._erasures.remove_conversations(ERASURE, HIGHEST, limit=BATCH)
        assert removed is not None
        return removed.rest is not None


class Kind(NamedTuple):
    stage: DeletionStage
    job: str
    batch: Callable[[Worker, uuid.UUID], Awaitable[bool]]
    conversations: int
    removes: tuple[str, ...]


ALL = ("message", "turn", "addition", "conversation", "deletion")
KINDS = {
    "purge": Kind(DeletionStage.TRASHED, "deletion", Worker.purge, 1, ("message",)),
    "forget": Kind(DeletionStage.TOMBSTONE, "deletion", Worker.forget, 1, ALL),
    "erase messages": Kind(
        DeletionStage.ERASING, "erasure", Worker.erase_messages, 3, ("message",)
    ),
    "erase conversations": Kind(
        DeletionStage.ERASING, "erasure", Worker.erase_conversations, 3, ALL
    ),
}


@pytest.fixture
async def workers(database_url: str) -> AsyncIterator[list[Worker]]:
    """Two: the statements of the first can be held, those of the second are a superuser's."""
    sets = [
        Connections(
            url, name="test", size=2, lease_s=30, is_prepared=True, has_row_security=is_held
        )
        for url, is_held in ((database_url, True), (as_superuser(database_url), False))
    ]
    for connections in sets:
        await connections.open()
    yield [Worker(connections) for connections in sets]
    for connections in sets:
        await connections.close()


def is_waiting(connection: psycopg.Connection[Any]) -> bool:
    waiting = """SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'advisory'"""
    return connection.execute(waiting).fetchone() is not None


def digests(connection: psycopg.Connection[Any]) -> int:
    """Count the request ids of AppendMessages that are kept with a digest."""
    row = connection.execute("SELECT count(*) FROM addition WHERE fingerprint <> ''").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.slow
@pytest.mark.parametrize("turns", [1, 4, 5, 9], ids="{} turns".format)
@pytest.mark.parametrize("name", KINDS)
async def test_batch_that_sees_what_another_has_removed_leaves_nothing_behind(
    workers: list[Worker], database_url: str, name: str, turns: int
) -> None:
    """Fails where a batch counts what it has removed itself, and takes it for all that was left.

    And where one statement blanks or removes all request ids of AppendMessages at once.
    """
    kind = KINDS[name]
    store_conversations(database_url, OWNER, kind.conversations, turns)
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute(DELETED.format(stage=kind.stage))
        if kind.batch in {Worker.forget, Worker.erase_conversations}:
            connection.execute("DELETE FROM message")
        row = connection.execute("SELECT min(id::text)::uuid FROM conversation").fetchone()
        assert row is not None
        [conversation] = row
        connection.execute(HELD.format(job=kind.job, lock=LOCK))
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])

        held, other = workers
        kept = [digests(connection)]
        late = asyncio.ensure_future(kind.batch(held, conversation))
        await until_true(lambda: is_waiting(connection))
        await kind.batch(other, conversation)
        connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
        has_more = await late
        kept += [digests(connection) + BATCH, digests(connection)]  # of two batches
        while has_more:
            has_more = await kind.batch(held, conversation)
            kept.append(digests(connection))

        left = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            for table in kind.removes
        }
    assert dict.fromkeys(kind.removes, (0,)) == left
    assert all(before - after <= BATCH for before, after in pairwise(kept))
    if name != "erase messages":
        assert 0 == kept[-1]
    counted = held.messages + other.messages
    if kind.removes == ("message",):
        assert 2 * turns * kind.conversations == sum(counted)
        assert max(counted) <= BATCH


async def test_deletions_are_due_in_turn_between_owners(database_url: str) -> None:
    """Fails when the longest due ones come first: one owner's thousands would have all others'
    messages stay where they are."""
    store_conversations(database_url, OWNER, 30, 1)
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute(DELETED.format(stage=DeletionStage.PURGING))
        store_conversations(database_url, OTHER, 1, 1)
        connection.execute(
            "INSERT INTO deletion (owner_id, conversation_id, stage, due_time)"
            " SELECT owner_id, id, 'PURGING', now() FROM conversation WHERE owner_id = %s",
            [OTHER],
        )
    connections = Connections(database_url, name="test", size=1, lease_s=30, is_prepared=True)
    await connections.open()
    due = await PostgresDeletions(connections).due(limit=3)
    await connections.close()

    assert [OWNER, OTHER, OWNER] == [job.owner_id for job in due]
