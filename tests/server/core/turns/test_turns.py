"""The turn machine, row by row: what a request id, a sequence and an open turn lead to."""

import asyncio
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import error_reason_pb2
from support.agents import Gate, ScriptedAgent
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    gathered,
    info_of,
    refused,
    trailing_of,
)

pytestmark = WITH_AND_WITHOUT_ROW_SECURITY


async def test_new_conversation_is_made_without_an_id(service: Service) -> None:
    response = await service.chat("hello there")

    listed = (await service.conversations()).conversations
    assert [response.conversation_id] == [c.conversation_id for c in listed]
    assert "hello there" == listed[0].title
    assert "HELLO THERE" == listed[0].preview
    assert 2 == listed[0].last_sequence
    assert "" == listed[0].open_turn_id


async def test_unknown_conversation_is_not_found(service: Service) -> None:
    conversation_id = an_id()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat(conversation_id=conversation_id)

    assert grpc.StatusCode.NOT_FOUND == caught.value.code()
    assert conversation_id == info_of(caught.value).metadata["conversation_id"]
    assert [] == list((await service.conversations()).conversations)


async def test_allow_missing_creates_under_the_given_id(service: Service) -> None:
    conversation_id = an_id()
    first = await service.chat(conversation_id=conversation_id, allow_missing=True)
    second = await service.chat(conversation_id=conversation_id, allow_missing=True)

    assert conversation_id == first.conversation_id == second.conversation_id
    assert (1, 3) == (first.user_sequence, second.user_sequence)


async def test_allow_missing_at_once_creates_one_conversation(service: Service) -> None:
    conversation_id = an_id()
    calls = [
        service.chat(
            f"m{n}", conversation_id=conversation_id, allow_missing=True, on_busy=pb.ON_BUSY_WAIT
        )
        for n in range(20)
    ]
    answers = await asyncio.gather(*calls)

    assert list(range(1, 41, 2)) == sorted(a.user_sequence for a in answers)
    assert 1 == len((await service.conversations()).conversations)


async def test_allow_missing_that_is_refused_creates_nothing(service: Service) -> None:
    call = service.chat(conversation_id=an_id(), allow_missing=True, expected_sequence=3)

    assert ("ABORTED", "SEQUENCE_MISMATCH") == await refused(call)
    assert [] == list((await service.conversations()).conversations)


async def test_same_request_id_replays_the_answer(service: Service) -> None:
    first = await service.chat("hello", request_id="r1")
    again = await service.chat("hello", request_id="r1")

    assert not first.replayed
    assert again.replayed
    first.replayed = True
    assert first == again
    assert 2 == (await service.history(first.conversation_id)).last_sequence


@pytest.mark.parametrize("change", ["message", "conversation_id", "agent"])
async def test_same_request_id_with_another_argument_is_refused(
    service: Service, change: str
) -> None:
    first = await service.chat("hello", request_id="r1")
    other = {"message": "bye", "conversation_id": first.conversation_id, "agent": "echo"}[change]
    arguments = {"message": "hello", "request_id": "r1", change: other}

    assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await refused(service.chat(**arguments))


async def test_waiting_policies_and_expectations_do_not_change_a_request(service: Service) -> None:
    first = await service.chat("hello", request_id="r1")
    again = await service.chat(
        "hello",
        request_id="r1",
        on_busy=pb.ON_BUSY_WAIT,
        on_disconnect=pb.ON_DISCONNECT_CONTINUE,
        allow_missing=True,
        expected_sequence=77,
    )

    assert first.turn_id == again.turn_id


async def test_request_ids_of_two_owners_are_apart(service: Service) -> None:
    hers = await service.chat("hello", request_id="r1", user="ada")
    his = await service.chat("hello", request_id="r1", user="bob")

    assert hers.turn_id != his.turn_id
    assert not his.replayed


async def test_expected_sequence_lets_only_the_expected_through(service: Service) -> None:
    first = await service.chat(expected_sequence=0)
    conversation_id = first.conversation_id
    wrong = service.chat(conversation_id=conversation_id, expected_sequence=1)

    assert ("ABORTED", "SEQUENCE_MISMATCH") == await refused(wrong)
    await service.chat(conversation_id=conversation_id, expected_sequence=2)
    assert 4 == (await service.history(conversation_id)).last_sequence


async def test_expected_sequence_of_a_new_conversation_is_zero(service: Service) -> None:
    assert ("ABORTED", "SEQUENCE_MISMATCH") == await refused(service.chat(expected_sequence=1))


async def test_open_turn_refuses_another_and_says_who_holds_it(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    first = asyncio.ensure_future(
        service.chat(conversation_id=conversation_id, allow_missing=True, request_id="first")
    )
    await gate.entered.wait()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat(conversation_id=conversation_id)

    assert grpc.StatusCode.ABORTED == caught.value.code()
    info = info_of(caught.value)
    assert "TURN_IN_PROGRESS" == info.reason
    open_turn = await service.turn(request_id="first")
    assert open_turn.turn_id == info.metadata["turn_id"]
    assert info.metadata["start_time"] < info.metadata["lease_end_time"]
    assert "1000" == trailing_of(caught.value)["grpc-retry-pushback-ms"]
    gate.opened.set()
    await first


async def test_expected_sequence_is_refused_at_once_under_wait(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    first = asyncio.ensure_future(service.chat(conversation_id=conversation_id, allow_missing=True))
    await gate.entered.wait()
    waiting = asyncio.ensure_future(
        service.chat(conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT)
    )
    calls = [
        service.chat(
            conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT, expected_sequence=sequence
        )
        for sequence in (0, 2)
    ]

    mismatch = ("ABORTED", "SEQUENCE_MISMATCH")
    assert [mismatch, mismatch] == [await refused(call) for call in calls]
    assert not waiting.done()
    gate.opened.set()
    await asyncio.gather(first, waiting)


async def test_failed_turn_runs_again_under_its_request_id(start_service: StartService) -> None:
    agent = ScriptedAgent(failing_once())
    service = await start_service(agent)
    call = service.chat("hello", request_id="r1")
    assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(call)
    failed = await service.turn(request_id="r1")
    answer = await service.chat("hello", request_id="r1", expected_sequence=0)

    assert cpb.TURN_STATE_FAILED == failed.state
    assert error_reason_pb2.ERROR_REASON_AGENT_UNAVAILABLE == failed.error_reason
    assert (1, 2) == (answer.user_sequence, answer.response_sequence)
    assert not answer.replayed
    turn = await service.turn(request_id="r1")
    assert (cpb.TURN_STATE_COMPLETED, 2) == (turn.state, turn.attempt)
    assert 0 == turn.error_reason
    assert failed.turn_id == turn.turn_id == answer.turn_id
    assert [1, 2] == [run.attempt for run in agent.runs]
    assert 1 == len({run.turn_id for run in agent.runs})


async def test_failed_turn_with_a_newer_one_is_superseded(start_service: StartService) -> None:
    service = await start_service(ScriptedAgent(failing_once()))
    conversation_id = an_id()
    first = {"conversation_id": conversation_id, "allow_missing": True, "request_id": "r1"}
    await refused(service.chat("lost", **first))
    newer = await service.chat("newer", conversation_id=conversation_id)

    assert ("FAILED_PRECONDITION", "TURN_SUPERSEDED") == await refused(
        service.chat("lost", **first)
    )
    assert (2, 3) == (newer.user_sequence, newer.response_sequence)


async def test_unanswered_message_stays_in_the_history_and_out_of_the_window(
    start_service: StartService,
) -> None:
    agent = ScriptedAgent(failing_once(failing_turn=2))
    service = await start_service(agent)
    conversation_id = (await service.chat("one")).conversation_id
    await refused(service.chat("two", conversation_id=conversation_id))
    third = await service.chat("three", conversation_id=conversation_id)

    assert ["one", "ONE", "three"] == [m.content for m in agent.runs[-1].window.messages]
    assert (1, 3, 1) == (
        third.context.first_sequence,
        third.context.message_count,
        third.context.omitted_count,
    )
    history = (await service.history(conversation_id)).messages
    assert ["one", "ONE", "two", "three", "THREE"] == [m.content for m in history]


async def test_turn_of_the_same_request_id_is_waited_for(start_service: StartService) -> None:
    gate = Gate()
    agent = ScriptedAgent(gate)
    service = await start_service(agent)
    calls = [asyncio.ensure_future(service.chat("hello", request_id="r1")) for _ in range(5)]
    await gate.entered.wait()
    gate.opened.set()
    answers = await asyncio.gather(*calls)

    assert 1 == len(agent.runs)
    assert 1 == len({a.turn_id for a in answers})
    assert 1 == sum(not a.replayed for a in answers)


async def test_waiting_call_is_told_the_agents_failure(start_service: StartService) -> None:
    gate = Gate()

    async def refuse(run):
        async for _ in gate(run):
            raise RuntimeError("not for anybody's eyes")
        yield

    agent = ScriptedAgent(refuse)
    service = await start_service(agent)
    first = asyncio.ensure_future(refused(service.chat("hello", request_id="r1")))
    await gate.entered.wait()
    second = asyncio.ensure_future(refused(service.chat("hello", request_id="r1")))
    await _waits(service)
    gate.opened.set()

    expected = ("UNAVAILABLE", "AGENT_UNAVAILABLE")
    assert [expected, expected] == await gathered(first, second)
    assert 1 == len(agent.runs)


async def test_get_turn_by_either_name(service: Service) -> None:
    answer = await service.chat("hello", request_id="r1")
    by_request = await service.turn(request_id="r1")
    by_id = await service.turn(conversation_id=answer.conversation_id, turn_id=answer.turn_id)

    assert by_request == by_id
    assert (cpb.TURN_STATE_COMPLETED, 1, 1, 2) == (
        by_id.state,
        by_id.attempt,
        by_id.user_sequence,
        by_id.response_sequence,
    )
    assert "scripted-1" == by_id.model
    assert by_id.create_time.ToDatetime() <= by_id.end_time.ToDatetime()
    unknown = service.turn(conversation_id=answer.conversation_id, turn_id=an_id())
    assert ("NOT_FOUND", "TURN_NOT_FOUND") == await refused(unknown)


def failing_once(failing_turn: int = 1) -> Any:
    """A script whose nth run raises."""
    count = 0

    async def script(run):
        nonlocal count
        count += 1
        if count == failing_turn:
            raise RuntimeError("not for anybody's eyes")
        from support.agents import say_back

        async for event in say_back(run):
            yield event

    return script


async def _waits(service: Service) -> None:
    """Return once a call of the worker waits for another one's turn."""
    while not service.worker.bells.listeners():
        await asyncio.sleep(0.01)
