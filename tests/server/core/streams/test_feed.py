"""WatchTurns: every turn that ends, once each, on any worker, from any cursor."""

import asyncio

import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentRefused
from support.agents import Gate, ScriptedAgent
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    a_token,
    an_id,
    reason_of,
    refused,
)
from support.streams import Stream

pytestmark = WITH_AND_WITHOUT_ROW_SECURITY

Update = pb.WatchTurnsResponse
STATES = {
    "COMPLETED": cpb.TURN_STATE_COMPLETED,
    "FAILED": cpb.TURN_STATE_FAILED,
    "CANCELLED": cpb.TURN_STATE_CANCELLED,
}


async def until_progress(watch: Stream) -> list[Update]:
    """Read a watch until it says that all was told; the progress comes last."""
    updates: list[Update] = []
    while not updates or not updates[-1].HasField("progress"):
        update = await watch.read()
        assert isinstance(update, Update), update
        updates.append(update)
    return updates


async def test_feed_tells_what_has_ended_and_then_what_ends(service: Service) -> None:
    first = await service.chat("one")
    watch = service.watch_turns()
    told = await until_progress(watch)
    second = await service.chat("two")
    live = await watch.read()

    assert [first.turn_id] == [u.turn.turn_id for u in told[:-1]]
    assert STATES["COMPLETED"] == told[0].turn.state
    assert first.conversation_id == told[0].turn.conversation_id
    assert "" == told[0].user
    assert second.turn_id == live.turn.turn_id
    behind = await until_progress(service.watch_turns(after_cursor=told[0].cursor))
    assert [second.turn_id] == [u.turn.turn_id for u in behind[:-1]]


@pytest.mark.parametrize("notify", ["listen", "poll"])
async def test_feed_tells_of_turns_of_other_workers_within_a_second(
    start_service: StartService, notify: str
) -> None:
    one, two = [await start_service(notify=notify) for _ in range(2)]
    watch = one.watch_turns()
    await until_progress(watch)
    for n in range(3):
        chat = await two.chat(f"m{n}")
        async with asyncio.timeout(1.5):
            assert chat.turn_id == (await watch.read()).turn.turn_id
