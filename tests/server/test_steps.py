"""Workers that are killed (-9) between any two steps: no tool that has ended runs again."""

import asyncio
import json
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from support.processes import ServerProcess
from support.services import metadata

LEASE_S = 1.0
CALL_S = 60
RECONNECT_SOON = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]

MODULE = """
    import asyncio
    import json
    import os
    import signal

    from pydantic_ai import Agent, RunContext
    from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart
    from pydantic_ai.models.function import DeltaToolCall, FunctionModel

    HOME = os.environ["NOTES"]


    def die(point, message):
        '''Be killed where the message says so: once.'''
        if message.split(':')[1] != point:
            return
        try:
            os.mkdir(os.path.join(HOME, message.replace(":", "-")))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


    def note(**what):
        with open(os.path.join(HOME, "notes"), "a") as notes:
            notes.write(json.dumps(what) + "\\n")


    def asked(messages):
        parts = [part for m in messages if isinstance(m, ModelRequest) for part in m.parts]
        return next(part.content for part in parts[::-1] if isinstance(part, UserPromptPart))


    async def speak(messages, info):
        message = asked(messages)
        last = messages[-1].parts
        results = [part for part in last if isinstance(part, ToolReturnPart)]
        ended = len([p for m in messages for p in m.parts if isinstance(p, ToolReturnPart)])
        if results:
            die(f"told-{ended}", message)
        width = int(message.split(':')[0])
        if ended < 2 * width:
            yield f"Step {ended}. "
            yield {
                n: DeltaToolCall("work", json.dumps({"n": ended + n}), tool_call_id=f"c{ended + n}")
                for n in range(width)
            }
            die(f"asked-{ended}", message)
        else:
            yield "Done."
            die("answered", message)


    agent = Agent(FunctionModel(stream_function=speak))


    @agent.tool
    async def work(ctx: RunContext, n: int) -> str:
        message = asked(ctx.messages)
        key = ctx.metadata["call_key"]
        if message.split(':')[1] in (f"begun-{n}", f"within-{n}"):
            await asyncio.sleep(0.5)  # the calls beside it end, and their results are stored
        die(f"begun-{n}", message)
        note(turn=ctx.metadata["turn_id"], n=n, key=key, is_end=False)
        die(f"within-{n}", message)
        note(turn=ctx.metadata["turn_id"], n=n, key=key, is_end=True)
        return f"worked on {n}"
"""

POINTS = {
    1: ["asked-0", "begun-0", "within-0", "told-1", "asked-1", "within-1", "told-2", "answered"],
    3: ["asked-0", "begun-1", "within-1", "told-3", "begun-5", "within-4", "told-6", "answered"],
}


@pytest.fixture
def server(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServerProcess]:
    (tmp_path / "stepping_module.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("NOTES", str(tmp_path))
    with ServerProcess(
        database_url, agent="python:stepping_module:agent", workers=2, lease_s=LEASE_S
    ) as server:
        yield server


def notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "notes").read_text().splitlines()]


def told(answer: pb.ChatResponse) -> tuple[str, list[tuple[Any, ...]]]:
    calls = [(c.id, c.name, c.arguments, c.result, c.is_error, c.step) for c in answer.tool_calls]
    return answer.response, calls


async def insisted(
    server: ServerProcess, message: str, *, is_stream: bool
) -> tuple[pb.ChatResponse, list[pb.StreamChatResponse]]:
    """Send a message again and again while workers go away.

    Returns: the answer, and the events of the last call.
    """
    chat = pb.ChatRequest(message=message, request_id=message)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", RECONNECT_SOON) as channel:
        service = "/parley.v1.ConversationService/"
        stream = channel.unary_stream(
            f"{service}StreamChat",
            request_serializer=pb.StreamChatRequest.SerializeToString,
            response_deserializer=pb.StreamChatResponse.FromString,
        )
        plain = channel.unary_unary(
            f"{service}Chat",
            request_serializer=pb.ChatRequest.SerializeToString,
            response_deserializer=pb.ChatResponse.FromString,
        )
        while True:
            try:
                if not is_stream:
                    return await plain(chat, timeout=CALL_S, metadata=metadata("ada")), []
                request = pb.StreamChatRequest(chat=chat)
                call = stream(request, timeout=CALL_S, metadata=metadata("ada"))
                events = [event async for event in call]
                return events[-1].completed, events
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("width", POINTS, ids=["single", "parallel"])
async def test_turn_whose_worker_is_killed_at_any_point_is_as_without(
    server: ServerProcess, width: int, tmp_path: Path, database_url: str
) -> None:
    """Fails when steps are not stored, or not read: tools run again that have ended.

    Of a call that was cut short there are two beginnings, under one key, and one end.
    """
    expected = told((await insisted(server, f"{width}:never", is_stream=False))[0])
    assert 2 * width == len(expected[1])
    for number, point in enumerate(POINTS[width]):
        before = len(notes(tmp_path))
        is_stream = bool(number % 2)
        answer, events = await insisted(server, f"{width}:{point}", is_stream=is_stream)
        noted = notes(tmp_path)[before:]

        assert expected == told(answer), point
        ends = Counter(note["n"] for note in noted if note["is_end"])
        assert dict.fromkeys(range(2 * width), 1) == ends, point
        cut = {int(point.partition("-")[2])} if point.startswith("within") else set()
        begun = Counter(note["n"] for note in noted if not note["is_end"])
        assert {n: 2 if n in cut else 1 for n in range(2 * width)} == begun, point
        assert 2 * width == len({(note["n"], note["key"]) for note in noted}), point
        if is_stream:
            # A call that found the dead worker's attempt saw that first. What is gathered when an
            # attempt ends arrives with the answer only.
            told_of = [event for event in events if event.HasField("tool_call")]
            calls = Counter((event.attempt, event.tool_call.id) for event in told_of)
            assert {1} == set(calls.values()), "a follower sees each once an attempt"
    deaths = sum("worker died" in line for line in server.output)
    assert len(POINTS[width]) == deaths
    with psycopg.connect(database_url) as connection:
        assert [] == connection.execute("SELECT number FROM turn_step").fetchall()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_cancel_of_a_dead_workers_turn_keeps_what_its_steps_know(
    server: ServerProcess, tmp_path: Path
) -> None:
    """Fails when only events are looked at: a plain call has none, and its answer is empty."""
    message = "1:within-1"
    chat = pb.ChatRequest(message=message, request_id=message)
    call = asyncio.ensure_future(server.stub.Chat(chat, timeout=CALL_S, metadata=metadata("ada")))
    await asyncio.wait([call])
    assert (tmp_path / message.replace(":", "-")).exists(), call
    while True:
        try:
            request = pb.CancelTurnRequest(request_id=message)
            turn = (
                await server.stub.CancelTurn(request, timeout=10, metadata=metadata("ada"))
            ).turn
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            continue
        if turn.state == cpb.TURN_STATE_CANCELLED:  # not yet: the lease has passed just now
            break
    answer = await server.chat(message, request_id=message)

    assert "Step 0. Step 1. " == answer.response
    assert [("c0", "worked on 0")] == [(c.id, c.result) for c in answer.tool_calls]
