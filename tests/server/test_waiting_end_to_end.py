"""Turns of a pydantic-ai agent that wait for their caller; workers are killed (-9) meanwhile."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from support.processes import ServerProcess
from support.services import metadata

TESTS = Path(__file__).parents[1]
LEASE_S = 1.0
CALL_S = 60
SOON = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]
SERVICE = "/parley.v1.ConversationService/"
MINE = messages.Tool(name="mine", description="The caller's.")
WRONG = messages.Tool(name="wrong", description="The caller's, too.")

POINTS = [
    "asked-1",  # the model has asked; nothing waits yet
    "begun-pay",  # all is given; the approved call has not begun
    "within-pay",  # it has acted; its result is not stored
    "told-1",  # its result is stored; the model has not been asked again
    "begun-look",
    "within-look",
    "told-2",  # all that is left is the answer
]


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("NOTES", str(tmp_path))


def serving(database_url: str, workers: int = 1) -> ServerProcess:
    return ServerProcess(
        database_url,
        agent="python:support.approving_module:agent",
        workers=workers,
        lease_s=LEASE_S,
    )


@pytest.fixture
def server(database_url: str) -> Iterator[ServerProcess]:
    """Two workers, each started again by itself when it is killed."""
    with serving(database_url, workers=2) as server:
        yield server


async def insisted(port: int, method: str, request: Any, response: Any) -> Any:
    """Call again and again while workers go away, each time over a connection of its own."""
    while True:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", SOON) as channel:
            call = channel.unary_unary(
                f"{SERVICE}{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
            try:
                return await call(request, timeout=CALL_S, metadata=metadata("ada"))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


async def chat(port: int, message: str, **fields: Any) -> pb.ChatResponse:
    request = pb.ChatRequest(message=message, tools=[MINE, WRONG], **fields)
    if "request_id" not in fields:
        request.request_id = message.replace(" ", "_").replace("!", ".").replace("+", ":")
    answer: pb.ChatResponse = await insisted(port, "Chat", request, pb.ChatResponse)
    return answer


async def resume(port: int, turn: pb.ChatResponse, given: Sequence[pb.CallResult]) -> Any:
    request = pb.ResumeTurnRequest(
        conversation_id=turn.conversation_id, turn_id=turn.turn_id, results=given
    )
    return (await insisted(port, "ResumeTurn", request, pb.ResumeTurnResponse)).chat


async def stream_resume(
    port: int, turn: pb.ChatResponse, given: Sequence[pb.CallResult]
) -> list[pb.StreamChatResponse]:
    """Give the results, and follow the turn to its end. Returns: the events of the last call."""
    resume = pb.ResumeTurnRequest(
        conversation_id=turn.conversation_id, turn_id=turn.turn_id, results=given
    )
    while True:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", SOON) as channel:
            call = channel.unary_stream(
                f"{SERVICE}StreamResumeTurn",
                request_serializer=pb.StreamResumeTurnRequest.SerializeToString,
                response_deserializer=pb.StreamResumeTurnResponse.FromString,
            )
            request = pb.StreamResumeTurnRequest(resume=resume)
            try:
                events = call(request, timeout=CALL_S, metadata=metadata("ada"))
                return [response.event async for response in events]
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


async def history(port: int, conversation_id: str) -> list[messages.Message]:
    request = pb.GetHistoryRequest(conversation_id=conversation_id)
    return list((await insisted(port, "GetHistory", request, pb.GetHistoryResponse)).messages)


def given_for(call: messages.PendingCall) -> pb.CallResult:
    if call.kind == messages.PENDING_CALL_KIND_APPROVAL:
        return pb.CallResult(call_key=call.call_key, approval=pb.Approval(arguments=call.arguments))
    return pb.CallResult(call_key=call.call_key, result=f"{call.name}: given")


def notes(folder: Path) -> list[tuple[str, ...]]:
    """Return the name and the key of each call that has run, counted outside of the workers."""
    path = folder / "notes"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


def told(answer: Any) -> list[tuple[Any, ...]]:
    return [(c.name, c.arguments, c.result, c.is_error, c.step) for c in answer.tool_calls]


async def ended(
    port: int, message: str, *, is_stream: bool = False
) -> tuple[pb.ChatResponse, pb.ChatResponse]:
    """Make a turn that waits once. Returns: what it waited for, and its answer."""
    waits = await chat(port, message)
    assert messages.FINISH_REASON_ACTION_REQUIRED == waits.finish_reason, message
    given = [given_for(call) for call in waits.pending_calls]
    if not is_stream:
        return waits, await resume(port, waits, given)
    events = await stream_resume(port, waits, given)
    answer = events[-1].completed
    if not answer.replayed:
        # A call that found a dead worker's attempt saw that first. What is gathered when the last
        # attempt ends comes with the answer only.
        last = max(event.attempt for event in events)
        events = [event for event in events if event.attempt == last]
        assert answer.response.startswith("".join(e.chunk.text for e in events)), message
        calls = [event.tool_call for event in events if event.HasField("tool_call")]
        assert calls == list(answer.tool_calls)[: len(calls)], "each once, in order"
    return waits, answer


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_turn_whose_workers_are_killed_around_its_wait_is_as_without(
    server: ServerProcess, tmp_path: Path, database_url: str
) -> None:
    """Fails when what is given, or a result, is not found by the next attempt."""
    _, expected = await ended(server.port, "mine+pay look")
    assert [
        ("mine", '{"n": 0}', "mine: given", False, 1),
        ("pay", '{"n": 1}', "pay: done", False, 1),
        ("look", '{"n": 0}', "look: done", False, 2),
    ] == told(expected)

    for number, point in enumerate(POINTS):
        before = len(notes(tmp_path))
        is_stream = bool(number % 2)
        waits, answer = await ended(server.port, f"mine+pay look !{point}", is_stream=is_stream)
        noted = notes(tmp_path)[before:]

        assert (expected.response, told(expected)) == (answer.response, told(answer)), point
        runs = {name: 2 if point == f"within-{name}" else 1 for name in ("pay", "look")}
        assert runs == Counter(name for name, _ in noted), point
        keys = {call.name: call.call_key for call in waits.pending_calls}
        assert {("pay", keys["pay"])} == {note for note in noted if note[0] == "pay"}, point
        assert 2 == len(set(noted)), f"{point}: a call has another key in another attempt"
        stored = await history(server.port, waits.conversation_id)
        assert [1, 2] == [message.sequence for message in stored]
        assert (answer.response, told(answer)) == (stored[1].content, told(stored[1])), point
    assert len(POINTS) == sum("worker died" in line for line in server.output)
    with psycopg.connect(database_url) as connection:
        assert [] == connection.execute("SELECT number FROM turn_step").fetchall()
        assert [] == connection.execute("SELECT turn_id FROM wait_due").fetchall()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_approved_call_that_must_not_run_twice_does_not(
    server: ServerProcess, tmp_path: Path
) -> None:
    """Killed while it waits, it runs; killed within, its outcome is not known."""
    _, asked = await ended(server.port, "send !asked-1")
    _, within = await ended(server.port, "send !within-send")

    assert [("send: done", False)] == [(c.result, c.is_error) for c in asked.tool_calls]
    (unknown,) = within.tool_calls
    assert (True, True) == (unknown.is_error, "may have run already" in unknown.result)
    assert ["send", "send"] == [name for name, _ in notes(tmp_path)]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_turn_waits_without_any_worker_and_goes_on_elsewhere(
    database_url: str, tmp_path: Path
) -> None:
    """Killed while it waits, and again once a part is given."""
    with serving(database_url) as first:
        waits = await chat(first.port, "mine+pay order")
        first.process.kill()
    mine, pay = waits.pending_calls
    with serving(database_url) as second:
        rest = await resume(second.port, waits, [given_for(mine)])
        assert [pay] == list(rest.pending_calls)
        second.process.kill()
    with serving(database_url) as third:
        again = await resume(third.port, waits, [given_for(mine), given_for(pay)])
        (order,) = again.pending_calls
        assert ("order", messages.PENDING_CALL_KIND_RESULT) == (order.name, order.kind)
        repeated = await resume(third.port, waits, [given_for(pay)])
        assert [order] == list(repeated.pending_calls), "the same result again"
        answer = await resume(third.port, waits, [given_for(order)])

        assert "Step 1. Step 2. Done: mine: given, pay: done, order: given" == answer.response
        assert [("pay", pay.call_key)] == notes(tmp_path)
        replayed = await resume(third.port, waits, [given_for(mine)])
        assert (True, answer.response) == (replayed.replayed, replayed.response)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_cancel_of_a_waiting_turn_keeps_all_that_was_said(
    database_url: str, tmp_path: Path
) -> None:
    """By another worker: texts, each call with a result, and what the provider wants back.

    A call whose arguments no caller can use is in no step, and yet was answered.
    """
    with serving(database_url) as first:
        waits = await chat(first.port, "look wrong+mine+pay+look !thinks")
        first.process.kill()
    assert ["mine", "pay"] == [call.name for call in waits.pending_calls]
    with serving(database_url) as second:
        request = pb.CancelTurnRequest(conversation_id=waits.conversation_id, turn_id=waits.turn_id)
        ended = (await insisted(second.port, "CancelTurn", request, pb.CancelTurnResponse)).turn
        assert messages.TURN_STATE_CANCELLED == ended.state
        _, answer = await history(second.port, waits.conversation_id)

        assert "Step 1. Step 2. " == answer.content
        results = {(c.step, c.name): (c.result, c.is_error) for c in answer.tool_calls}
        gone = ("The turn was cancelled before this call had a result.", True)
        done = ("look: done", False)
        assert done == results.pop((1, "look"))
        assert done == results.pop((2, "look"))
        text, is_error = results.pop((2, "wrong"))
        assert (True, True) == ("should be an object" in text, is_error)
        assert {(2, "mine"): gone, (2, "pay"): gone} == results

        with psycopg.connect(database_url) as connection:
            (kept,) = connection.execute(
                "SELECT opaque_state FROM message WHERE sequence = 2"
            ).fetchone() or (None,)
        assert kept is not None, "the provider's state is lost"
        signatures = [
            part.get("signature")
            for response in json.loads(kept)["responses"]
            for part in response["parts"]
            if part["part_kind"] == "thinking"
        ]
        assert ["signature 1", "signature 2"] == signatures

        later = await chat(
            second.port, "look", conversation_id=waits.conversation_id, request_id="later"
        )
        assert "Step 1. Done: look: done" == later.response
    assert ["look"] * 3 == [name for name, _ in notes(tmp_path)]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_cancel_of_a_resumed_turn_whose_worker_died_keeps_what_was_given(
    database_url: str, tmp_path: Path
) -> None:
    """Of a call that was approved and cut short nothing is known: it gets a result that says so."""
    with serving(database_url) as first:
        waits = await chat(first.port, "mine+pay+look !thinks !within-pay")
        given = [given_for(call) for call in waits.pending_calls]
        request = pb.ResumeTurnRequest(
            conversation_id=waits.conversation_id, turn_id=waits.turn_id, results=given
        )
        resuming = first.stub.ResumeTurn(request, timeout=CALL_S, metadata=metadata("ada"))
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await resuming
        assert -signal.SIGKILL == await asyncio.to_thread(first.process.wait, 10)
    with serving(database_url) as second:
        name = pb.CancelTurnRequest(conversation_id=waits.conversation_id, turn_id=waits.turn_id)
        while True:  # until its lease has passed
            found = await insisted(second.port, "CancelTurn", name, pb.CancelTurnResponse)
            if found.turn.state == messages.TURN_STATE_CANCELLED:
                break
        _, answer = await history(second.port, waits.conversation_id)

        assert "Step 1. " == answer.content
        assert [
            ("mine", '{"n": 0}', "mine: given", False, 1),
            ("pay", '{"n": 1}', "The turn was cancelled before this call had a result.", True, 1),
            ("look", '{"n": 2}', "look: done", False, 1),
        ] == sorted(told(answer), key=lambda call: call[1])
        with psycopg.connect(database_url) as connection:
            query = "SELECT opaque_state FROM message WHERE sequence = 2"
            (kept,) = connection.execute(query).fetchone() or (None,)
        assert b"signature 1" in (kept or b""), "the provider's state is lost"
    assert ["look", "pay"] == sorted(name for name, _ in notes(tmp_path))
