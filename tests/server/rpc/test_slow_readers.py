"""What becomes of a stream whose caller takes nothing of it."""

import asyncio
import uuid

import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.rpc import servicer
from parley_server.rpc.layers import unsent
from support.agents import ScriptedAgent, Speaker
from support.http2 import INITIAL_WINDOW_SIZE, Connection, message
from support.services import StartService, an_id, metadata, reason_of, refused


@pytest.mark.parametrize("on_disconnect", [pb.ON_DISCONNECT_CANCEL, pb.ON_DISCONNECT_CONTINUE])
async def test_caller_that_takes_nothing_for_long_counts_as_lost(
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    on_disconnect: "pb.OnDisconnect.ValueType",
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


class Reader:
    """The caller of a watch, who takes nothing until it is told to."""

    def __init__(self) -> None:
        self.takes = asyncio.Event()

    async def write(self, _: object) -> None:
        await self.takes.wait()

    def add_done_callback(self, _: object) -> None:
        """Never done."""


async def test_message_that_fits_does_not_wait_behind_one_that_was_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when room is looked for only where some comes free: its watch ends for nothing."""
    monkeypatch.setattr(unsent, "OWNER_BYTES", 100)
    held, owner_id, reader = unsent.Unsent(), uuid.uuid4(), Reader()
    reader.takes.set()

    def send(size: int, take_s: float, to: Reader) -> "asyncio.Task[bool]":
        return asyncio.create_task(held.send(to, owner_id, BytesValue(value=b"x" * size), take_s))

    sending = send(60, 20, Reader())
    await asyncio.sleep(0)
    long, short = send(70, 0.01, reader), send(20, 20, reader)

    assert [False, True] == [await long, await asyncio.wait_for(short, 10)]
    sending.cancel()
    await asyncio.wait([sending])
    assert 0 == held.in_use


async def test_what_watches_have_not_sent_is_bounded_for_each_owner(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when what is written and not taken is not counted, or counts against other owners."""
    monkeypatch.setattr(unsent, "OWNER_BYTES", 100_000)
    monkeypatch.setattr(servicer, "TAKE_S", 1)
    service = await start_service()
    chats = [
        await service.chat("x" * 30_000, user=user, conversation_id=id_, allow_missing=True)
        for user, id_ in (("ada", an_id()), ("bob", an_id()))
    ]
    for user, chat in zip(("ada", "bob"), chats, strict=True):
        for _ in range(4):
            await service.chat("x" * 30_000, user=user, conversation_id=chat.conversation_id)
    theirs, others = (chat.conversation_id for chat in chats)
    connection = await Connection.opened(service.port, {INITIAL_WINDOW_SIZE: 0})
    request = pb.WatchConversationRequest(conversation_id=theirs)
    body = message(request.SerializeToString())
    for _ in range(12):
        await connection.send(connection.call("WatchConversation", metadata("ada"), body)[1])

    async def watch_until_it_ends() -> None:
        while True:
            await service.watch(theirs).read()

    assert ("UNAVAILABLE", "WATCH_EXPIRED") == await refused(watch_until_it_ends())
    reader = service.watch(others, user="bob")
    while (await reader.read()).message.sequence < 10:
        pass
    reader.cancel()
    connection.close()
    while service.worker.admission.watches.in_use > 1:
        await asyncio.sleep(0.01)
    again = service.watch(theirs)
    while (await again.read()).message.sequence < 10:
        pass
