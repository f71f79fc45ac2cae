"""One owner's calls, or a stranger's, and what is left for all others."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import StoreUnavailable
from parley_server.core.model import Owner
from parley_server.rpc.layers import receiving
from parley_server.rpc.layers.admission import (
    HEALTH_WATCHES_OF_ONE,
    STRANGERS_OF_ONE,
    Admission,
)
from parley_server.rpc.layers.places import Arrivals
from support.agents import Gate, ScriptedAgent
from support.http2 import DATA, HEADERS, INITIAL_WINDOW_SIZE, Connection, frame, message
from support.services import Service, StartService, an_id, details_of, metadata, refused

OVERLOADED = ("RESOURCE_EXHAUSTED", "OVERLOADED")
CLOSED = {INITIAL_WINDOW_SIZE: 0}


@asynccontextmanager
async def connected(service: Service, settings: dict[int, int] = {}) -> AsyncIterator[Connection]:  # noqa: B006 - only read
    connection = await Connection.opened(service.port, settings)
    try:
        yield connection
    finally:
        connection.close()


async def test_one_owner_has_no_more_than_its_share_of_open_chats(
    start_service: StartService,
) -> None:
    """Fails when places are only counted together: the others would be refused."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), max_open_chats=4, owner_share=0.5)
    calls = [asyncio.ensure_future(service.chat(user="mallory")) for _ in range(2)]
    while len(service.worker.turns.attempts) < 2:
        await asyncio.sleep(0.01)

    with pytest.raises(grpc.aio.AioRpcError, match="its limit for one owner") as caught:
        await service.chat(user="mallory")
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == caught.value.code()
    calls += [asyncio.ensure_future(service.chat(user="ada")) for _ in range(2)]
    gate.opened.set()
    assert ["HELLO"] * 4 == [answer.response for answer in await asyncio.gather(*calls)]


async def test_turns_left_behind_count_for_their_owner(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), max_open_chats=2, owner_share=0.5)
    call = asyncio.ensure_future(
        service.chat(user="mallory", on_disconnect=pb.ON_DISCONNECT_CONTINUE)
    )
    await gate.entered.wait()
    call.cancel()
    await asyncio.wait([call])

    assert OVERLOADED == await refused(service.chat(user="mallory"))
    other = asyncio.ensure_future(service.chat(user="ada"))
    gate.opened.set()
    assert "HELLO" == (await other).response


async def test_one_owner_has_no_more_than_its_share_of_watches(
    start_service: StartService,
) -> None:
    service = await start_service(max_watches=2, owner_share=0.5)
    conversations = {
        user: (await service.chat(user=user)).conversation_id for user in ("mallory", "ada")
    }
    first = service.watch(conversations["mallory"], user="mallory")
    await first.read()

    assert OVERLOADED == await refused(
        service.watch(conversations["mallory"], user="mallory").read()
    )
    await service.watch(conversations["ada"], user="ada").read()


async def test_answers_that_an_owner_does_not_take_are_its_own_trouble(
    start_service: StartService,
) -> None:
    """Fails when unsent bytes are only counted together: the others would be refused."""
    service = await start_service(max_unsent_bytes=4 * 1024 * 1024, owner_share=0.5)
    conversation_id = an_id()
    for _ in range(4):
        await service.chat(
            "x" * 120_000, user="mallory", conversation_id=conversation_id, allow_missing=True
        )
    unsent = service.worker.admission.unsent
    while unsent.in_use:  # the turns' own answers are on their way
        await asyncio.sleep(0.01)
    page = pb.GetHistoryRequest(conversation_id=conversation_id, page_size=1000)
    async with connected(service, CLOSED) as connection:
        for _ in range(6):
            await connection.send(
                connection.call(
                    "GetHistory", metadata("mallory"), message(page.SerializeToString())
                )[1]
            )
        while unsent.in_use < 1_800_000:
            await asyncio.sleep(0.01)

        read = service.history(conversation_id, user="mallory", page_size=1000)
        assert OVERLOADED == await refused(read)
        assert "HELLO" == (await service.chat(user="ada")).response
    while unsent.in_use:
        await asyncio.sleep(0.01)
    await service.history(conversation_id, user="mallory", page_size=1000)


async def test_owner_without_room_for_an_answer_is_refused_before_the_turn(
    start_service: StartService,
) -> None:
    """Fails when room is looked for behind the turn: it has run, and is paid for."""
    service = await start_service(max_unsent_bytes=4 * 1024 * 1024, owner_share=0.5)
    conversation_id = (await service.chat(user="mallory")).conversation_id
    unsent, mallory = service.worker.admission.unsent, Owner.of("", "mallory").id
    unsent.add(mallory, 2 * 1024 * 1024)

    call = service.chat(user="mallory", conversation_id=conversation_id)
    assert OVERLOADED == await refused(call)
    unsent.remove(mallory, 2 * 1024 * 1024)
    assert 2 == (await service.history(conversation_id, user="mallory")).last_sequence


BEGUN = struct.pack(">BI", 0, 1024 * 1024) + b"\x0a"
"""The first bytes of a message of 1 MiB."""


async def test_call_without_a_token_ends_before_its_message_has_arrived(
    start_service: StartService,
) -> None:
    """Fails when a message is waited for first: strangers would have the worker hold it."""
    service = await start_service()
    async with connected(service) as connection:
        stream, head = connection.begin("Chat", [])
        await connection.send(head + frame(DATA, 0, stream, BEGUN))
        status = await status_of(connection, stream)

    assert "16" == status  # UNAUTHENTICATED


async def test_message_that_does_not_arrive_is_given_up(
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Fails without a bound on its time. The call has a status, a line in the log and a count."""
    monkeypatch.setattr(receiving, "RECEIVE_S", 0.2)
    service = await start_service(metrics_listen="127.0.0.1:0", log_format="json")
    async with connected(service) as connection:
        stream, head = connection.begin("Chat", metadata("ada"))
        await connection.send(head + frame(DATA, 0, stream, BEGUN))
        status = await status_of(connection, stream)

    assert "3" == status  # INVALID_ARGUMENT
    assert "INVALID_REQUEST" in capfd.readouterr().out


async def status_of(connection: Connection, stream: int) -> str:
    """Return the grpc-status that a stream ends with."""
    while True:
        kind, _, number, payload = await asyncio.wait_for(connection.frames(), 20)
        if number == stream and kind == HEADERS and b"grpc-status" in payload:
            rest = payload.split(b"grpc-status", 1)[1]
            return rest[1 : 1 + rest[0]].decode()


async def test_messages_on_their_way_leave_room_for_other_owners(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when messages on their way are taken first come, first served."""
    monkeypatch.setattr(receiving, "RECEIVE_S", 60)
    service = await start_service()
    async with connected(service) as connection:
        for _ in range(90):
            stream, head = connection.begin("Chat", metadata("mallory"))
            await connection.send(head + frame(DATA, 0, stream, BEGUN))
        arriving = service.worker.admission.receiving
        while arriving.waiting < 50:
            await asyncio.sleep(0.01)

        assert arriving.in_use <= 8
        assert "HELLO" == (await service.chat(user="ada")).response


async def test_strangers_wait_for_each_other_and_for_nobody_else(
    start_service: StartService,
) -> None:
    """Fails when messages of callers without a token are waited for without end."""
    service = await start_service()
    strangers = service.worker.admission.strangers
    statuses = []
    async with connected(service) as connection:
        for _ in range(STRANGERS_OF_ONE + 1):
            stream, head = connection.begin("/grpc.health.v1.Health/Check", [])
            await connection.send(head + frame(DATA, 0, stream, BEGUN))
        statuses.append(await status_of(connection, stream))
        assert STRANGERS_OF_ONE == strangers.in_use
        health = health_pb2_grpc.HealthStub(service.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())

    assert ["8"] == statuses  # RESOURCE_EXHAUSTED
    assert health_pb2.HealthCheckResponse.SERVING == answer.status
    while strangers.in_use:
        await asyncio.sleep(0.01)


async def test_newest_arrivals_end_those_that_have_waited_longest() -> None:
    """Fails when a full house keeps out those who would be done at once."""
    arrivals = Arrivals(3, 2)
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            async with arrivals.of(number, 20):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append(number)

    waiting = [asyncio.ensure_future(wait(number)) for number in range(5)]
    while len(ended) < 2:
        await asyncio.sleep(0)
    async with arrivals.of("whole", 20):
        pass

    assert [0, 1] == ended[:2]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert 0 == arrivals.in_use


async def test_of_arrivals_that_dawdle_few_are_waited_for() -> None:
    """Fails when all that may arrive may take as long: 128 strangers would hold 2 MiB each."""
    arrivals = Arrivals(9, 9, slow_limit=2)

    async def wait() -> None:
        with suppress(TimeoutError):
            async with arrivals.of("stranger", 20):
                await asyncio.Event().wait()

    waiting = [asyncio.ensure_future(wait()) for _ in range(5)]
    await asyncio.wait(waiting[:3])
    assert 2 == arrivals.in_use
    assert [True, True, True, False, False] == [task.done() for task in waiting]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert 0 == arrivals.in_use


async def test_arrival_whose_time_is_over_may_be_the_one_that_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both in one round of the loop. Fails when it is ended twice: the newest gets an INTERNAL."""
    arrivals = Arrivals(1, 2)

    async def wait(most_s: float) -> None:
        with suppress(TimeoutError):
            async with arrivals.of("stranger", most_s):
                await asyncio.Event().wait()

    first = asyncio.create_task(wait(0))
    await asyncio.sleep(0)  # it waits, and its time is over in the next round
    second = asyncio.create_task(wait(20))
    await first
    assert 1 == arrivals.in_use
    second.cancel()
    await asyncio.wait([second])
    assert second.cancelled()
    assert 0 == arrivals.in_use


async def test_health_watches_of_one_connection_are_few(start_service: StartService) -> None:
    service = await start_service()
    health = health_pb2_grpc.HealthStub(service.channel)
    request = health_pb2.HealthCheckRequest()
    watches = [health.Watch(request) for _ in range(HEALTH_WATCHES_OF_ONE)]
    for watch in watches:
        assert health_pb2.HealthCheckResponse.SERVING == (await watch.read()).status

    assert OVERLOADED == await refused(health.Watch(request).read())
    assert health_pb2.HealthCheckResponse.SERVING == (await health.Check(request)).status
    watches[0].cancel()
    while True:
        try:
            await health.Watch(request).read()
            break
        except grpc.aio.AioRpcError as error:
            assert details_of(error)


async def test_health_of_an_unknown_service_is_not_found(service: Service) -> None:
    health = health_pb2_grpc.HealthStub(service.channel)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="none"))
    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


def an_admission() -> Admission:
    return Admission(
        max_open_chats=9,
        max_reads=9,
        max_watches=9,
        max_unsent_bytes=9,
        owner_share=1,
        left_behind=dict,
    )


async def test_pages_of_one_owner_rest_while_others_have_calls_open() -> None:
    """Fails when page follows page: one owner's readers would have all of the worker."""
    admission = an_admission()
    mallory, ada = Owner.of("", "mallory").id, Owner.of("", "ada").id
    loop = asyncio.get_running_loop()

    async def page() -> float:
        """Return how long it waited, when it takes 20 ms to make."""
        asked = loop.time()
        async with admission.page_of(mallory):
            waited = loop.time() - asked
            await asyncio.sleep(0.02)
        return waited

    assert max(await page(), await page()) < 0.05
    admission.open_chats.take(mallory)
    assert max(await page(), await page()) < 0.05
    admission.open_chats.take(ada)
    await page()
    assert await page() >= 3 * 0.02


async def test_page_that_failed_or_took_long_does_not_keep_its_owner_waiting() -> None:
    """Fails when the rest follows what a page took: one that has waited 10 s for the database would
    have the next one wait for 30 s more, and other owners' pages with it."""
    admission = an_admission()
    mallory, ada = Owner.of("", "mallory").id, Owner.of("", "ada").id
    admission.open_chats.take(ada)

    with pytest.raises(StoreUnavailable):
        async with admission.page_of(mallory):
            raise StoreUnavailable
    assert admission.pages.enter_at_once(mallory)
    admission.pages.leave(mallory)

    async with admission.page_of(mallory):
        await asyncio.sleep(0.5)
    assert not admission.pages.enter_at_once(mallory)
    assert 0 == admission.pages.in_use  # all of it is there for others
    async with asyncio.timeout(1.3):  # three times 0.5 s would be more
        await admission.pages.enter(mallory)
