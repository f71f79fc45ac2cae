"""The asynchronous client against a real server."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import grpc
import pytest

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AsyncParleyClient,
    ConversationNotFound,
    InvalidRequest,
    RequestIdReused,
    ScopeMissing,
    SequenceMismatch,
    TurnInProgress,
    Unauthenticated,
)
from support.agents import Gate, ScriptedAgent
from support.scripted_server import an_answer, never, scripted
from support.services import Service, StartService, a_token


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncParleyClient]:
    async with AsyncParleyClient(f"127.0.0.1:{service.port}", token=a_token()) as client:
        yield client


async def test_chat_goes_on_with_the_conversation(client: AsyncParleyClient) -> None:
    first = await client.chat("hello")
    second = await client.chat("more", conversation_id=first.conversation_id)

    assert "HELLO" == first.response
    assert first.conversation_id == second.conversation_id
    assert 4 == second.response_sequence


async def test_chat_takes_uuids_and_creates_a_missing_conversation(
    client: AsyncParleyClient,
) -> None:
    mine = uuid.uuid4()
    answer = await client.chat("hello", conversation_id=mine, allow_missing=True)
    assert str(mine) == answer.conversation_id


async def test_chat_with_the_same_request_id_is_replayed(client: AsyncParleyClient) -> None:
    first = await client.chat("hello", request_id="order-7")
    again = await client.chat("hello", request_id="order-7")

    assert (False, True) == (first.replayed, again.replayed)
    assert first.turn_id == again.turn_id


async def test_history_spans_pages_in_both_orders(client: AsyncParleyClient) -> None:
    conversation_id = (await client.chat("one")).conversation_id
    for text in ("two", "three"):
        await client.chat(text, conversation_id=conversation_id)

    oldest = [m.content async for m in client.history(conversation_id, page_size=2)]
    newest = [
        m.sequence
        async for m in client.history(
            conversation_id, order="newest_first", after_sequence=1, page_size=2
        )
    ]
    assert ["one", "ONE", "two", "TWO", "three", "THREE"] == oldest
    assert [6, 5, 4, 3, 2] == newest


async def test_history_page_goes_on_where_the_last_ended(client: AsyncParleyClient) -> None:
    conversation_id = (await client.chat("one")).conversation_id
    first = await client.history_page(conversation_id, page_size=1)
    second = await client.history_page(
        conversation_id, page_size=1, page_token=first.next_page_token
    )
    assert ["one", "ONE"] == [first.messages[0].content, second.messages[0].content]
    assert 2 == second.last_sequence


async def test_conversations_span_pages(client: AsyncParleyClient) -> None:
    made = [(await client.chat(f"number {n}")).conversation_id for n in range(5)]
    listed = [c.conversation_id async for c in client.conversations(page_size=2)]
    assert made[::-1] == listed
    page = await client.conversations_page(page_size=3)
    assert made[:1:-1] == [c.conversation_id for c in page.conversations]


async def test_turn_is_found_by_request_id_and_by_its_names(client: AsyncParleyClient) -> None:
    answer = await client.chat("hello", request_id="order-7")
    asked = await client.turn(request_id="order-7")
    named = await client.turn(conversation_id=answer.conversation_id, turn_id=answer.turn_id)

    assert answer.turn_id == asked.turn_id
    assert asked == named
    assert conversation_pb2.TURN_STATE_COMPLETED == named.state


async def test_errors_of_a_real_server_are_typed(client: AsyncParleyClient) -> None:
    missing = str(uuid.uuid4())
    with pytest.raises(ConversationNotFound) as not_found:
        await client.chat("hello", conversation_id=missing)
    assert missing == not_found.value.conversation_id
    assert grpc.StatusCode.NOT_FOUND is not_found.value.code

    with pytest.raises(InvalidRequest) as invalid:
        await client.chat(" ", conversation_id="nonsense")
    assert ["conversation_id", "message"] == [v.field for v in invalid.value.violations]
    assert "NOT_A_UUID" == invalid.value.violations[0].reason

    answer = await client.chat("hello", request_id="order-7")
    with pytest.raises(RequestIdReused) as reused:
        await client.chat("something else", request_id="order-7")
    assert "order-7" == reused.value.request_id

    with pytest.raises(SequenceMismatch) as mismatch:
        await client.chat("hello", conversation_id=answer.conversation_id, expected_sequence=7)
    assert 2 == mismatch.value.last_sequence


async def test_a_busy_conversation_is_refused_or_waited_for(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    async with AsyncParleyClient(f"127.0.0.1:{service.port}", token=a_token()) as client:
        mine = uuid.uuid4()
        first = asyncio.create_task(
            client.chat("one", conversation_id=mine, allow_missing=True, request_id="one")
        )
        await gate.entered.wait()
        with pytest.raises(TurnInProgress) as busy:
            await client.chat("two", conversation_id=mine)
        waiting = asyncio.create_task(client.chat("two", conversation_id=mine, on_busy="wait"))
        gate.opened.set()

        assert (await first).turn_id == busy.value.turn_id
        assert 1.0 == busy.value.retry_after_s
        assert 4 == (await waiting).response_sequence


async def test_a_caller_without_a_good_token_is_told(service: Service) -> None:
    address = f"127.0.0.1:{service.port}"
    for token in (None, "nonsense", a_token(ttl_s=1)[:-5]):
        async with AsyncParleyClient(address, token=token) as client:
            with pytest.raises(Unauthenticated):
                await client.chat("hello")
    async with AsyncParleyClient(address, token=a_token(scope="parley.read")) as reader:
        assert [] == [c async for c in reader.conversations()]
        with pytest.raises(ScopeMissing) as missing:
            await reader.chat("hello")
    assert "parley.write" == missing.value.scope


async def test_every_chat_carries_a_request_id_of_its_own() -> None:
    async with scripted(an_answer()) as server, AsyncParleyClient(server.address) as client:
        await client.chat("one")
        await client.chat("two", request_id="")
        await client.chat("three", request_id="order-7")

    made = [asked.request.request_id for asked in server.asked]
    assert [4, 4] == [uuid.UUID(one).version for one in made[:2]]
    assert made[0] != made[1]
    assert "order-7" == made[2]


async def test_choices_are_words_or_values_of_the_contract() -> None:
    async with scripted(an_answer()) as server, AsyncParleyClient(server.address) as client:
        await client.chat("x", on_busy="wait", on_disconnect="continue", agent="poet")
        await client.chat("x", on_busy=pb.ON_BUSY_WAIT)
        with pytest.raises(ValueError, match="'queue' is not one of 'reject', 'wait'"):
            await client.chat("x", on_busy="queue")  # type: ignore[arg-type] # that is the point

    words, values = (asked.request for asked in server.asked)
    assert pb.ON_BUSY_WAIT == words.on_busy == values.on_busy
    assert pb.ON_DISCONNECT_CONTINUE == words.on_disconnect
    assert "poet" == words.agent


async def test_every_call_has_a_deadline() -> None:
    async with (
        scripted(an_answer(), pb.GetHistoryResponse()) as server,
        AsyncParleyClient(server.address) as client,
    ):
        await client.chat("hello")
        await client.history_page("x")
        await client.history_page("x", timeout_s=3)

    chat, page, short = (asked.time_left_s for asked in server.asked)
    assert 110 < chat < 125  # gRPC rounds up
    assert 5 < page < 11
    assert 1 < short < 4


async def test_cancelling_the_task_cancels_the_call() -> None:
    async with scripted(never) as server, AsyncParleyClient(server.address) as client:
        task = asyncio.create_task(client.chat("hello"))
        while not server.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.cancelled.wait(), 5)


async def test_a_client_may_be_made_without_an_event_loop() -> None:
    async with scripted(an_answer()) as server:
        client = await asyncio.to_thread(AsyncParleyClient, server.address)
        assert "HELLO" == (await client.chat("hello")).response
        await client.close()


async def test_a_given_channel_is_used_and_left_open() -> None:
    async with (
        scripted(an_answer()) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for _ in range(2):
            async with AsyncParleyClient("nowhere.invalid:1", channel=channel) as client:
                assert "HELLO" == (await client.chat("hello")).response


async def test_one_client_makes_many_calls_at_once(client: AsyncParleyClient) -> None:
    answers = await asyncio.gather(*(client.chat(f"number {n}") for n in range(40)))
    assert [f"NUMBER {n}" for n in range(40)] == [answer.response for answer in answers]
