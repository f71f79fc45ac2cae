"""A port that closes: what arrives meanwhile is answered in words."""

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest

from parley_server.rpc.door import Door
from support.services import Service, StartService, gathered, info_of


async def said_until_told(service: Service) -> Counter[str]:
    """Call again and again until a call is not answered. Returns: how the calls ended."""
    ends: Counter[str] = Counter()
    while True:
        try:
            await service.chat()
            ends["OK"] += 1
        except grpc.aio.AioRpcError as error:
            ends[error.code().name] += 1
            return ends


async def test_calls_that_wait_to_be_picked_up_when_a_port_closes_are_refused_in_words(
    start_service: StartService,
) -> None:
    """Fails without the door: what gRPC has not handed over yet ends as CANCELLED."""
    service = await start_service()
    await service.chat()
    calls = [asyncio.ensure_future(service.chat()) for _ in range(90)]
    await asyncio.sleep(0)  # they are sent
    await service.worker.server.drain(5)
    errors: list[Any] = [end for end in await gathered(*calls) if isinstance(end, BaseException)]
    assert errors
    assert {(grpc.StatusCode.UNAVAILABLE, "WORKER_DRAINED")} == {
        (error.code(), info_of(error).reason) for error in errors
    }


async def test_callers_that_never_pause_are_told_unavailable_when_a_port_closes(
    start_service: StartService,
) -> None:
    """Fails without the door, in most runs; and if the door only waits and does not hold."""
    service = await start_service()
    await service.chat()
    calling = [asyncio.ensure_future(said_until_told(service)) for _ in range(30)]
    await asyncio.wait([asyncio.ensure_future(service.chat())])
    await service.worker.server.drain(5)
    ends = sum(await asyncio.gather(*calling), Counter())
    assert {"UNAVAILABLE": 30} == {code: n for code, n in ends.items() if code != "OK"}


async def test_a_call_that_is_held_may_leave(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door()
    monkeypatch.setattr("parley_server.rpc.server.Door", lambda: door)
    service = await start_service()
    door.hold()
    call = service.stream()
    await asyncio.sleep(0)
    call.cancel()
    door.release()
    assert "HELLO" == (await service.chat()).response
