"""What is sent again, when, and that it makes no second turn."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AsyncParleyClient,
    InternalError,
    LeaseLost,
    Overloaded,
    ParleyClient,
    ParleyError,
    SequenceMismatch,
    StoreUnavailable,
    TurnInProgress,
    Unavailable,
)
from parley_client.retries import (
    MAX_TRIES,
    MAX_TRIES_UNDER_WAY,
    ExportTries,
    StreamTries,
    Tries,
    WatchTries,
)
from support.both_clients import Ask, ask_async, ask_sync
from support.scripted_server import Refusal, ScriptedServer, an_answer, scripted
from support.services import Service, a_token, an_id, metadata

Chat = Callable[..., Awaitable[pb.ChatResponse]]

UNAVAILABLE = Refusal(reason="STORE_UNAVAILABLE")
LEASE_LOST = Refusal(grpc.StatusCode.ABORTED, "LEASE_LOST", retry_s=0.01)


async def chat_async(address: str, message: str, **options: Any) -> pb.ChatResponse:
    async with AsyncParleyClient(address, token=a_token()) as client:
        return await client.chat(message, **options)


async def chat_sync(address: str, message: str, **options: Any) -> pb.ChatResponse:
    def chat() -> pb.ChatResponse:
        with ParleyClient(address, token=a_token()) as client:
            return client.chat(message, **options)

    return await asyncio.to_thread(chat)


@pytest.fixture(params=[chat_async, chat_sync])
def chat(request: pytest.FixtureRequest) -> Chat:
    """Chat through either client."""
    return request.param


def request_ids(server: ScriptedServer) -> list[str]:
    return [asked.request.request_id for asked in server.asked]


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [UNAVAILABLE, LEASE_LOST], ids=["unavailable", "lease_lost"])
async def test_retries_keep_the_request_id_and_make_one_turn(
    chat: Chat, refusal: Refusal, service: Service
) -> None:
    """The turn is made at the first try, and its answer is lost twice.

    Fails without the retry policy, without LEASE_LOST's own retry, and with a new id at each try.
    """

    async def forwarded(request: Any) -> pb.ChatResponse:
        return await service.stub.Chat(request, metadata=metadata("ada"))

    async def answer_lost(request: Any) -> Refusal:
        await forwarded(request)
        return refusal

    async with scripted(answer_lost, answer_lost, forwarded) as server:
        answer = await chat(server.address, "hello")

    assert 3 == len(server.asked)
    assert 1 == len(set(request_ids(server)))
    assert ("HELLO", True) == (answer.response, answer.replayed)
    history = await service.history(answer.conversation_id)
    assert ["hello", "HELLO"] == [m.content for m in history.messages]
    assert 1 == len((await service.conversations()).conversations)


async def test_the_servers_pushback_goes_before_the_backoff(chat: Chat) -> None:
    """gRPC's own first backoff is 0.24 s at most."""
    refusal = Refusal(reason="WORKER_DRAINED", retry_s=0.8)
    async with scripted(refusal, an_answer()) as server:
        await chat(server.address, "hello")

    first, second = (asked.at_s for asked in server.asked)
    assert 0.7 < second - first < 2


async def test_tries_end_after_the_fifth(chat: Chat) -> None:
    refusal = Refusal(reason="STORE_UNAVAILABLE", retry_s=0.01)
    async with scripted(refusal) as server:
        with pytest.raises(StoreUnavailable) as caught:
            await chat(server.address, "hello")

    assert [caught.value.request_id] * 5 == request_ids(server)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(grpc.StatusCode.ABORTED, "TURN_IN_PROGRESS", retry_s=0.01), TurnInProgress),
        (Refusal(grpc.StatusCode.ABORTED, "SEQUENCE_MISMATCH"), SequenceMismatch),
        (Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_s=0.01), Overloaded),
    ],
    ids=lambda value: value.reason if isinstance(value, Refusal) else "",
)
async def test_what_needs_a_decision_is_not_retried(
    chat: Chat, refusal: Refusal, kind: type[ParleyError]
) -> None:
    async with scripted(refusal) as server:
        with pytest.raises(kind):
            await chat(server.address, "hello")
    assert 1 == len(server.asked)


@pytest.mark.parametrize("ask", [ask_async, ask_sync])
async def test_a_request_of_any_size_is_retried(ask: Ask) -> None:
    """gRPC by itself repeats nothing beyond 256 KiB."""
    refusal = Refusal(reason="STORE_UNAVAILABLE", retry_s=0.01)
    said = [("user", "x" * 1024 * 1024)]
    async with scripted(refusal, pb.AppendMessagesResponse(last_sequence=1)) as server:
        added = await ask(server.address, "append_messages", an_id(), said)
    assert (1, 2) == (added.last_sequence, len(server.asked))
    assert server.asked[0].request == server.asked[1].request


@pytest.mark.parametrize("timeout_s", [math.inf, 1e10])
async def test_a_call_without_end_has_a_deadline_that_grpc_can_count(
    chat: Chat, timeout_s: float
) -> None:
    """Fails with the time as it is given: gRPC takes it for one that has passed."""
    async with scripted(an_answer()) as server:
        await chat(server.address, "hello", timeout_s=timeout_s)
    assert 1e7 < server.asked[0].time_left_s


async def test_no_try_begins_after_the_deadline(chat: Chat) -> None:
    refusal = Refusal(grpc.StatusCode.ABORTED, "LEASE_LOST", retry_s=5)
    async with scripted(refusal) as server:
        with pytest.raises(LeaseLost):
            await chat(server.address, "hello", timeout_s=2)
    assert 1 == len(server.asked)


async def test_later_tries_have_what_is_left_of_the_deadline(chat: Chat) -> None:
    refusal = Refusal(grpc.StatusCode.ABORTED, "LEASE_LOST", retry_s=1)
    async with scripted(refusal, an_answer()) as server:
        await chat(server.address, "hello", timeout_s=10)
    first, second = (asked.time_left_s for asked in server.asked)
    assert second < first - 0.9


async def test_a_server_that_comes_back_is_found_again() -> None:
    """A restart of a second or so goes unnoticed."""
    async with scripted(an_answer()) as before:
        client = AsyncParleyClient(before.address)
        await client.chat("before")
    chatting = asyncio.create_task(client.chat("meanwhile"))
    await asyncio.sleep(0.5)  # the server is away for that long
    async with scripted(an_answer("BACK"), port=before.port):
        assert "BACK" == (await chatting).response
    await client.close()


@pytest.mark.slow
async def test_a_server_that_is_away_is_unavailable(chat: Chat) -> None:
    async with scripted(an_answer()) as server:
        pass
    with pytest.raises(Unavailable) as caught:
        await chat(server.address, "hello", request_id="order-7")
    assert "" == caught.value.reason
    assert caught.value.is_retryable
    assert "order-7" == caught.value.request_id


def test_tries_wait_as_long_as_they_are_asked_to() -> None:
    now = [100.0]
    tries = Tries(10.0, clock=lambda: now[0])
    assert 2.5 == tries.pause_s(LeaseLost("", retry_after_s=2.5))
    now[0] += 8
    assert 2.0 == tries.time_left_s
    assert tries.pause_s(LeaseLost("", retry_after_s=2.5)) is None
    assert 0.2 == tries.pause_s(LeaseLost(""))
    now[0] += 8
    assert 0.0 == tries.time_left_s


def test_tries_are_counted() -> None:
    tries = Tries(1000.0)
    pauses = [tries.pause_s(LeaseLost("", retry_after_s=0)) for _ in range(MAX_TRIES + 1)]
    assert [0] * (MAX_TRIES - 1) + [None, None] == pauses


@pytest.mark.parametrize("tries", [StreamTries(1000.0), ExportTries(), WatchTries()])
def test_a_stream_that_was_reset_is_tried_again_and_a_watch_not_for_ever(
    tries: StreamTries,
) -> None:
    """A proxy resets a stream whose server it has lost. One that gets no further never will."""
    tries.note_progress()
    assert (
        tries.pause_s(InternalError("", code=grpc.StatusCode.INTERNAL, reason="INTERNAL")) is None
    )
    reset = ParleyError("", code=grpc.StatusCode.INTERNAL)
    pauses = [tries.pause_s(reset) for _ in range(MAX_TRIES_UNDER_WAY)]
    assert MAX_TRIES_UNDER_WAY - 1 == pauses.index(None)
    assert Tries(1000.0).pause_s(reset) is None
