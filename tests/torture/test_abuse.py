"""What one caller can do to a worker on purpose, and what becomes of the others' calls.

The figures are of 107 MB that a worker has to begin with. Connections that say nothing are in
experiments/test_idle_connections.py.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import Awaitable

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from support.attacked_workers import Victim
from support.http2 import (
    CANCEL,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    PING,
    RST_STREAM,
    Connection,
    frame,
    message,
)
from support.services import an_id, metadata

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

HELLO = message(pb.ChatRequest(message="hello").SerializeToString())
CLOSED = {INITIAL_WINDOW_SIZE: 0}


def a_bomb() -> bytes:
    """Return 1 GiB of nothing in just under 1 MiB: what a message may have."""
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    nothing = bytes(1024 * 1024)
    return b"".join([*(packing.compress(nothing) for _ in range(1024)), packing.flush()])


async def test_a_gzip_bomb_is_refused_unpacked_no_further_than_a_message_may_be(
    victim: Victim,
) -> None:
    """gRPC stops unpacking at the limit. Without one, a single call takes 3.5 GB."""
    bomb = message(a_bomb(), is_compressed=True)
    seen: Counter[bool] = Counter()

    async def attack() -> None:
        for _ in range(10):
            connection = await Connection.opened(victim.server.port)
            gzip = [*metadata("mallory"), ("grpc-encoding", "gzip")]
            stream, head = connection.begin("Chat", gzip)
            await connection.send(head)
            await connection.upload(stream, bomb)
            end = await connection.end_of(stream)
            seen[b"\x0bgrpc-status\x018" in end] += 1  # RESOURCE_EXHAUSTED
            connection.close()

    await victim.bears(attack)
    assert {True} == set(seen)


async def test_much_metadata_is_refused_or_borne(victim: Victim) -> None:
    """gRPC holds its limit against each frame of the metadata: 64 KiB in one are refused, 1 MiB in
    many arrives, and is refused or answered. What there can be of it is bounded by gRPC's own limit
    on the number of such frames, not by an option. Without max_metadata_size, 64 KiB are taken."""
    much = [*metadata("mallory"), *[(f"x-{n}", "x" * 1000) for n in range(64)]]
    refusal = await refused_code(
        victim.server.stub.Chat(pb.ChatRequest(message="hello"), metadata=much, timeout=20)
    )
    assert "RESOURCE_EXHAUSTED" == refusal

    async def attack() -> None:
        for kib in (16, 64, 1024):
            for _ in range(20):
                connection = await Connection.opened(victim.server.port)
                fields = [*metadata("mallory"), *[(f"x-{n}", "x" * 1000) for n in range(kib)]]
                stream, frames = connection.call("Chat", fields, HELLO)
                await connection.send(frames)
                await connection.end_of(stream)
                connection.close()

    await victim.bears(attack)


async def test_a_flood_of_pings_is_sent_away(victim: Victim) -> None:
    """Fails with grpc.http2.max_ping_strikes = 0, no limit: every ping is answered."""
    pings = frame(PING, 0, 0, bytes(8)) * 10

    async def attack() -> None:
        for _ in range(20):
            connection = await Connection.opened(victim.server.port)
            reading = asyncio.ensure_future(connection.until_closed())
            try:
                for _ in range(200):
                    await connection.send(pings)
            except ConnectionError:
                pass  # what should happen
            async with asyncio.timeout(20):
                await reading
            connection.close()

    await victim.bears(attack)
    # The word itself: a reset takes it away while more is sent.
    connection = await Connection.opened(victim.server.port)
    await connection.send(pings)
    async with asyncio.timeout(20):
        frames = await connection.until_closed()
    connection.close()
    goaways = [payload for kind, payload in frames if kind == GOAWAY]
    assert goaways


async def test_streams_that_are_begun_and_reset_cost_nothing(victim: Victim) -> None:
    """Rapid reset. With 100,000 streams a connection instead of 100, 80,000 of them take the worker
    to 600 MB and 6 s of its time; with 100, nearly all are refused by gRPC, in 0.2 s."""
    answers: Counter[int] = Counter()

    async def flood() -> None:
        connection = await Connection.opened(victim.server.port)
        reading = asyncio.ensure_future(connection.until_closed())
        for _ in range(50):
            calls = [connection.call("Chat", metadata("mallory"), HELLO) for _ in range(100)]
            await connection.send(
                b"".join(frames + frame(RST_STREAM, 0, n, CANCEL) for n, frames in calls)
            )
        await victim.server.chat(user="honest")
        connection.close()
        answers.update(kind for kind, _ in await reading)

    async def attack() -> None:
        await asyncio.gather(*(flood() for _ in range(4)))

    await victim.bears(attack)
    assert answers[RST_STREAM] > 0


async def refused_code(call: Awaitable[object]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name


async def test_readers_that_take_nothing_hold_little(victim: Victim) -> None:
    """450 times 1 MiB of history is asked for and not taken, beside streams and watches. Fails
    without PARLEY_MAX_UNSENT_BYTES: gRPC and Python keep each answer three times over."""
    conversation_id = an_id()
    for _ in range(15):
        await victim.server.chat(
            "x" * 32_000, user="mallory", conversation_id=conversation_id, allow_missing=True
        )
    history = pb.GetHistoryRequest(conversation_id=conversation_id, page_size=1000)
    watch = pb.WatchConversationRequest(conversation_id=conversation_id)
    chat = pb.StreamChatRequest(chat=pb.ChatRequest(message="x" * 32_000))

    async def attack() -> None:
        connections = [await Connection.opened(victim.server.port, CLOSED) for _ in range(5)]
        for connection in connections:
            for method, request, times in (
                ("WatchConversation", watch, 5),
                ("StreamChat", chat, 1),
                ("GetHistory", history, 90),
            ):
                body = message(request.SerializeToString())
                for _ in range(times):
                    await connection.send(connection.call(method, metadata("mallory"), body)[1])
        await victim.measured.wait()
        ends = [asyncio.ensure_future(connection.end_of(0)) for connection in connections]
        await asyncio.wait(ends, timeout=3)  # they never come: the windows stay closed
        for connection, end in zip(connections, ends, strict=True):
            end.cancel()
            connection.close()

    await victim.bears(attack)
