"""Starting turns through both clients: one turn for one request id, however often it is sent."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AsyncParleyClient,
    ConversationNotFound,
    ParleyClient,
    QueueFull,
    RequestIdReused,
    StoreUnavailable,
)
from support.deadlines import ROUNDING_S
from support.scripted_server import Refusal, scripted
from support.services import Service, StartService, a_token, an_id, metadata

Start = Callable[..., Awaitable[pb.StartTurnResponse]]

UNAVAILABLE = Refusal(reason="STORE_UNAVAILABLE", retry_s=0.01)
LEASE_LOST = Refusal(grpc.StatusCode.ABORTED, "LEASE_LOST", retry_s=0.01)
QUEUED = pb.StartTurnResponse(turn=parts.Turn(turn_id="t", state=parts.TURN_STATE_QUEUED))


async def start_async(address: str, message: str, **options: Any) -> pb.StartTurnResponse:
    async with AsyncParleyClient(address, token=a_token()) as client:
        return await client.start_turn(message, **options)


async def start_sync(address: str, message: str, **options: Any) -> pb.StartTurnResponse:
    def start() -> pb.StartTurnResponse:
        with ParleyClient(address, token=a_token()) as client:
            return client.start_turn(message, **options)

    return await asyncio.to_thread(start)


@pytest.fixture(params=[start_async, start_sync])
def start(request: pytest.FixtureRequest) -> Start:
    """Start a turn through either client."""
    return request.param


def address_of(service: Service) -> str:
    return f"127.0.0.1:{service.port}"


async def test_every_argument_is_sent(start: Start) -> None:
    async with scripted(QUEUED) as server:
        given = {"conversation_id": an_id(), "request_id": "order-7", "agent": "helper"}
        options = {"allow_missing": True, "expected_sequence": 0}
        answer = await start(server.address, "hello", **given, **options)
    [asked] = server.asked
    assert QUEUED == answer
    assert pb.ChatRequest(message="hello", **given, **options) == asked.request.chat
    assert "safe" == asked.metadata["parley-retry"]
    assert 9 < asked.time_left_s <= 10 + ROUNDING_S


async def test_turn_is_run_without_a_caller(start: Start, service: Service) -> None:
    started = await start(address_of(service), "hello")
    ended = await service.until_turn(started.turn, "COMPLETED")
    assert (parts.TURN_STATE_QUEUED, False) == (started.turn.state, started.replayed)
    assert (36, 2) == (len(ended.request_id), ended.response_sequence)


@pytest.mark.parametrize("refusal", [UNAVAILABLE, LEASE_LOST], ids=["unavailable", "lease_lost"])
async def test_retries_keep_the_request_id_and_start_one_turn(
    start: Start, refusal: Refusal, service: Service
) -> None:
    """Fails without a request id of the client's, and with a new one at each try."""

    async def forwarded(request: Any) -> pb.StartTurnResponse:
        return await service.stub.StartTurn(request, metadata=metadata("ada"))

    async def answer_lost(request: Any) -> Refusal:
        await forwarded(request)
        return refusal

    async with scripted(answer_lost, answer_lost, forwarded) as server:
        answer = await start(server.address, "hello")
    await service.until_turn(answer.turn, "COMPLETED")

    assert 3 == len(server.asked)
    assert {answer.turn.request_id} == {asked.request.chat.request_id for asked in server.asked}
    assert answer.replayed
    assert 1 == len((await service.conversations()).conversations)
    history = await service.history(answer.turn.conversation_id)
    assert ["hello", "HELLO"] == [m.content for m in history.messages]


async def test_tries_end_after_the_fifth_and_tell_the_request_id(start: Start) -> None:
    async with scripted(UNAVAILABLE) as server:
        with pytest.raises(StoreUnavailable) as caught:
            await start(server.address, "hello")
    assert [caught.value.request_id] * 5 == [a.request.chat.request_id for a in server.asked]


async def test_what_is_refused_is_a_typed_error(start: Start, start_service: StartService) -> None:
    service = await start_service(max_queued_turns=1)
    address = address_of(service)
    with pytest.raises(ConversationNotFound):
        await start(address, "hello", conversation_id=an_id())
    answer = await service.chat("hello", request_id="r")
    assert (await start(address, "hello", request_id="r")).turn.turn_id == answer.turn_id
    with pytest.raises(RequestIdReused):
        await start(address, "other", request_id="r")


async def test_a_full_queue_says_how_many_turns_it_takes_and_is_not_asked_again(
    start: Start,
) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    full = Refusal(code, "QUEUE_FULL", metadata={"max_queued_turns": "3"}, retry_s=1)
    async with scripted(full) as server:
        with pytest.raises(QueueFull) as caught:
            await start(server.address, "hello")
    assert 1 == len(server.asked)
    assert (3, 1.0, True) == (
        caught.value.max_queued_turns,
        caught.value.retry_after_s,
        caught.value.is_retryable,
    )
