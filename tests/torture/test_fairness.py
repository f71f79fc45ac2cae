"""What one owner, or strangers, can do to all others' calls, with figures.

Printed with `-rP`: an honest caller's p50 and p99 alone and beside each, and what the worker holds.
"""

import asyncio
import json
import struct
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.rpc.options import LOOKAHEAD_BYTES
from support.attacked_workers import Victim
from support.http2 import DATA, INITIAL_WINDOW_SIZE, MAX_FRAME_BYTES, Connection, frame, message
from support.processes import ServerProcess
from support.services import an_id, metadata

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

MB = 1024 * 1024
CALLERS = Path(__file__).with_name("callers.py")


@asynccontextmanager
async def calling(
    victim: Victim, method: str, request: bytes, times: int, *, is_stream: bool = False
) -> AsyncIterator[None]:
    """Have a process of its own make so many calls at once, again and again, inside the block."""
    job = {
        "port": victim.server.port,
        "method": method,
        "request": request.hex(),
        "times": times,
        "is_stream": is_stream,
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


@pytest.mark.parametrize(
    ("count", "sent_bytes"), [(10, LOOKAHEAD_BYTES - 5), (3, 60_000)], ids=["window", "more"]
)
@pytest.mark.parametrize("method", ["Chat", "/grpc.health.v1.Health/Check"])
async def test_unfinished_messages_of_strangers_are_not_held(
    victim: Victim, method: str, count: int, sent_bytes: int
) -> None:
    """Messages of 1 MiB, 100 on each connection, of which a part arrives. A caller that sends more
    than it may is cut off.
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
        connections = [await Connection.opened(victim.server.port) for _ in range(count)]
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


WATCHES = 200
MODULE = """
    import asyncio

    from pydantic_ai import Agent
    from pydantic_ai.models.function import FunctionModel


    async def speak(messages, info):
        if messages[-1].parts[-1].content != "speak":
            yield "hello"
            return
        for _ in range(4000):
            yield "word "
            await asyncio.sleep(0.02)


    agent = Agent(FunctionModel(stream_function=speak))
"""


@pytest.fixture
async def speaking(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Victim]:
    """A worker whose agent speaks for as long as it is listened to."""
    (tmp_path / "speaking_module.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ServerProcess(database_url, agent="python:speaking_module:agent") as server:
        victim = Victim(server)
        async with victim.weighed():
            yield victim


async def test_watches_of_one_turn_share_what_they_read(
    speaking: Victim, database_url: str
) -> None:
    """200 watches with events of one streamed turn. Fails when each reads for itself: 5,153
    statements a second, and others' p50 five times the usual."""
    conversation_id = an_id()
    chat = pb.ChatRequest(message="speak", conversation_id=conversation_id, allow_missing=True)
    turn = speaking.server.stub.StreamChat(
        pb.StreamChatRequest(chat=chat), metadata=metadata("mallory"), wait_for_ready=True
    )
    await turn.read()
    watch = pb.WatchConversationRequest(conversation_id=conversation_id, include_events=True)

    async def statements_a_second() -> float:
        with psycopg.connect(database_url, autocommit=True) as connection:
            (before,) = connection.execute(COMMITS).fetchone() or (0,)
            await asyncio.sleep(3)  # the rate is the subject
            (after,) = connection.execute(COMMITS).fetchone() or (0,)
        return float(after - before) / 3

    alone = await statements_a_second()
    async with calling(
        speaking, "WatchConversation", watch.SerializeToString(), WATCHES, is_stream=True
    ):
        await asyncio.sleep(2)  # until all have read what there was
        cpu = sum(speaking.process.cpu_times()[:2])
        beside = await statements_a_second()
        cpu = (sum(speaking.process.cpu_times()[:2]) - cpu) / 3
    print(f"{WATCHES} watches: {alone:.0f} statements a second alone, {beside:.0f} beside them")
    print(f"{WATCHES} watches: the worker uses {cpu:.0%} of a core")

    async def attack() -> None:
        async with calling(
            speaking, "WatchConversation", watch.SerializeToString(), WATCHES, is_stream=True
        ):
            await speaking.measured.wait()

    await speaking.bears(attack)
    turn.cancel()
    assert beside < 3 * alone + 50


COMMITS = """
    SELECT xact_commit FROM pg_stat_database
    WHERE datname = current_database()
"""


async def test_watches_that_are_not_taken_hold_little(victim: Victim, database_url: str) -> None:
    """500 of one owner. Fails when each holds what it has read: 2 MB each."""
    conversation_id = an_id()
    await victim.server.chat(
        "x" * 900, user="mallory", conversation_id=conversation_id, allow_missing=True
    )
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)"
            " SELECT owner_id, conversation_id, n, turn_id, role, repeat('x', 4000)"
            " FROM message, generate_series(3, 1002) n WHERE sequence = 1"
        )
        connection.execute("UPDATE conversation SET last_sequence = 1002")
    request = pb.WatchConversationRequest(conversation_id=conversation_id)
    body = message(request.SerializeToString())
    before = victim.process.memory_info().rss

    async def attack() -> None:
        connections = [
            await Connection.opened(victim.server.port, {INITIAL_WINDOW_SIZE: 0}) for _ in range(6)
        ]
        for connection in connections:
            for _ in range(84):
                path = "WatchConversation"
                await connection.send(connection.call(path, metadata("mallory"), body)[1])
        await victim.measured.wait()
        for connection in connections:
            connection.close()

    await victim.bears(attack)
    grown = (victim.peak_bytes - before) / MB
    print(f"500 watches that are not taken: {grown:.0f} MB more")
    assert grown < 50
