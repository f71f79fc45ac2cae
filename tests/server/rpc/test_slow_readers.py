"""What becomes of a stream whose caller takes nothing of it."""

import asyncio

import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.rpc import servicer
from support.agents import ScriptedAgent, Speaker
from support.http2 import INITIAL_WINDOW_SIZE, Connection, message
from support.services import StartService, metadata, reason_of


@pytest.mark.parametrize("on_disconnect", [pb.ON_DISCONNECT_CANCEL, pb.ON_DISCONNECT_CONTINUE])
async def test_caller_that_takes_nothing_for_long_counts_as_lost(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, on_disconnect: pb.OnDisconnect
) -> None:
    """Fails without a bound on each write: nothing ends the call then, and no place comes free."""
    monkeypatch.setattr(servicer, "TAKE_S", 0.5)
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker), max_open_chats=2)
    connection = await Connection.opened(service.port, {INITIAL_WINDOW_SIZE: 0})
    chat = pb.ChatRequest(message="hello", request_id="r", on_disconnect=on_disconnect)
    body = message(pb.StreamChatRequest(chat=chat).SerializeToString())
    await connection.send(connection.call("StreamChat", metadata("ada"), body)[1])
    await speaker.entered.wait()
    speaker.say(*["x" * 4000] * 40)

    if on_disconnect == pb.ON_DISCONNECT_CANCEL:
        await speaker.closed.wait()
    else:
        while not service.worker.turns.left_behind:
            await asyncio.sleep(0.02)
        speaker.say(None)
    while (turn := await service.turn(request_id="r")).state == cpb.TURN_STATE_RUNNING:
        await asyncio.sleep(0.02)
    connection.close()
    is_lost = on_disconnect == pb.ON_DISCONNECT_CANCEL
    state = cpb.TURN_STATE_FAILED if is_lost else cpb.TURN_STATE_COMPLETED
    assert (state, "CALLER_LOST" if is_lost else "UNSPECIFIED") == (turn.state, reason_of(turn))
