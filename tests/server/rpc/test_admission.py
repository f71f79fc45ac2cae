"""What a worker takes at once, and what becomes of calls beyond."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.bells import Bells
from support.agents import Gate, ScriptedAgent
from support.services import StartService, an_id, details_of, metadata, refused, trailing_of

OVERLOADED = ("RESOURCE_EXHAUSTED", "OVERLOADED")


async def test_chats_beyond_the_limit_are_refused_and_told_when_to_come_back(
    start_service: StartService,
) -> None:
    """Fails without the layer `admitted`: the third chat waits at the gate as well."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), max_open_chats=2, max_reads=1)
    open_ones = [asyncio.ensure_future(service.chat()) for _ in range(2)]
    while len(service.worker.turns.attempts) < 2:
        await asyncio.sleep(0.01)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat()
    delays = [d for d in details_of(caught.value) if isinstance(d, error_details_pb2.RetryInfo)]
    assert 500 == delays[0].retry_delay.ToMilliseconds()
    assert "500" == trailing_of(caught.value)["grpc-retry-pushback-ms"]
    assert OVERLOADED == await refused(anext(aiter(service.stream())))

    gate.opened.set()
    await asyncio.gather(*open_ones)
    assert "HELLO" == (await service.chat()).response


async def test_a_full_worker_still_reads_cancels_and_tells_its_health(
    start_service: StartService,
) -> None:
    """Fails when CancelTurn takes a place of the chats': then nobody could free one."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), max_open_chats=1)
    conversation_id = an_id()
    call = asyncio.ensure_future(
        service.chat(conversation_id=conversation_id, allow_missing=True, request_id="r")
    )
    await gate.entered.wait()
    assert OVERLOADED == await refused(service.chat())

    assert 1 == len((await service.history(conversation_id)).messages)
    health = health_pb2_grpc.HealthStub(service.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert health_pb2.HealthCheckResponse.SERVING == answer.status
    await service.cancel(request_id="r")
    assert conversation_pb2.FINISH_REASON_CANCELLED == (await call).finish_reason


async def test_turns_that_go_on_without_their_callers_keep_their_places(
    start_service: StartService,
) -> None:
    """Fails when only calls count: dropping them would open turns without end."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), max_open_chats=1)
    call = asyncio.ensure_future(service.chat(on_disconnect=pb.ON_DISCONNECT_CONTINUE))
    await gate.entered.wait()
    call.cancel()
    await asyncio.wait([call])

    assert OVERLOADED == await refused(service.chat())
    gate.opened.set()
    await gate.closed.wait()
    while len(service.worker.turns.attempts):
        await asyncio.sleep(0.01)
    await service.chat()


async def test_turns_without_callers_and_calls_without_turns_count_together(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the greater of the two counts: what one worker takes is then twice the limit."""
    gate, waits = Gate(), asyncio.Event()
    next_look_s = Bells.next_look_s

    def seen_waiting(bells: Bells) -> float:
        waits.set()
        return next_look_s(bells)

    monkeypatch.setattr(Bells, "next_look_s", seen_waiting)
    service = await start_service(ScriptedAgent(gate), max_open_chats=2)
    left = asyncio.ensure_future(
        service.chat(
            on_disconnect=pb.ON_DISCONNECT_CONTINUE, conversation_id=an_id(), allow_missing=True
        )
    )
    await gate.entered.wait()
    conversation_id = (await service.conversations()).conversations[0].conversation_id
    left.cancel()
    await asyncio.wait([left])
    busy = ("ABORTED", "TURN_IN_PROGRESS")
    while busy != await refused(service.chat(conversation_id=conversation_id)):
        pass  # the call that has left holds its place for a moment longer
    waiting = asyncio.ensure_future(
        service.chat(conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT)
    )
    await waits.wait()
    assert OVERLOADED == await refused(service.chat(conversation_id=conversation_id))

    gate.opened.set()
    assert "HELLO" == (await waiting).response


async def test_reads_have_places_of_their_own(start_service: StartService) -> None:
    service = await start_service(max_reads=1)
    reads = [service.conversations() for _ in range(40)]
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    busy = [o for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]

    assert 0 < len(busy) < 40
    assert {"RESOURCE_EXHAUSTED"} == {error.code().name for error in busy}
    await service.chat()
    await service.conversations()


async def test_without_a_token_nobody_learns_that_a_worker_is_full(
    start_service: StartService,
) -> None:
    """Fails when places are taken before the token is looked at."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), max_open_chats=1)
    call = asyncio.ensure_future(service.chat())
    await gate.entered.wait()

    nobody = service.stub.Chat(pb.ChatRequest(message="hello"), timeout=20)
    assert ("UNAUTHENTICATED", "UNAUTHENTICATED") == await refused(nobody)
    bad = service.stub.Chat(pb.ChatRequest(), metadata=metadata("ada"), timeout=20)
    assert OVERLOADED == await refused(bad)  # not INVALID_ARGUMENT: nothing more is looked at
    gate.opened.set()
    await call
