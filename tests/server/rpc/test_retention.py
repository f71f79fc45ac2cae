"""Conversations that have become too old are deleted by any worker."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from parley_server.core.model import Owner
from parley_server.core.owners import retention
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.many_conversations import store_conversations
from support.messages import system
from support.services import (
    GONE,
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    refused,
    until_true,
)

ADA = Owner.of("", "ada").id


def run(database_url: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(as_superuser(database_url)) as connection:
        cursor = connection.execute(statement.encode(), arguments)
        return cursor.fetchall() if cursor.description else []


def age(database_url: str, identity: str, *, created_days: float, idle_days: float) -> None:
    """Move a conversation's times."""
    run(
        database_url,
        """UPDATE conversation SET create_time = now() - %s, update_time = now() - %s
           WHERE id = %s""",
        timedelta(days=created_days),
        timedelta(days=idle_days),
        identity,
    )
    run(
        database_url,
        """UPDATE conversation_label SET update_time = conversation.update_time FROM conversation
           WHERE conversation.owner_id = conversation_label.owner_id AND id = conversation_id""",
    )


async def looked(service: Service, database_url: str) -> None:
    """Have a worker look at all owners once, which it does by itself no more."""
    upkeep = service.worker.retention
    await upkeep.close()
    upkeep.is_closing = False
    run(database_url, "UPDATE owner SET look_time = 'epoch'")
    await upkeep.work()


async def there(service: Service, user: str = "ada") -> set[str]:
    page = await service.conversations(user=user)
    return {one.conversation_id for one in page.conversations}


@pytest.mark.slow
@WITH_AND_WITHOUT_ROW_SECURITY
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"retention_idle_days": 10}, {"fresh", "old"}),
        ({"retention_age_days": 10}, {"fresh"}),
        ({"retention_idle_days": 1, "retention_age_days": 100}, {"fresh", "old"}),
        ({"retention_idle_days": 0.5}, {"fresh"}),
        ({"retention_idle_days": 50, "retention_age_days": 50}, {"fresh", "old", "idle"}),
        ({}, {"fresh", "old", "idle"}),
    ],
    ids=["idle", "age", "both", "parts of a day", "neither is reached", "off"],
)
async def test_conversations_go_when_they_are_too_old(
    start_service: StartService, database_url: str, limits: dict[str, float], expected: set[str]
) -> None:
    """Created on purpose or by Chat; with labels and a request id; and of two owners."""
    service = await start_service(trash_days=1, **limits)
    names: dict[str, str] = {}
    for user in ("ada", "bob"):
        old, idle = an_id(), an_id()
        await service.create(
            conversation_id=old, request_id="c", labels={"a": "b"}, instructions="i", user=user
        )
        await service.chat(conversation_id=old, user=user)
        await service.chat(conversation_id=idle, allow_missing=True, request_id="r", user=user)
        fresh = (await service.chat(user=user)).conversation_id
        age(database_url, old, created_days=20, idle_days=0.75)
        age(database_url, idle, created_days=20, idle_days=20)
        names |= {old: "old", idle: "idle", fresh: "fresh"}

    if limits:
        await looked(service, database_url)

    for user in ("ada", "bob"):
        assert expected == {names[identity] for identity in await there(service, user)}
    for identity, name in names.items():
        if name not in expected:
            assert GONE == await refused(service.undelete(identity))
    removed = 2 * 2 * (3 - len(expected))
    tombstones = [("TOMBSTONE",)] * (2 * (3 - len(expected)))
    await until_true(lambda: run(database_url, "SELECT stage FROM deletion") == tombstones)
    assert [(2 * 2 * 3 - removed,)] == run(database_url, "SELECT count(*) FROM message")


@pytest.mark.parametrize("at_once", [1, 3], ids="{} at once".format)
async def test_old_conversation_goes_whatever_its_id(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Fails when the look for conversations begins behind the lowest id that callers may choose."""
    monkeypatch.setattr(retention, "BATCH", at_once)
    service = await start_service(retention_age_days=10)
    for number in (0, 1, 2**128 - 1):
        identity = str(uuid.UUID(int=number))
        await service.create(conversation_id=identity)
        age(database_url, identity, created_days=20, idle_days=1)

    await looked(service, database_url)

    assert set() == await there(service)


async def test_open_turn_is_left_to_end(start_service: StartService, database_url: str) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), retention_age_days=1)
    identity = an_id()
    chat = asyncio.ensure_future(service.chat(conversation_id=identity, allow_missing=True))
    await gate.entered.wait()
    age(database_url, identity, created_days=2, idle_days=2)

    await looked(service, database_url)

    gate.opened.set()
    assert 2 == (await chat).response_sequence
    assert {identity} == await there(service)
    await looked(service, database_url)
    assert set() == await there(service)


@pytest.mark.writes_rows
@pytest.mark.parametrize("limit", ["retention_idle_days", "retention_age_days"])
async def test_two_workers_delete_each_conversation_once(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Small batches; both at the same owner at once, whoever has taken note of it."""
    monkeypatch.setattr(retention, "BATCH", 7)
    store_conversations(database_url, ADA, 100, 1)
    fresh = an_id()
    counted: list[int] = []
    workers = [await start_service(**{limit: 0.02}) for _ in range(2)]
    await workers[0].create(conversation_id=fresh)
    for service in workers:
        monkeypatch.setattr(service.worker.retention, "_count", counted.append)

    await asyncio.gather(*(s.worker.retention._look_at(ADA) for s in workers))  # noqa: SLF001 - past the note that keeps them apart

    assert 100 == sum(counted)
    assert {fresh} == await there(workers[0])
    assert max(counted) <= 7


async def test_owner_is_noted_however_its_first_conversation_is_made(
    service: Service, database_url: str
) -> None:
    """Fails when a statement that makes a conversation forgets it: nothing of it ever expires."""
    await service.chat(user="chat")
    await service.chat(user="named", conversation_id=an_id(), allow_missing=True)
    source = (await service.create(user="created")).conversation.conversation_id
    await service.append(an_id(), system("hello"), user="appended", allow_missing=True)
    await service.start("hello", user="started")
    await service.start("hello", user="kept", conversation_id=an_id(), allow_missing=True)

    def noted() -> set[Any]:
        return {owner for (owner,) in run(database_url, "SELECT owner_id FROM owner")}

    users = ("chat", "named", "created", "appended", "started", "kept")
    assert {Owner.of("", user).id for user in users} == noted()
    run(database_url, "DELETE FROM owner")
    await service.fork(source, user="created")
    assert {Owner.of("", "created").id} == noted()
