"""Watching a conversation, through both clients: every message once, whatever gets lost."""

import asyncio
import math
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AsyncParleyClient,
    ConversationNotFound,
    DeadlineExceeded,
    Overloaded,
    ParleyClient,
    ParleyError,
    ScopeMissing,
    Unavailable,
)
from parley_client.retries import (
    MAX_TRIES,
    ExportTries,
    RehearsalTries,
    StreamTries,
    WatchTries,
)
from support.agents import ScriptedAgent, Speaker
from support.both_clients import Streaming, through_async, through_sync
from support.cut_connections import Wire
from support.scripted_server import Refusal
from support.scripted_streams import chunk, streaming
from support.services import StartService, a_token, an_id

EXPIRED = Refusal(reason="WATCH_EXPIRED", retry_s=0.01)
DRAINED = Refusal(reason="WORKER_DRAINED", retry_s=0.01)
OVERLOADED = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_s=0.01)
STOP = Refusal(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
NOT_FOUND = Refusal(grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")
Update = pb.WatchConversationResponse


@pytest.fixture(params=[through_async, through_sync], ids=["async", "sync"])
def through(request: pytest.FixtureRequest) -> Streaming:
    """Either client."""
    return request.param


def a_message(sequence: int) -> Update:
    return Update(message=parts.Message(sequence=sequence))


def a_turn(state: parts.TurnState.ValueType, attempt: int = 1) -> Update:
    return Update(turn=parts.Turn(turn_id="t", state=state, attempt=attempt))


def an_event(index: int, attempt: int = 1) -> Update:
    return Update(event=chunk(f"{attempt}.{index}", index, attempt))


def progress(sequence: int) -> Update:
    return Update(progress=pb.WatchProgress(last_sequence=sequence))


RUNNING = a_turn(parts.TURN_STATE_RUNNING)
DELETED = Update(deleted=pb.WatchDeleted())


async def taken(through: Streaming, address: str, **options: Any) -> list[Update]:
    """Watch until the server refuses for good; return what came."""
    updates = []
    try:
        async for update in through(address, "watch", "c", **options):
            updates.append(update)  # noqa: PERF401 - what came before the error counts
    except ScopeMissing:
        return updates
    raise AssertionError("a watch has no end")


@pytest.mark.slow
async def test_watch_sees_every_message_once_through_cuts_and_workers(
    through: Streaming, start_service: StartService
) -> None:
    """Fails when it goes on from anything but the last message delivered."""
    services = [await start_service() for _ in range(2)]
    conversation_id = (await services[0].chat("m0")).conversation_id
    messages: list[parts.Message] = []
    turns: list[tuple[str, int]] = []
    losses: list[ParleyError] = []

    async def talk() -> None:
        for n in range(1, 25):
            await services[n % 2].chat(f"m{n}", conversation_id=conversation_id)

    async with Wire(services[0].port).running() as one, Wire(services[1].port).running() as two:
        both = f"ipv4:{one.address},{two.address}"
        talking = asyncio.ensure_future(talk())
        stream = through(both, "watch", conversation_id, on_retry=losses.append)
        async with aclosing(stream):
            async for update in stream:
                if update.HasField("turn"):
                    turns.append((update.turn.turn_id, update.turn.state))
                if update.HasField("message"):
                    messages.append(update.message)
                    if len(messages) % 7 == 0:
                        one.cut()
                        two.cut()
                if len(messages) == 50:
                    break
        await talking

    assert list(range(1, 51)) == [message.sequence for message in messages]
    assert [t for n in range(25) for t in (f"m{n}", f"M{n}")] == [m.content for m in messages]
    assert 3 <= len(losses)  # what had arrived before a cut is read in spite of it
    assert len(turns) == len(set(turns))


@pytest.mark.slow
async def test_watch_goes_on_behind_the_last_message(through: Streaming) -> None:
    steps = (
        [a_message(5), a_message(6), progress(6), EXPIRED],
        DRAINED,
        OVERLOADED,
        [progress(6), a_message(7), DRAINED],
        STOP,
    )
    async with streaming(*steps) as server:
        updates = await taken(through, server.address, after_sequence=4, include_events=True)

    assert [4, 6, 6, 6, 7] == [asked.request.after_sequence for asked in server.asked]
    assert {("c", True)} == {
        (asked.request.conversation_id, asked.request.include_events) for asked in server.asked
    }
    assert [5, 6, 7] == [u.message.sequence for u in updates if u.HasField("message")]


async def test_watch_repeats_no_state_and_no_piece(through: Streaming) -> None:
    """A new call tells the open turn's state and its pieces from the first one again."""
    retried = a_turn(parts.TURN_STATE_RUNNING, attempt=2)
    steps = (
        [a_message(1), RUNNING, an_event(0), an_event(1), EXPIRED],
        [RUNNING, an_event(0), an_event(1), an_event(2), DRAINED],
        [retried, an_event(0, 2), DRAINED],
        [retried, an_event(0, 2), an_event(1, 2), STOP],
    )
    async with streaming(*steps) as server:
        updates = await taken(through, server.address, include_events=True)

    pieces = [u.event.chunk.text for u in updates if u.HasField("event")]
    assert ["1.0", "1.1", "1.2", "2.0", "2.1"] == pieces
    assert [1, 2] == [u.turn.attempt for u in updates if u.HasField("turn")]


async def test_watch_shows_the_pieces_of_an_open_turn_through_a_cut(
    through: Streaming, start_service: StartService
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    conversation_id = an_id()
    running = service.stream(conversation_id=conversation_id, allow_missing=True)
    await running.read()
    pieces = []
    lines = ["one ", "two ", "three", None]
    async with Wire(service.port).running() as wire:
        stream = through(wire.address, "watch", conversation_id, include_events=True)
        async with aclosing(stream):
            async for update in stream:
                if update.HasField("event"):
                    pieces.append(update.event.chunk.text)
                    wire.cut()
                if update.HasField("event") or (update.HasField("progress") and not pieces):
                    speaker.say(lines.pop(0))
                if update.message.sequence == 2:
                    break
    assert ["one ", "two ", "three"] == pieces
    assert "one two three" == update.message.content


async def test_watch_of_nothing_is_an_error(
    through: Streaming, start_service: StartService
) -> None:
    service = await start_service()
    with pytest.raises(ConversationNotFound):
        async for _ in through(f"127.0.0.1:{service.port}", "watch", an_id()):
            pass


@pytest.mark.parametrize("end", [NOT_FOUND, DRAINED], ids=["not found", "lost"])
async def test_watch_ends_with_the_conversation(through: Streaming, end: Refusal) -> None:
    """Fails when the status behind `deleted` is raised, or asked about once more."""
    losses: list[ParleyError] = []
    async with streaming([a_message(1), DRAINED], [a_message(2), DELETED, end]) as server:
        stream = through(server.address, "watch", "c", on_retry=losses.append)
        updates = [update async for update in stream]
    assert [a_message(1), a_message(2), DELETED] == updates
    assert (2, 1) == (len(server.asked), len(losses))


async def test_watch_ends_with_a_conversation_that_is_deleted_between_two_calls(
    through: Streaming,
) -> None:
    """Fails when the status of the next call is raised instead: what has happened is the same."""
    async with streaming([a_message(1), DRAINED], DRAINED, NOT_FOUND) as server:
        updates = [update async for update in through(server.address, "watch", "c")]
    assert [a_message(1), DELETED] == updates
    assert 3 == len(server.asked)


async def test_watch_that_nothing_has_come_of_tells_of_no_deletion(through: Streaming) -> None:
    async with streaming(DRAINED, NOT_FOUND) as server:
        with pytest.raises(ConversationNotFound):
            async for _ in through(server.address, "watch", "c"):
                pass


class Source:
    """A token function that fails when it is asked for these times."""

    def __init__(self, *fails: int) -> None:
        self.asked = 0
        self._fails = fails

    def __call__(self) -> str:
        self.asked += 1
        if self.asked in self._fails:
            raise OSError(f"the vault is sealed {self.asked}")
        return "token"


async def watched(address: str, is_async: bool, source: Source, on_retry: Any) -> list[Update]:
    if is_async:
        async with AsyncParleyClient(address, token=source) as client:
            return [update async for update in client.watch("c", on_retry=on_retry)]

    def watch() -> list[Update]:
        with ParleyClient(address, token=source) as client:
            return list(client.watch("c", on_retry=on_retry))

    return await asyncio.to_thread(watch)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_watch_under_way_waits_for_its_token(is_async: bool) -> None:
    """Fails when a token that cannot be got for a moment ends what would wait for a server."""
    losses: list[ParleyError] = []
    source = Source(2, 3)
    async with streaming([a_message(1), EXPIRED], [DELETED]) as server:
        updates = await watched(server.address, is_async, source, losses.append)
    assert [a_message(1), DELETED] == updates
    assert (4, 2) == (source.asked, len(server.asked))
    assert ["the vault is sealed 2", "the vault is sealed 3"] == [
        str(loss.__cause__) for loss in losses[1:]
    ]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_watch_that_never_began_raises_what_its_token_function_raises(is_async: bool) -> None:
    source = Source(1)
    async with streaming([DELETED]) as server:
        with pytest.raises(OSError, match="the vault is sealed 1"):
            await watched(server.address, is_async, source, None)
    assert (1, 0) == (source.asked, len(server.asked))


@pytest.mark.parametrize(
    ("tries", "most"),
    [(WatchTries(), 99), (StreamTries(math.inf), 7), (ExportTries(), 7), (RehearsalTries(60), 0)],
    ids=["watch", "turn", "export", "rehearsal"],
)
def test_tries_for_a_token_are_counted(tries: StreamTries, most: int) -> None:
    """Fails when a function that fails for good is asked for ever, and nobody learns of it."""
    no_token = Unavailable("no token")
    assert tries.pause_for_token_s(no_token) is None
    for _ in range(2):
        tries.note_progress()
        pauses = [tries.pause_for_token_s(no_token) for _ in range(200)]
        assert most == sum(pause is not None for pause in pauses)


def test_a_server_that_was_away_for_long_leaves_tries_for_a_token() -> None:
    tries = WatchTries()
    tries.note_progress()
    for _ in range(200):
        tries.pause_s(Unavailable(""))
    assert tries.pause_for_token_s(Unavailable("no token")) is not None


@pytest.mark.slow
async def test_watch_notices_a_server_that_vanished(through: Streaming) -> None:
    """Fails without pings: the watch would wait for its next update for five minutes."""

    async def never(_request: Any) -> Refusal:
        await asyncio.sleep(300)
        return STOP

    began = asyncio.get_running_loop().time()
    updates = []
    async with (
        streaming([a_message(1), never], [DELETED]) as server,
        Wire(server.port).running() as wire,
    ):
        async for update in through(wire.address, "watch", "c"):
            updates.append(update)
            if wire.made == 1:
                wire.pass_again()  # what new connections say, and nothing of this one
    assert [a_message(1), DELETED] == updates
    assert asyncio.get_running_loop().time() - began < 45


async def test_watch_of_a_conversation_that_is_deleted_ends(
    through: Streaming, start_service: StartService
) -> None:
    service = await start_service()
    conversation_id = (await service.chat("one")).conversation_id
    address = f"127.0.0.1:{service.port}"
    kinds = []
    async with AsyncParleyClient(address, token=a_token()) as client:
        async for update in through(address, "watch", conversation_id):
            kinds.append(update.WhichOneof("update"))
            if update.HasField("progress"):
                await client.delete_conversation(conversation_id)
    assert "deleted" == kinds[-1]
    assert 2 == kinds.count("message")


async def test_closing_a_watch_ends_the_call(
    through: Streaming, start_service: StartService
) -> None:
    service = await start_service()
    conversation_id = (await service.chat("one")).conversation_id
    address = f"127.0.0.1:{service.port}"
    async with aclosing(through(address, "watch", conversation_id)) as updates:
        await anext(updates)
        assert 1 == service.worker.admission.watches.in_use
    while service.worker.admission.watches.in_use:
        await asyncio.sleep(0.01)


def test_a_watch_that_never_began_is_given_up() -> None:
    tries = WatchTries()
    pauses = [tries.pause_s(Unavailable("")) for _ in range(MAX_TRIES)]
    assert [False] * (MAX_TRIES - 1) + [True] == [pause is None for pause in pauses]
    assert WatchTries().pause_s(Overloaded("")) is None


def test_a_watch_that_began_is_gone_on_with_for_ever_and_not_too_often() -> None:
    tries = WatchTries()
    tries.note_progress()
    kinds = (Unavailable, Overloaded, DeadlineExceeded)
    pauses = [tries.pause_s(kinds[n % 3]("")) or 0.0 for n in range(2000)]
    assert 2.4 <= min(pauses[10:]) <= max(pauses) <= 3.6
    assert 7.0 == tries.pause_s(Unavailable("", retry_after_s=7.0))
    assert tries.pause_s(ScopeMissing("")) is None
