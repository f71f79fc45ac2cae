"""Erasures whose workers are killed, and erasures of much."""

import asyncio
from contextlib import suppress
from time import monotonic
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner
from parley_server.storage.schema import integrity
from support.databases import as_superuser
from support.many_conversations import store_conversations
from support.processes import ServerProcess
from support.services import StartService, a_token

ADA, BOB = Owner.of("", "ada").id, Owner.of("", "bob").id
CONVERSATIONS, TURNS = 300, 4
KILLED_AFTER_S = (0.02, 0.1, 0.3)
BIG = (1000, 5)
BIG_S = 20
"""On a quiet machine it takes 2 s."""


def erase(stub: Any) -> Any:
    return stub.EraseOwner(
        pb.EraseOwnerRequest(request_id="erase"),
        timeout=20,
        metadata=(("authorization", f"Bearer {a_token(scope='parley.erase')}"),),
        wait_for_ready=True,
    )


async def done(stub: Any) -> pb.EraseOwnerResponse:
    async with asyncio.timeout(60):
        while True:
            receipt: pb.EraseOwnerResponse = await erase(stub)
            if receipt.state == pb.ERASURE_STATE_DONE:
                return receipt
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_receipt_is_right_whatever_workers_are_killed(database_url: str) -> None:
    """Fails when something is counted in another statement than the one that removes it."""
    for owner in (ADA, BOB):
        store_conversations(database_url, owner, CONVERSATIONS, TURNS, size=3000)
    before = integrity.examine(as_superuser(database_url))
    for after_s in KILLED_AFTER_S:
        server = await asyncio.to_thread(ServerProcess, database_url)
        call = asyncio.ensure_future(erase(server.stub))
        await asyncio.sleep(after_s)
        server.kill()
        with suppress(grpc.aio.AioRpcError):  # it may have been answered
            await call
        assert () == integrity.examine(as_superuser(database_url)).problems

    with ServerProcess(database_url) as one, ServerProcess(database_url) as other:
        receipt = await done(one.stub)
        assert receipt == await erase(other.stub)

    after = integrity.examine(as_superuser(database_url))
    expected = (CONVERSATIONS, 2 * CONVERSATIONS * TURNS, CONVERSATIONS * TURNS)
    assert expected == (receipt.conversations, receipt.messages, receipt.turns)
    assert expected == (
        before.conversations - after.conversations,
        before.messages - after.messages,
        before.turns - after.turns,
    )
    assert () == after.problems


@pytest.mark.slow
@pytest.mark.writes_rows
async def test_many_conversations_are_erased_in_seconds(
    start_service: StartService, database_url: str, record_property: Any
) -> None:
    """Fails when each conversation takes statements of its own."""
    conversations, turns = BIG
    for owner in (ADA, BOB):
        store_conversations(database_url, owner, conversations, turns)
    service = await start_service()
    began = monotonic()
    receipt = await erase(service.stub)
    hidden_s = monotonic() - began
    receipt = await done(service.stub)
    took_s = monotonic() - began

    record_property("seconds", (hidden_s, took_s))
    assert (conversations, 2 * conversations * turns) == (receipt.conversations, receipt.messages)
    assert took_s < BIG_S, f"hidden after {hidden_s:.2f} s, removed after {took_s:.2f} s"
