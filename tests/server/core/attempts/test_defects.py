"""A defect inside a run: the turn fails at once, and its conversation is free."""

import asyncio
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as cpb
from parley_server.core.turns.claims import Claims
from support.agents import Gate, ScriptedAgent
from support.services import Service, StartService, reason_of, refused

INTERNAL = ("INTERNAL", "INTERNAL")
HIDDEN = "what was said"


def breaks(service: Service, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Let a method of the worker's store raise what is no error of Parley's."""

    async def broken(*_: Any, **__: Any) -> None:
        raise KeyError(HIDDEN)

    monkeypatch.setattr(service.worker.store, method, broken)


@pytest.mark.parametrize("method", ["window", "finish"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["chat", "stream"])
async def test_defect_in_a_run_fails_the_turn_at_once(
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    is_stream: bool,
) -> None:
    """Fails when only Parley's own errors are written down: the lease has to pass first."""
    service = await start_service(lease_s=3600)
    conversation_id = (await service.chat("first")).conversation_id
    with monkeypatch.context() as patched:
        breaks(service, patched, method)
        fields = {"conversation_id": conversation_id, "request_id": "r"}
        if is_stream:
            stream = service.stream(HIDDEN, **fields)
            assert INTERNAL == await refused(_all(stream))
        else:
            assert INTERNAL == await refused(service.chat(HIDDEN, **fields))

    turn = await service.turn(request_id="r")
    assert (cpb.TURN_STATE_FAILED, "INTERNAL") == (turn.state, reason_of(turn))
    assert turn.error_text
    broke: list[Any] = [record for record in caplog.records if record.message == "attempt broke"]
    assert [("KeyError", turn.turn_id)] == [(r.error, r.turn_id) for r in broke]
    assert __file__ in broke[0].place
    assert HIDDEN not in caplog.text
    again = await service.chat(HIDDEN, **fields)
    assert ("WHAT WAS SAID", 2) == (again.response, (await service.turn(request_id="r")).attempt)


async def test_calls_that_wait_for_a_turn_that_meets_a_defect_are_told_so(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when each of them makes a new attempt: a defect is not one that time mends."""
    gate = Gate()
    agent = ScriptedAgent(gate)
    service = await start_service(agent)
    calls = [asyncio.ensure_future(refused(service.chat(request_id="r")))]
    await gate.entered.wait()
    finds = waiting(monkeypatch, 3)
    calls += [asyncio.ensure_future(refused(service.chat(request_id="r"))) for _ in range(3)]
    await finds
    breaks(service, monkeypatch, "finish")
    gate.opened.set()

    assert [INTERNAL] * 4 == await asyncio.gather(*calls)
    assert 1 == len(agent.runs)


def waiting(monkeypatch: pytest.MonkeyPatch, count: int) -> "asyncio.Future[None]":
    """Return what is done once so many calls wait for the end of a turn."""
    ended = Claims.wait_for_end
    begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    calls = 0

    async def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            begun.set_result(None)
        return await ended(*args)

    monkeypatch.setattr(Claims, "wait_for_end", counted)
    return begun


async def _all(stream: Any) -> list[Any]:
    return [event async for event in stream]
