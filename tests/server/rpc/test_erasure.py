"""Owners that are erased: hidden when the call ends, and then nothing is left but a receipt."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner
from parley_server.core.owners import erasing
from parley_server.storage.statements.erasing import ERASED_TABLES
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    a_token,
    an_id,
    gathered,
    refused,
)

GONE = ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
ADA, BOB = Owner.of("", "ada").id, Owner.of("", "bob").id
PATIENCE_S = 30


def erase(
    service: Service,
    request_id: str = "erase",
    *,
    user: str = "ada",
    scope: str | None = "parley.erase",
    timeout: float = 20,
) -> Any:
    return service.stub.EraseOwner(
        pb.EraseOwnerRequest(request_id=request_id),
        timeout=timeout,
        metadata=(("authorization", f"Bearer {a_token(user, scope=scope)}"),),
    )


async def erased(service: Service, request_id: str = "erase", **fields: Any) -> Any:
    """Return the receipt once it is done."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            receipt = await erase(service, request_id, **fields)
            if receipt.state == pb.ERASURE_STATE_DONE:
                return receipt
            await asyncio.sleep(0.05)


def counts(receipt: pb.EraseOwnerResponse) -> tuple[int, int, int]:
    return receipt.conversations, receipt.messages, receipt.turns


def rows_of(database_url: str, owner: Any) -> dict[str, int]:
    """Count the rows of an owner in every table that has owners, whatever tables there are."""
    found = {}
    with psycopg.connect(as_superuser(database_url)) as connection:
        tables = connection.execute(
            """SELECT table_name FROM information_schema.columns
               WHERE table_schema = 'public' AND column_name = 'owner_id'"""
        ).fetchall()
        for (table,) in tables:
            query = sql.SQL("SELECT count(*) FROM {} WHERE owner_id = %s")
            row = connection.execute(query.format(sql.Identifier(table)), [owner]).fetchone()
            assert row is not None
            if row[0]:
                found[table] = row[0]
    return found


def run(database_url: str, statement: str, *arguments: Any) -> None:
    with psycopg.connect(as_superuser(database_url)) as connection:
        connection.execute(statement.encode(), arguments)


async def until_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.05)


def test_every_table_with_an_owner_is_erased_but_for_receipts(database_url: str) -> None:
    """Fails when a table is added and an erasure leaves its rows."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            """SELECT table_name FROM information_schema.columns
               WHERE table_schema = 'public' AND column_name = 'owner_id'"""
        ).fetchall()

    assert {table for (table,) in found} == {t.name for t in ERASED_TABLES} | {"erasure"}


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_nothing_is_left_of_an_owner_but_the_receipt(
    start_service: StartService, database_url: str
) -> None:
    """Live, trashed and purged conversations; side rows of each kind; and another owner's."""
    service = await start_service(trash_days=1)
    for user in ("ada", "bob"):
        for number in range(3):
            made = {"labels": {"a": "b"}, "instructions": "i", "user": user}
            identity = (await service.create(request_id=f"c{number}", **made)).conversation
            for turn in range(2):
                await service.chat(
                    conversation_id=identity.conversation_id,
                    request_id=f"r{number}-{turn}",
                    user=user,
                )
            if number:
                await service.delete(identity.conversation_id, user=user)
            if number == 1:
                run(database_url, "UPDATE deletion SET due_time = now() WHERE stage = 'TRASHED'")
                service.worker.purging.wake()
                await until_true(lambda: rows_of(database_url, BOB).get("message", 4) == 4)
        await service.chat("alone", user=user)
    before = rows_of(database_url, BOB)

    receipt = await erased(service)

    assert {"erasure": 1} == rows_of(database_url, ADA)
    assert before == rows_of(database_url, BOB)
    assert (4, 7) == (receipt.conversations, receipt.turns)
    assert receipt.start_time.ToDatetime() < receipt.end_time.ToDatetime()
    assert receipt == await erase(service)
    assert not (await service.conversations()).conversations
    assert not (await service.create(request_id="c0", labels={"a": "b"})).replayed
