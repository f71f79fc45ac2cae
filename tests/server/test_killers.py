"""A turn that ends the worker that runs it, and the turns that run beside it."""

import asyncio
import textwrap
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from support.processes import ServerProcess
from support.services import an_id, info_of, metadata, reason_of

LEASE_S = 1.5
MAX_ATTEMPTS = 3
BYSTANDERS = 6
CALL_S = 60
RECONNECT_SOON = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]
"""Both workers may be gone for a while: gRPC would wait longer from time to time."""

MODULE = """
    import asyncio
    import os

    from pydantic_ai import Agent, RunContext
    from pydantic_ai.messages import ModelRequest, ToolReturnPart
    from pydantic_ai.models.function import DeltaToolCall, FunctionModel


    async def speak(messages, info):
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            yield "done"
        elif last.content == "hello":
            yield "hello"
        else:
            yield {0: DeltaToolCall(name=last.content, json_args="{}", tool_call_id="c")}


    agent = Agent(FunctionModel(stream_function=speak))


    @agent.tool
    async def vanish(ctx: RunContext) -> str:
        os._exit(1)


    @agent.tool
    async def work(ctx: RunContext) -> str:
        if ctx.metadata["attempt"] == 1:
            while not os.path.exists(os.environ["KILLING_IS_OVER"]):
                await asyncio.sleep(0.05)  # it is under way whenever its worker goes
        return "worked"
"""


@pytest.fixture
def is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is made when bystanders may end their first attempt."""
    monkeypatch.setenv("KILLING_IS_OVER", str(tmp_path / "over"))
    return tmp_path / "over"


@pytest.fixture
def server(
    database_url: str, tmp_path: Path, is_over: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServerProcess]:
    """Two workers whose agent has a tool that ends the process."""
    (tmp_path / "killing_module.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ServerProcess(
        database_url,
        agent="python:killing_module:agent",
        workers=2,
        lease_s=LEASE_S,
        max_attempts=MAX_ATTEMPTS,
    ) as server:
        yield server


async def insisted(server: ServerProcess, message: str, request_id: str) -> pb.ChatResponse:
    """Send a message as a stream, again and again while workers go away."""
    chat = pb.ChatRequest(message=message, request_id=request_id)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", RECONNECT_SOON) as channel:
        stream = channel.unary_stream(
            "/parley.v1.ConversationService/StreamChat",
            request_serializer=pb.StreamChatRequest.SerializeToString,
            response_deserializer=pb.StreamChatResponse.FromString,
        )
        while True:
            try:
                call = stream(
                    pb.StreamChatRequest(chat=chat), timeout=CALL_S, metadata=metadata("ada")
                )
                return [event async for event in call][-1].completed
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


async def turn_of(server: ServerProcess, request_id: str) -> cpb.Turn:
    """Return a turn once there is one."""
    while True:
        try:
            request = pb.GetTurnRequest(request_id=request_id)
            return (await server.stub.GetTurn(request, timeout=5, metadata=metadata("ada"))).turn
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_turn_that_ends_its_worker_is_given_up_and_others_lose_one_attempt(
    server: ServerProcess, is_over: Path
) -> None:
    """Fails without the bound on attempts: the turn takes workers for as long as it is asked for.

    Fails without the place for suspects: turns that ran beside it are run beside it again.
    Its first attempt has stored a step, that the tool is to run, and so does not count.
    """
    names = [f"bystander-{n}" for n in range(BYSTANDERS)]
    bystanders = [asyncio.ensure_future(insisted(server, "work", name)) for name in names]
    for name in names:
        await turn_of(server, name)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await insisted(server, "vanish", "killer")
    await asyncio.to_thread(is_over.touch)
    answers = await asyncio.gather(*bystanders)

    killer = await turn_of(server, "killer")
    told = caught.value.code().name, info_of(caught.value).reason
    assert ("FAILED_PRECONDITION", "ATTEMPTS_EXHAUSTED") == told
    assert {"turn_id": killer.turn_id, "attempts": str(MAX_ATTEMPTS)} == dict(
        info_of(caught.value).metadata
    )
    assert (cpb.TURN_STATE_FAILED, "ATTEMPTS_EXHAUSTED", 1 + MAX_ATTEMPTS) == (
        killer.state,
        reason_of(killer),
        killer.attempt,
    )
    assert ["done"] * BYSTANDERS == [answer.response for answer in answers]
    attempts = [(await turn_of(server, name)).attempt for name in names]
    assert max(attempts) <= 2, attempts
    deaths = sum("worker died" in line for line in server.output)
    assert 1 + MAX_ATTEMPTS == deaths

    # Its conversation is free, and the workers that came after them serve.
    again = await server.chat("hello", conversation_id=killer.conversation_id, request_id=an_id())
    assert ("hello", 2) == (again.response, again.user_sequence)
