"""Watching the turns that end, through both clients: each end once, whatever gets lost."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AsyncParleyClient,
    CursorExpired,
    InvalidPageToken,
    ParleyClient,
    ParleyError,
    ScopeMissing,
    StoreUnavailable,
)
from support.both_clients import Streaming, through_async, through_sync
from support.cut_connections import Wire
from support.scripted_server import Refusal
from support.scripted_streams import streaming
from support.services import Service, StartService, an_id

EXPIRED = Refusal(reason="WATCH_EXPIRED", retry_s=0.01)
DRAINED = Refusal(reason="WORKER_DRAINED", retry_s=0.01)
UNAVAILABLE = Refusal(reason="STORE_UNAVAILABLE", retry_s=0.01)
OVERLOADED = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_s=0.01)
STOP = Refusal(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
CURSOR_EXPIRED = Refusal(
    grpc.StatusCode.FAILED_PRECONDITION,
    "CURSOR_EXPIRED",
    metadata={"oldest_time": "2026-11-28T04:05:06.789000+00:00"},
)
Update = pb.WatchTurnsResponse


@pytest.fixture(params=[through_async, through_sync], ids=["async", "sync"])
def through(request: pytest.FixtureRequest) -> Streaming:
    """Either client."""
    return request.param


def a_turn(turn_id: str) -> Update:
    return Update(turn=parts.Turn(turn_id=turn_id), cursor=f"behind {turn_id}")


def progress(cursor: str) -> Update:
    return Update(progress=pb.WatchTurnsProgress(), cursor=cursor)


async def taken(through: Streaming, address: str, **options: Any) -> list[Update]:
    """Watch until the server refuses for good; return what came."""
    updates = []
    try:
        async for update in through(address, "watch_turns", **options):
            updates.append(update)  # noqa: PERF401 - what came before the error counts
    except ScopeMissing:
        return updates
    raise AssertionError("a feed has no end")


def address_of(service: Service) -> str:
    return f"127.0.0.1:{service.port}"


@pytest.mark.slow
async def test_feed_tells_every_turn_once_through_cuts_and_workers(
    through: Streaming, start_service: StartService
) -> None:
    """Fails when it goes on from anything but the last cursor."""
    services = [await start_service() for _ in range(2)]
    answers = [await services[0].chat(f"m{n}") for n in range(5)]
    told: list[str] = []
    losses: list[ParleyError] = []

    async def talk() -> None:
        for n in range(20):
            answers.append(await services[n % 2].chat(f"m{n}"))  # noqa: PERF401 - one by one

    async with Wire(services[0].port).running() as one, Wire(services[1].port).running() as two:
        both = f"ipv4:{one.address},{two.address}"
        talking = asyncio.ensure_future(talk())
        async with aclosing(through(both, "watch_turns", on_retry=losses.append)) as stream:
            async for update in stream:
                if update.HasField("turn"):
                    told.append(update.turn.turn_id)
                    if len(told) % 4 == 0:
                        one.cut()
                        two.cut()
                if len(told) == 25:
                    break
        await talking

    assert [answer.turn_id for answer in answers] == told
    assert losses  # how many depends on how soon it is connected again


@pytest.mark.slow
async def test_feed_goes_on_behind_the_last_cursor_of_a_turn_or_of_progress(
    through: Streaming,
) -> None:
    steps = (
        [a_turn("a"), EXPIRED],
        DRAINED,
        OVERLOADED,
        [a_turn("b"), progress("later"), DRAINED],
        STOP,
    )
    async with streaming(*steps) as server:
        options = {"after_cursor": "given", "labels": {"team": "blue"}, "all_owners": True}
        updates = await taken(through, server.address, **options)

    asked = [each.request for each in server.asked]
    assert ["given", "behind a", "behind a", "behind a", "later"] == [a.after_cursor for a in asked]
    assert {(("team=blue",), True)} == {(tuple(a.labels), a.all_owners) for a in asked}
    assert [a_turn("a"), a_turn("b"), progress("later")] == updates


async def test_feed_of_new_turns_misses_none_that_end_while_the_connection_is_lost(
    through: Streaming,
) -> None:
    """Fails when the second call asks for what is new from then on: it has to have a cursor."""
    async with streaming([progress("now"), DRAINED], STOP) as server:
        await taken(through, server.address, only_new=True)
    assert [(True, ""), (True, "now")] == [
        (each.request.only_new, each.request.after_cursor) for each in server.asked
    ]


async def test_expired_cursor_is_the_callers_to_decide_about(through: Streaming) -> None:
    async with streaming([a_turn("a"), DRAINED], CURSOR_EXPIRED) as server:
        with pytest.raises(CursorExpired) as caught:
            async for _ in through(server.address, "watch_turns"):
                pass
    assert datetime(2026, 11, 28, 4, 5, 6, 789_000, UTC) == caught.value.oldest_time
    assert (2, False) == (len(server.asked), caught.value.is_retryable)


@pytest.mark.slow
async def test_feed_that_never_began_is_given_up(through: Streaming) -> None:
    """Fails when gRPC repeats the call as well: it is asked more often then."""
    async with streaming(UNAVAILABLE) as server:
        with pytest.raises(StoreUnavailable):
            async for _ in through(server.address, "watch_turns"):
                pass
    assert 5 == len(server.asked)


async def test_cursor_of_another_feed_is_refused(through: Streaming, service: Service) -> None:
    with pytest.raises(InvalidPageToken):
        async for _ in through(address_of(service), "watch_turns", after_cursor="yesterday"):
            pass


async def test_closing_a_feed_ends_the_call(
    through: Streaming, start_service: StartService
) -> None:
    service = await start_service()
    await service.chat("one", conversation_id=an_id(), allow_missing=True)
    async with aclosing(through(address_of(service), "watch_turns")) as updates:
        await anext(updates)
        assert 1 == service.worker.admission.watches.in_use
    while service.worker.admission.watches.in_use:
        await asyncio.sleep(0.01)


def test_label_that_is_another_one_on_the_wire_is_refused_at_once() -> None:
    for client in (AsyncParleyClient(), ParleyClient()):
        with pytest.raises(ValueError, match='"=" in its key'):
            client.watch_turns(labels={"a=b": "c"})
