"""Turns as streams, through both clients: whole, re-attached, begun anew, cancelled."""

import asyncio
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AgentUnavailable,
    AsyncParleyClient,
    AttemptLost,
    ConversationNotFound,
    DeadlineExceeded,
    LeaseLost,
    Overloaded,
    ParleyClient,
    ParleyError,
    Unavailable,
)
from parley_client.retries import MAX_TRIES, MAX_TRIES_UNDER_WAY, StreamTries
from parley_server.core.model import ToolCall
from support.agents import ScriptedAgent, Speaker
from support.both_clients import Streaming, through_async, through_sync
from support.cut_connections import Wire
from support.scripted_server import Refusal, an_answer, never
from support.scripted_streams import PushedBack, chunk, completed, started, streaming
from support.services import StartService, a_token, an_id

CALL = ToolCall("c1", "weather", '{"city": "Ulm"}', "12 °C", False, 1)
LEASE_LOST = Refusal(grpc.StatusCode.ABORTED, "LEASE_LOST", retry_s=0.01)
DRAINED = Refusal(reason="WORKER_DRAINED", retry_s=0.01)
LONG_WAIT = PushedBack(reason="AGENT_UNAVAILABLE", retry_s=60)


@pytest.fixture(params=[through_async, through_sync], ids=["async", "sync"])
def through(request: pytest.FixtureRequest) -> Streaming:
    """Either client."""
    return request.param


def kinds(events: list[pb.StreamChatResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


async def raised(events: Any, kind: type[ParleyError]) -> Any:
    """Return the error that a stream ends with."""
    with pytest.raises(kind) as caught:
        async for _ in events:
            pass
    return caught.value


async def test_stream_brings_pieces_and_the_whole(
    through: Streaming, start_service: StartService
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    events = []
    async with aclosing(
        through(f"127.0.0.1:{service.port}", "stream", "weather?", request_id="r")
    ) as stream:
        for line in ("Let me see. ", CALL, "Twelve."):
            speaker.say(line)
        async for event in stream:
            events.append(event)
            if len(events) == 4:
                speaker.say(None)

    assert ["started", "chunk", "tool_call", "chunk", "completed"] == kinds(events)
    assert "Let me see. Twelve." == "".join(event.chunk.text for event in events)
    answer = await service.chat("weather?", request_id="r")
    answer.replayed = False
    assert answer == events[-1].completed


@pytest.mark.slow
async def test_stream_cut_at_every_event_goes_on_where_it_was(
    through: Streaming, start_service: StartService
) -> None:
    """Fails without the position: pieces then come twice."""
    speaker = Speaker()
    agent = ScriptedAgent(speaker)
    service = await start_service(agent)
    pieces: list[str | ToolCall] = ["ä ", CALL, "b ", CALL._replace(id="c2"), "\0\r", "\n💬", "d"]
    events: list[pb.StreamChatResponse] = []
    losses: list[ParleyError] = []
    async with Wire(service.port).running() as wire:
        stream = through(
            wire.address,
            "stream",
            "hello",
            request_id="r",
            on_disconnect="continue",
            on_retry=losses.append,
        )
        async with aclosing(stream):
            lines = [*pieces, None]
            async for event in stream:
                events.append(event)
                if event.HasField("index") or len(events) == 1:
                    wire.cut()
                    speaker.say(lines.pop(0))

    seen = [event for event in events if event.HasField("index")]
    answer = events[-1].completed
    assert "ä b �\r\n💬d" == "".join(event.chunk.text for event in seen) == answer.response
    assert ["c1", "c2"] == [e.tool_call.id for e in seen if e.HasField("tool_call")]
    assert [(1, n) for n in range(len(pieces))] == [(e.attempt, e.index) for e in seen]
    assert len(pieces) + 1 == len(losses)
    assert {Unavailable} == {type(loss) for loss in losses}
    assert 1 == len(agent.runs)
    assert 2 == (await service.history(answer.conversation_id)).last_sequence


async def test_stream_shows_a_new_attempt(through: Streaming, start_service: StartService) -> None:
    """The lost caller ends the attempt: the agent runs again for the same turn."""
    speaker = Speaker()
    agent = ScriptedAgent(speaker)
    service = await start_service(agent)
    events = []
    async with (
        Wire(service.port).running() as wire,
        aclosing(through(wire.address, "stream", "hello", request_id="r")) as stream,
    ):
        speaker.say("first try")
        async for event in stream:
            events.append(event)
            if event.chunk.text == "first try":
                wire.cut()
                await speaker.closed.wait()
                speaker.say("second ", "try", None)

    chunks = [event for event in events if event.HasField("chunk")]
    assert [1, 2] == sorted({event.attempt for event in chunks})
    assert 0 == next(event.index for event in chunks if event.attempt == 2)
    assert "second try" == events[-1].completed.response
    assert 1 == len({run.turn_id for run in agent.runs})
    assert 2 == (await service.turn(request_id="r")).attempt


async def test_stream_goes_on_at_the_other_worker_when_its_own_drains(
    through: Streaming, start_service: StartService
) -> None:
    speakers = [Speaker(), Speaker()]
    services = [await start_service(ScriptedAgent(speaker)) for speaker in speakers]
    both = "ipv4:" + ",".join(f"127.0.0.1:{service.port}" for service in services)
    events = []
    draining = None
    async with aclosing(through(both, "stream", "hello", request_id="r")) as stream:
        async for event in stream:
            events.append(event)
            if draining is None:
                mine = 0 if speakers[0].entered.is_set() else 1
                speakers[1 - mine].say("from the other worker", None)
                draining = asyncio.ensure_future(services[mine].worker.server.drain(0.2))

    assert draining is not None
    await draining
    assert "from the other worker" == events[-1].completed.response
    assert 2 == (await services[1 - mine].turn(request_id="r")).attempt


async def test_stream_asks_again_behind_the_last_piece(through: Streaming) -> None:
    lost_once = [started(), chunk("a", 0), LEASE_LOST]
    lost_twice = [started(2), chunk("b", 0, 2), chunk("c", 1, 2), started(3), DRAINED]
    async with streaming(lost_once, lost_twice, [started(3)], an_answer("whole")) as server:
        stream = through(server.address, "stream", "hello", conversation_id="c", agent="poet")
        events = [event async for event in stream]

    asked = [call.request for call in server.asked]
    assert [(0, False, 0), (1, True, 0), (2, True, 1), (2, True, 1)] == [
        (each.after_attempt, each.HasField("after_index"), each.after_index) for each in asked
    ]
    assert 1 == len({each.chat.SerializeToString(deterministic=True) for each in asked})
    assert ("hello", "c", "poet") == (
        asked[0].chat.message,
        asked[0].chat.conversation_id,
        asked[0].chat.agent,
    )
    assert ["a", "b", "c"] == [event.chunk.text for event in events if event.HasField("chunk")]
    assert "whole" == events[-1].completed.response


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(grpc.StatusCode.ABORTED, "TURN_IN_PROGRESS", retry_s=0.01),
        Refusal(grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND"),
        Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_s=0.01),
        LONG_WAIT,
    ],
    ids=lambda refusal: refusal.reason,
)
async def test_stream_raises_what_it_does_not_mend(through: Streaming, refusal: Refusal) -> None:
    async with streaming(refusal) as server:
        error = await raised(
            through(server.address, "stream", "hello", request_id="order-7"), ParleyError
        )
    assert (refusal.reason, "order-7", 1) == (error.reason, error.request_id, len(server.asked))


async def test_a_long_wait_is_left_to_the_caller(through: Streaming) -> None:
    """The pushback is negative then, and RetryInfo tells the wait."""
    async with streaming([started(), chunk("a", 0), LONG_WAIT], LONG_WAIT) as server:
        streamed = await raised(through(server.address, "stream", "hello"), AgentUnavailable)
        async with AsyncParleyClient(server.address) as client:
            with pytest.raises(AgentUnavailable) as caught:
                await client.chat("hello")
    assert (60.0, True) == (streamed.retry_after_s, streamed.is_pushed_back)
    assert (60.0, True) == (caught.value.retry_after_s, caught.value.is_pushed_back)
    assert 2 == len(server.asked)


async def test_stream_ends_at_its_deadline(through: Streaming) -> None:
    async with streaming([started(), never]) as server:
        error = await raised(
            through(server.address, "stream", "hello", request_id="r", timeout_s=0.5),
            DeadlineExceeded,
        )
    assert "r" == error.request_id


async def test_closing_a_stream_loses_the_caller(
    through: Streaming, start_service: StartService
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    async with aclosing(through(f"127.0.0.1:{service.port}", "stream", "hello")) as stream:
        await anext(stream)
        assert not speaker.closed.is_set()
    await asyncio.wait_for(speaker.closed.wait(), 5)


async def test_a_cancelled_turn_streams_what_was_said(
    through: Streaming, start_service: StartService
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    address = f"127.0.0.1:{service.port}"
    speaker.say("so far")
    async with AsyncParleyClient(address, token=a_token()) as other:
        async with aclosing(through(address, "stream", "hello", request_id="r")) as stream:
            async for event in stream:
                if event.HasField("chunk"):
                    turn = await other.cancel_turn(request_id="r")
        again = await other.cancel_turn(conversation_id=turn.conversation_id, turn_id=turn.turn_id)

    assert parts.TURN_STATE_CANCELLED == turn.state
    assert turn == again
    assert ("so far", parts.FINISH_REASON_CANCELLED) == (
        event.completed.response,
        event.completed.finish_reason,
    )


async def test_sync_client_cancels_a_turn(start_service: StartService) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    call = asyncio.ensure_future(service.chat("hello", request_id="r"))
    await speaker.entered.wait()

    def cancel() -> parts.Turn:
        with ParleyClient(f"127.0.0.1:{service.port}", token=a_token()) as client:
            return client.cancel_turn(request_id="r")

    assert parts.TURN_STATE_CANCELLED == (await asyncio.to_thread(cancel)).state
    assert parts.FINISH_REASON_CANCELLED == (await call).finish_reason


async def test_stream_text_is_the_whole_text_once(through: Streaming) -> None:
    """The last piece comes in the answer only, as when a caller is behind at the end."""
    lost = [started(), chunk("a ", 0), DRAINED]
    rest = [started(), chunk("b ", 1), completed(an_answer("a b c"), 1)]
    async with streaming(lost, rest) as server:
        pieces = [piece async for piece in through(server.address, "stream_text", "hello")]
    assert ["a ", "b ", "c"] == pieces


@pytest.mark.parametrize(
    "anew", [chunk("b", 0, 2), completed(an_answer("b"))], ids=["piece", "end"]
)
async def test_stream_text_that_became_void_is_an_error(through: Streaming, anew: Any) -> None:
    async with streaming([started(), chunk("a", 0), DRAINED], [anew, never]) as server:
        stream = through(server.address, "stream_text", "hello", request_id="r")
        error = await raised(stream, AttemptLost)
        if anew.HasField("index"):  # the call was not over yet: nobody waits for it any more
            await asyncio.wait_for(server.cancelled.wait(), 5)
    assert ("r", True) == (error.request_id, error.is_retryable)


async def test_an_unknown_conversation_is_not_streamed(
    through: Streaming, start_service: StartService
) -> None:
    service = await start_service()
    address = f"127.0.0.1:{service.port}"
    await raised(through(address, "stream", "hello", conversation_id=an_id()), ConversationNotFound)


def test_a_wrong_argument_is_raised_at_once() -> None:
    for client in (ParleyClient(), AsyncParleyClient()):
        with pytest.raises(ValueError, match="'queue' is not one of"):
            client.stream("x", on_busy="queue")  # type: ignore[arg-type]  # that is the point


def test_tries_of_a_stream_wait_longer_each_time_and_are_counted_anew() -> None:
    tries = StreamTries(1000.0)
    first = [tries.pause_s(Unavailable("")) for _ in range(MAX_TRIES)]
    tries.note_progress()
    later = [tries.pause_s(LeaseLost("")) for _ in range(MAX_TRIES_UNDER_WAY)]

    assert [None] == first[-1:] == later[-1:]
    for pauses in (first[:-1], later[:-1]):
        for n, pause_s in enumerate(pauses):
            wanted_s = min(3.0, 0.2 * 2**n)
            assert 0.8 * wanted_s <= pause_s <= 1.2 * wanted_s


def test_tries_of_a_stream_wait_at_least_as_long_as_the_server_asks() -> None:
    tries = StreamTries(10.0, clock=lambda: 0.0)
    assert 2.5 == tries.pause_s(Unavailable("", retry_after_s=2.5))
    assert tries.pause_s(Unavailable("", retry_after_s=10.0)) is None
    assert tries.pause_s(Overloaded("")) is None
    tries.note_progress()
    assert tries.pause_s(Overloaded("")) is not None
