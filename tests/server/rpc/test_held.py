"""What one owner's calls hold: messages, places, what they have begun, answers."""

import asyncio
import gc
import weakref
from typing import Any, cast

import grpc
import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import Overloaded
from parley_server.core.model import FeedPage, FeedPlace, FeedScope, Owner
from parley_server.core.streams.feed import READING_FOR_ONE
from parley_server.rpc.layers.access_log import logged
from parley_server.rpc.layers.admission import EXPORTS_OF_ONE, SHORT_CALLS_OF_ONE
from parley_server.rpc.layers.status import with_status
from support.agents import Gate, ScriptedAgent
from support.http2 import INITIAL_WINDOW_SIZE, Connection, message
from support.messages import user as a_message
from support.services import Service, StartService, an_id, metadata, refused

OVERLOADED = ("RESOURCE_EXHAUSTED", "OVERLOADED")


async def test_messages_of_calls_that_wait_are_bounded(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when calls are only counted: 2,000 that wait for one turn, each with 1 MiB, are as many
    as an owner may have open, and more than a worker's memory."""
    monkeypatch.setattr("parley_server.rpc.layers.admission.HELD_REQUEST_BYTES", 400_000)
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), owner_share=0.5)
    conversation_id = an_id()

    def call() -> asyncio.Future[pb.ChatResponse]:
        chat = service.chat(
            "x" * 90_000,
            user="mallory",
            conversation_id=conversation_id,
            allow_missing=True,
            on_busy=pb.ON_BUSY_WAIT,
        )
        return asyncio.ensure_future(chat)

    held = service.worker.admission.held_requests
    calls = [call() for _ in range(2)]
    while held.in_use < 180_000:
        await asyncio.sleep(0.01)

    assert OVERLOADED == await refused(call())
    assert OVERLOADED == await refused(
        service.append(conversation_id, a_message("x" * 90_000), user="mallory")
    )
    gate.opened.set()
    assert "HELLO" == (await service.chat(user="ada")).response
    await asyncio.gather(*calls)
    while held.in_use:
        await asyncio.sleep(0.01)


async def test_forks_and_added_messages_of_one_owner_are_made_one_at_a_time(
    start_service: StartService,
) -> None:
    """Fails when they are made as they come: 20 forks of 50,000 messages, asked for by 20 calls of
    a few bytes, have the database to themselves."""
    service = await start_service()
    mallory = Owner.of("", "mallory").id
    ids = {user: (await service.chat(user=user)).conversation_id for user in ("mallory", "ada")}
    async with service.worker.admission.page_of(mallory):
        calls = [
            asyncio.ensure_future(service.fork(ids["mallory"], user="mallory")),
            asyncio.ensure_future(service.append(ids["mallory"], a_message("x"), user="mallory")),
        ]
        for _ in range(3):
            await service.fork(ids["ada"], user="ada")
            await service.append(ids["ada"], a_message("x"), user="ada")
        assert [False, False] == [call.done() for call in calls]
    await asyncio.gather(*calls)


async def test_call_that_was_left_keeps_its_place_until_what_it_began_has_ended(
    start_service: StartService, database_url: str
) -> None:
    """Fails when a place is given back with the call: an owner that begins calls and leaves them
    would have any number of forks under way."""
    service = await start_service(max_reads=2, owner_share=0.5)
    conversation_id = (await service.chat(user="mallory")).conversation_id
    async with await psycopg.AsyncConnection.connect(database_url) as locking:
        await locking.execute("SELECT FROM conversation FOR UPDATE")
        call = asyncio.ensure_future(service.update(conversation_id, title="x", user="mallory"))
        waits = "SELECT FROM pg_locks WHERE NOT granted"
        while not (await locking.execute(waits)).rowcount:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait([call])

        assert OVERLOADED == await refused(service.conversations(user="mallory"))
        await service.conversations(user="ada")
    while service.worker.admission.reads.in_use:
        await asyncio.sleep(0.01)
    await service.conversations(user="mallory")


async def test_answer_of_a_call_that_changes_something_is_always_sent(
    start_service: StartService,
) -> None:
    """Fails when all unary calls but turns count as reads: what was stored would be refused, and
    stored again by a caller without a request id that believes it."""
    service = await start_service(max_unsent_bytes=4 * 1024 * 1024, owner_share=0.5)
    unsent, mallory = service.worker.admission.unsent, Owner.of("", "mallory").id
    unsent.add(mallory, 2 * 1024 * 1024 - 1)

    assert (await service.create(user="mallory")).conversation.conversation_id
    while unsent.in_use >= 2 * 1024 * 1024:  # its answer is on its way
        await asyncio.sleep(0.01)
    assert OVERLOADED == await refused(service.conversations(user="mallory"))
    unsent.remove(mallory, 2 * 1024 * 1024 - 1)
    assert 1 == len((await service.conversations(user="mallory")).conversations)


async def test_answer_that_was_given_before_is_refused_where_there_is_no_room(
    start_service: StartService,
) -> None:
    """Fails when every answer to a turn is sent: one turn of 1 MiB, asked for again by 2,000 calls
    that take nothing, would be 2 GB."""
    service = await start_service(max_unsent_bytes=4 * 1024 * 1024, owner_share=0.5)
    unsent, mallory = service.worker.admission.unsent, Owner.of("", "mallory").id
    await service.chat(user="mallory", request_id="once")
    unsent.add(mallory, 2 * 1024 * 1024 - 1)

    assert OVERLOADED == await refused(service.chat(user="mallory", request_id="once"))
    unsent.remove(mallory, 2 * 1024 * 1024 - 1)
    assert (await service.chat(user="mallory", request_id="once")).replayed


async def test_long_answers_at_the_end_of_streams_are_counted(
    start_service: StartService,
) -> None:
    """Fails when only watches' messages are: as many streams as an owner may have, each with 1 MiB
    that it does not take, are more than a worker's memory."""
    service = await start_service()
    await service.chat("x" * 200_000, user="mallory", request_id="once")
    chat = pb.ChatRequest(message="x" * 200_000, request_id="once")
    body = message(pb.StreamChatRequest(chat=chat).SerializeToString())
    unsent = service.worker.admission.unsent_of_watches
    connection = await Connection.opened(service.port, {INITIAL_WINDOW_SIZE: 0})
    stream, head = connection.begin("StreamChat", metadata("mallory"))
    await connection.send(head)
    await connection.upload(stream, body)
    while unsent.in_use < 200_000:
        await asyncio.sleep(0.01)
    connection.close()
    while unsent.in_use:
        await asyncio.sleep(0.01)


async def test_short_calls_of_one_owner_wait_for_each_other_and_nobody_else_does(
    service: Service,
) -> None:
    """Fails when all are carried out as they come: beside 200 of them at once, others' turns took
    120 ms instead of 3."""
    places, mallory = service.worker.admission.short_calls, Owner.of("", "mallory").id
    conversation_id = (await service.chat(user="ada")).conversation_id
    for _ in range(SHORT_CALLS_OF_ONE):
        await places.enter(mallory)

    waiting = asyncio.ensure_future(service.create(user="mallory"))
    while not places.waiting:
        await asyncio.sleep(0.01)
    assert (await service.conversation(conversation_id)).conversation_id == conversation_id
    assert not waiting.done()
    places.leave(mallory)
    await waiting


async def test_one_owner_has_few_exports(service: Service) -> None:
    """Fails when only watches are counted: 1,600, and each holds what it has read and not sent."""
    exports = service.worker.admission.exports
    mallory = Owner.of("", "mallory").id
    for _ in range(EXPORTS_OF_ONE):
        exports.take(mallory)

    assert OVERLOADED == await refused(service.export(user="mallory").read())
    exports.leave(mallory)
    assert await service.export(user="mallory").read()
    assert await service.export(user="ada").read()


async def test_watches_of_feeds_read_two_pages_at_a_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when each reads as it likes: one that watches a tenant reads for all owners, and the
    pool takes it for as many."""
    store, feed = service.worker.feed_store, service.worker.feed_store.feed
    reading = most = 0

    async def counted(scope: FeedScope, after: FeedPlace, *, limit: int) -> FeedPage:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        try:
            return await feed(scope, after, limit=limit)
        finally:
            reading -= 1

    for _ in range(12):
        await service.chat()
    told = service.watch_turns()
    cursors = [(await told.read()).cursor for _ in range(12)]
    told.cancel()
    monkeypatch.setattr(store, "feed", counted)
    watches = [service.watch_turns(after_cursor=cursor) for cursor in cursors]

    assert all(await asyncio.gather(*(watch.read() for watch in watches)))
    assert READING_FOR_ONE == most


class Told:
    """Stands for gRPC's side of a call, which is told a status."""

    def time_remaining(self) -> None:
        return None

    async def abort(self, *_: object) -> None:
        raise grpc.aio.AbortError


async def test_error_that_is_told_lets_go_of_what_it_came_through() -> None:
    """Fails when a frame and its error hold each other: 1,500 refused calls of 250 kB each left
    1.1 GB to the garbage collector, which had no reason to run."""

    class Request:
        """Takes memory."""

    left = []

    async def refusing(*_: object) -> None:
        request = Request()
        left.append(weakref.ref(request))
        try:
            raise TimeoutError
        except TimeoutError as error:
            failure = error  # as code does that looks at it later
            raise Overloaded from failure

    gc.disable()
    try:
        with pytest.raises(grpc.aio.AbortError):
            await with_status(logged("Chat", refusing))(None, cast("Any", Told()))
        assert [None] == [request() for request in left]
    finally:
        gc.enable()
