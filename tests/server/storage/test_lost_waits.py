"""Statements about waits whose outcome is lost, or that come too late: each counts once."""

from typing import Any
from uuid import UUID

import pytest

from parley.v1 import conversation_pb2 as messages
from parley_server.core.errors import StoreOutcomeUnknown
from parley_server.core.model import Failing, FailureReason, Lease, Owner, StoredEvent, Text
from support.services import Service, StartService, refused
from support.waiting import WEATHER, AskingAgent, result

ADA = Owner.of("", "ada")
TWO = (("weather", "weather"),)


def lose(service: Service, name: str, monkeypatch: pytest.MonkeyPatch, *, is_done: bool) -> None:
    """Have the outcome of a statement be lost once, whether or not it is carried out."""
    waits = service.worker.expiring.waits
    statement = getattr(waits, name)
    lost = [True]

    async def once(*given: Any, **how: Any) -> Any:
        if not lost:
            return await statement(*given, **how)
        lost.clear()
        if is_done:
            await statement(*given, **how)
        raise StoreOutcomeUnknown

    monkeypatch.setattr(waits, name, once)


@pytest.mark.parametrize("is_done", [False, True], ids=["never", "at once"])
async def test_lost_wait_begins_once(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    """Fails when the turn is not read back: the caller is told that its lease was lost."""
    service = await start_service(AskingAgent())
    lose(service, "wait", monkeypatch, is_done=is_done)

    waits = await service.chat("hello", request_id="r", tools=[WEATHER])

    assert messages.FINISH_REASON_ACTION_REQUIRED == waits.finish_reason
    answer = await service.resume(result(waits.pending_calls[0]), request_id="r")
    assert "1. done: sunny" == answer.response


@pytest.mark.parametrize("is_done", [False, True], ids=["never", "at once"])
async def test_lost_part_is_stored_once(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    service = await start_service(AskingAgent(TWO))
    first, second = (await service.chat("hello", request_id="r", tools=[WEATHER])).pending_calls
    lose(service, "give", monkeypatch, is_done=is_done)

    rest = await service.resume(result(first), request_id="r")

    assert ([second], is_done) == (list(rest.pending_calls), rest.replayed)
    assert (
        "1. done: sunny, b" == (await service.resume(result(second, "b"), request_id="r")).response
    )


@pytest.mark.slow
@pytest.mark.parametrize("is_done", [False, True], ids=["never", "at once"])
async def test_lost_resume_runs_the_turn_once(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    """If it was carried out, the turn is run once its lease has passed."""
    agent = AskingAgent()
    service = await start_service(agent, lease_s=1)
    (pending,) = (await service.chat("hello", request_id="r", tools=[WEATHER])).pending_calls
    lose(service, "resume", monkeypatch, is_done=is_done)

    answer = await service.resume(result(pending), request_id="r")

    assert "1. done: sunny" == answer.response
    assert [1, 3 if is_done else 2] == [run.attempt for run in agent.runs]


@pytest.mark.parametrize("is_done", [False, True], ids=["never", "at once"])
async def test_lost_end_of_a_wait_is_made_up_for(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    service = await start_service(AskingAgent(), lease_s=1)
    waits = await service.chat("hello", request_id="r", tools=[WEATHER])
    lose(service, "end", monkeypatch, is_done=is_done)

    assert ("UNAVAILABLE", "STORE_UNAVAILABLE") == await refused(service.cancel(request_id="r"))
    turn = await service.cancel(request_id="r")

    while turn.state != messages.TURN_STATE_CANCELLED:
        turn = await service.cancel(request_id="r")
    (call,) = (await service.history(waits.conversation_id)).messages[-1].tool_calls
    assert call.is_error


async def test_what_an_attempt_writes_after_its_turn_waits_does_not_count(
    start_service: StartService,
) -> None:
    """Fails when the fence stays as it is: a late renewal gives the turn a lease, which passes."""
    service = await start_service(AskingAgent())
    waits = await service.chat("hello", request_id="r", tools=[WEATHER])
    store = service.worker.store
    turn = await store.find(ADA, "r")
    assert turn is not None
    late = Lease(UUID(waits.conversation_id), turn.id, attempt=1, fence=1, user_sequence=1)

    assert await store.renew(ADA, late) is None
    failed = await store.fail(ADA, late, FailureReason.STORE_UNAVAILABLE, "", spent=None)
    assert Failing.LEASE_LOST is failed
    assert not await store.append(ADA, late, [StoredEvent(9, Text("late"))])

    assert turn == await store.find(ADA, "r")
    standing = await store.standing(ADA, late.conversation_id)
    assert standing is not None
    assert (turn.id, None) == (standing.open_turn_id, standing.lease_end_time)
