"""What one owner, or strangers, can do to all others' calls, with figures.

Printed with `-rP`: an honest caller's p50 and p99 alone and beside each, and what the worker holds.
"""

import asyncio
import json
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.rpc.options import LOOKAHEAD_BYTES
from support.http2 import DATA, MAX_FRAME_BYTES, Connection, frame, message
from support.services import an_id, metadata
from support.victims import Victim

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

MB = 1024 * 1024
CALLERS = Path(__file__).with_name("callers.py")


@asynccontextmanager
async def calling(victim: Victim, method: str, request: bytes, times: int) -> AsyncIterator[None]:
    """Have a process of its own make so many calls at once, again and again, inside the block."""
    job = {
        "port": victim.server.port,
        "method": method,
        "request": request.hex(),
        "times": times,
        "metadata": metadata("mallory"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CALLERS), json.dumps(job), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("times", [20, 200])
async def test_reader_of_page_after_page_does_not_hold_up_others(
    victim: Victim, database_url: str, times: int
) -> None:
    """Fails when a page is made in one go, or when pages are made as they come: p50 4.5 s."""
    conversation_id = an_id()
    first = await victim.server.chat(
        "x" * 900, user="mallory", conversation_id=conversation_id, allow_missing=True
    )
    assert 2 == first.response_sequence
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)"
            " SELECT owner_id, conversation_id, n, turn_id, role, content"
            " FROM message, generate_series(3, 502) n WHERE sequence = 1"
        )
        connection.execute("UPDATE conversation SET last_sequence = 502")
    page = pb.GetHistoryRequest(conversation_id=conversation_id, page_size=500)

    async def attack() -> None:
        async with calling(victim, "GetHistory", page.SerializeToString(), times):
            await victim.measured.wait()

    await victim.bears(attack)


@pytest.mark.parametrize("sent_bytes", [LOOKAHEAD_BYTES - 5, 60_000], ids=["window", "more"])
@pytest.mark.parametrize("method", ["Chat", "/grpc.health.v1.Health/Check"])
async def test_unfinished_messages_of_strangers_are_not_held(
    victim: Victim, method: str, sent_bytes: int
) -> None:
    """1,000 messages of 1 MiB, of which a part arrives; who sends more than it may is cut off.
    Fails when a message is waited for before its token is checked: with gRPC's own window 105 MB
    are held for each 300, for as long as the connection lasts."""
    body = struct.pack(">BI", 0, MB) + bytes(MB - 1)
    before = victim.process.memory_info().rss

    async def begin(connection: Connection) -> None:
        stream, head = connection.begin(method, [])
        part = body[:sent_bytes]
        with suppress(ConnectionError):
            await connection.send(head)
            for at in range(0, len(part), MAX_FRAME_BYTES):
                await connection.send(frame(DATA, 0, stream, part[at : at + MAX_FRAME_BYTES]))
        await asyncio.sleep(0.001)  # the honest caller shares this process

    async def attack() -> None:
        connections = [await Connection.opened(victim.server.port) for _ in range(10)]
        for _ in range(100):
            await asyncio.gather(*(begin(connection) for connection in connections))
        await victim.measured.wait()
        for connection in connections:
            connection.close()

    await victim.bears(attack)
    grown = (victim.peak_bytes - before) / MB
    print(f"unfinished messages of strangers to {method}: {grown:.0f} MB more")
    assert grown < 50


async def test_unfinished_messages_of_an_owner_are_bounded(victim: Victim) -> None:
    """The same with a token: so many at once, and each for some seconds."""
    before = victim.process.memory_info().rss
    body = struct.pack(">BI", 0, MB - 10) + bytes(MB - 20)

    async def upload(connection: Connection) -> None:
        stream, head = connection.begin("Chat", metadata("mallory"))
        await connection.send(head)
        await connection.upload(stream, body)

    async def attack() -> None:
        connections = [await Connection.opened(victim.server.port) for _ in range(30)]
        uploads = [asyncio.ensure_future(upload(c)) for c in connections for _ in range(1)]
        await victim.measured.wait()
        for task in uploads:
            task.cancel()
        for connection in connections:
            connection.close()

    await victim.bears(attack)
    grown = (victim.peak_bytes - before) / MB
    print(f"unfinished messages of an owner: {grown:.0f} MB more")
    assert grown < 50


async def test_health_watches_of_strangers_are_few(victim: Victim) -> None:
    """Fails without their limit: 22 kB each, and as many as there are streams."""
    path = "/grpc.health.v1.Health/Watch"
    before = victim.process.memory_info().rss

    async def attack() -> None:
        connections = [await Connection.opened(victim.server.port) for _ in range(10)]
        for connection in connections:
            for _ in range(90):
                await connection.send(connection.call(path, [], message(b""))[1])
        await victim.measured.wait()
        for connection in connections:
            connection.close()

    await victim.bears(attack)
    grown = (victim.peak_bytes - before) / MB
    print(f"health watches of strangers: {grown:.0f} MB more")
    assert grown < 50
