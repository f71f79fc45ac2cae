"""Turns that wait for their caller: what they tell, what they are given, and how they go on."""

import asyncio
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import AgentRun
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    details_of,
    info_of,
    refused,
)
from support.streams import rest_of, resumed_events, text_of
from support.waiting import WEATHER, AskingAgent, approval, denial, error, result

ACTION_REQUIRED = messages.FINISH_REASON_ACTION_REQUIRED
WAITING = messages.TURN_STATE_WAITING
TWO = (("weather", "weather"),)


async def asked(service: Service, **fields: Any) -> pb.ChatResponse:
    """Begin a turn that waits."""
    return await service.chat("hello", **{"request_id": "r", "tools": [WEATHER], **fields})


def outcomes(answer: pb.ChatResponse) -> list[tuple[str, bool]]:
    return [(call.result, call.is_error) for call in answer.tool_calls]


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_turn_goes_on_once_it_is_given_the_result(start_service: StartService) -> None:
    agent = AskingAgent()
    service = await start_service(agent)

    waits = await asked(service)

    assert (ACTION_REQUIRED, "1. ", 0) == (
        waits.finish_reason,
        waits.response,
        waits.response_sequence,
    )
    assert not waits.HasField("context")
    assert ["weather"] == [tool.name for tool in agent.runs[0].tools]
    (pending,) = waits.pending_calls
    assert ("weather", '{"city": "1-0"}', 1) == (pending.name, pending.arguments, pending.step)

    turn = await service.turn(request_id="r")
    assert WAITING == turn.state
    assert [pending] == list(turn.pending_calls)
    assert 86_000 < turn.wait_end_time.seconds - turn.create_time.seconds < 86_500
    assert not turn.HasField("end_time")
    conversation = await service.conversation(waits.conversation_id)
    assert turn.turn_id == conversation.open_turn_id

    answer = await service.resume(result(pending), request_id="r")

    assert ("1. done: sunny", 2, False) == (
        answer.response,
        answer.response_sequence,
        answer.replayed,
    )
    assert [("weather", "sunny")] == [(c.name, c.result) for c in answer.tool_calls]
    assert ["weather"] == [tool.name for tool in agent.runs[1].tools]
    assert "hello" == agent.runs[1].window.messages[-1].content
    turn = await service.turn(request_id="r")
    assert (messages.TURN_STATE_COMPLETED, 2, 0) == (
        turn.state,
        turn.attempt,
        len(turn.pending_calls),
    )
    (used,) = await service.usage()
    assert (1, 2, 0, 6) == (
        used.turns,
        used.attempts,
        used.failed_attempts,
        used.usage.input_tokens,
    )


async def test_turn_waits_for_the_rest(start_service: StartService) -> None:
    agent = AskingAgent(TWO)
    service = await start_service(agent)
    waits = await asked(service)
    first, second = waits.pending_calls

    rest = await service.resume(
        error(second), conversation_id=waits.conversation_id, turn_id=waits.turn_id
    )

    assert (ACTION_REQUIRED, [first], "1. ", False) == (
        rest.finish_reason,
        list(rest.pending_calls),
        rest.response,
        rest.replayed,
    )
    assert [first] == list((await service.turn(request_id="r")).pending_calls)
    again = await service.resume(error(second), request_id="r")
    assert ([first], True) == (list(again.pending_calls), again.replayed)
    assert 1 == len(agent.runs)

    answer = await service.resume(error(second), result(first), request_id="r")

    assert [("sunny", False), ("no such city", True)] == outcomes(answer)
    assert 2 == len(agent.runs)


async def test_turn_waits_again(start_service: StartService) -> None:
    """A turn may ask its caller as often as its agent likes, however many attempts it may fail."""
    rounds = 4
    agent = AskingAgent((("weather",),) * rounds)
    service = await start_service(agent, max_attempts=1)
    answer = await asked(service)
    given = []

    for number in range(1, rounds + 1):
        (pending,) = answer.pending_calls
        assert number == pending.step
        given.append(result(pending, str(number)))
        answer = await service.resume(given[-1], request_id="r")

    assert [(str(n), False) for n in range(1, rounds + 1)] == outcomes(answer)
    assert "1. 2. 3. 4. done: 1, 2, 3, 4" == answer.response
    again = await service.resume(*given, request_id="r")
    assert (answer.response, True) == (again.response, again.replayed)


async def test_same_result_again_returns_what_became_of_the_turn(
    start_service: StartService,
) -> None:
    """Fails when a digest goes with the turn's steps."""
    service, other = await start_service(AskingAgent()), await start_service(AskingAgent())
    (pending,) = (await asked(service)).pending_calls
    answer = await service.resume(result(pending), request_id="r")

    again = await other.resume(result(pending), request_id="r")

    answer.replayed = True
    assert answer == again


@pytest.mark.parametrize("is_over", [False, True], ids=["waiting", "ended"])
async def test_other_result_is_refused(start_service: StartService, is_over: bool) -> None:
    service = await start_service(AskingAgent(TWO))
    first, second = (await asked(service)).pending_calls
    await service.resume(result(first), request_id="r")
    if is_over:
        await service.resume(result(second), request_id="r")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.resume(result(second), result(first, "rainy"), request_id="r")

    info = info_of(caught.value)
    assert ("RESULT_ALREADY_GIVEN", first.call_key) == (info.reason, info.metadata["call_key"])
    assert grpc.StatusCode.ALREADY_EXISTS is caught.value.code()
    if not is_over:
        assert [second] == list((await service.turn(request_id="r")).pending_calls)


async def test_call_that_is_not_pending_is_refused(start_service: StartService) -> None:
    service = await start_service(AskingAgent(TWO))
    first, second = (await asked(service)).pending_calls
    stranger = messages.PendingCall(call_key=an_id())

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.resume(result(first), result(stranger), request_id="r")

    info = info_of(caught.value)
    assert ("CALL_NOT_PENDING", stranger.call_key) == (info.reason, info.metadata["call_key"])
    assert grpc.StatusCode.FAILED_PRECONDITION is caught.value.code()
    assert [first, second] == list((await service.turn(request_id="r")).pending_calls)
    answered = await service.chat("without tools", request_id="never-waited")
    assert answered.pending_calls


async def test_turn_that_never_waited_takes_nothing(service: Service) -> None:
    await service.chat("hello", request_id="r")

    given = result(messages.PendingCall(call_key=an_id()))

    assert ("FAILED_PRECONDITION", "CALL_NOT_PENDING") == await refused(
        service.resume(given, request_id="r")
    )
    assert ("NOT_FOUND", "TURN_NOT_FOUND") == await refused(
        service.resume(given, request_id="another")
    )


@pytest.mark.parametrize("given", [approval, denial])
async def test_approval_is_told_to_the_agent(start_service: StartService, given: Any) -> None:
    agent = AskingAgent((("approve_it",),))
    service = await start_service(agent)
    (pending,) = (await asked(service)).pending_calls
    assert messages.PENDING_CALL_KIND_APPROVAL == pending.kind

    answer = await service.resume(given(pending), request_id="r")

    expected = [("ran", False)] if given is approval else [("no", True)]
    assert expected == outcomes(answer)


async def test_call_is_given_only_what_it_takes(start_service: StartService) -> None:
    service = await start_service(AskingAgent((("weather", "approve_it"),)))
    weather, approved = (await asked(service)).pending_calls

    for wrong, field in (
        ((approval(weather), approval(approved)), "results[0].approval"),
        ((result(weather), error(approved)), "results[1].error"),
        ((approval(approved, arguments="{}"),), "results[0].approval.arguments"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.resume(*wrong, request_id="r")
        assert "INVALID_REQUEST" == info_of(caught.value).reason
        assert [field] == [
            violation.field
            for detail in details_of(caught.value)
            if hasattr(detail, "field_violations")
            for violation in detail.field_violations
        ]
    assert 2 == len((await service.turn(request_id="r")).pending_calls)
    answer = await service.resume(
        result(weather), approval(approved, arguments=approved.arguments), request_id="r"
    )
    assert [("sunny", False), ("ran", False)] == outcomes(answer)


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_one_of_two_resumes_at_once_runs_the_turn(start_service: StartService) -> None:
    agents = [AskingAgent(TWO), AskingAgent(TWO)]
    workers = [await start_service(agent) for agent in agents]
    for number in range(5):
        request_id = f"r{number}"
        first, second = (await asked(workers[0], request_id=request_id)).pending_calls
        given = ((result(first), result(second)), (result(second), result(first)))

        answers = await asyncio.gather(
            *(
                workers[n % 2].resume(*given[n // 2], request_id=request_id, timeout=25)
                for n in range(4)
            )
        )

        assert {"1. done: sunny, sunny"} == {answer.response for answer in answers}
        assert [False, True, True, True] == sorted(answer.replayed for answer in answers)
    assert 10 == sum(len(agent.runs) for agent in agents)


async def test_parts_that_are_given_at_once_are_all_stored(start_service: StartService) -> None:
    """Fails when what was given is not compared with the row as it is."""
    agent = AskingAgent((("weather",) * 8,))
    workers = [await start_service(agent), await start_service(agent)]
    pending = (await asked(workers[0])).pending_calls

    answers = await asyncio.gather(
        *(
            workers[n % 2].resume(result(call, str(n)), request_id="r", timeout=25)
            for n, call in enumerate(pending)
        )
    )

    whole = "1. done: " + ", ".join(map(str, range(8)))
    assert whole in {answer.response for answer in answers}
    assert whole == (await asked(workers[1])).response
    assert 2 == len(agent.runs)


async def test_attempt_that_fails_after_a_resume_is_run_again(start_service: StartService) -> None:
    failing = [AgentUnavailable(), AgentUnavailable()]

    async def fail(_: AgentRun) -> None:
        if failing:
            raise failing.pop()

    agent = AskingAgent(at_end=fail)
    service = await start_service(agent)
    (pending,) = (await asked(service)).pending_calls

    resuming = [service.resume(result(pending), request_id="r") for _ in range(2)]
    for call in resuming:
        assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(call)
    assert ("ALREADY_EXISTS", "RESULT_ALREADY_GIVEN") == await refused(
        service.resume(error(pending), request_id="r")
    )
    answer = await asked(service)

    assert ("1. done: sunny", False) == (answer.response, answer.replayed)
    assert 4 == len(agent.runs)
    assert ["weather"] == [tool.name for tool in agent.runs[-1].tools]


async def test_chat_again_tells_what_the_turn_waits_for(start_service: StartService) -> None:
    agent = AskingAgent()
    service = await start_service(agent)
    waits = await asked(service)

    again = await asked(service)
    streamed = await rest_of(service.stream("hello", request_id="r", tools=[WEATHER]))
    started = await service.start("hello", request_id="r", tools=[WEATHER])

    waits.replayed = True
    assert waits == again
    assert [waits] == [event.completed for event in streamed]
    assert (WAITING, True) == (started.turn.state, started.replayed)
    assert list(waits.pending_calls) == list(started.turn.pending_calls)
    assert 1 == len(agent.runs)
    assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await refused(
        service.chat("hello", request_id="r")
    )


async def test_streams_tell_the_turn_from_its_beginning(start_service: StartService) -> None:
    service = await start_service(AskingAgent(TWO))
    first = await rest_of(service.stream("hello", request_id="r", tools=[WEATHER]))
    waits = first[-1].completed
    assert (ACTION_REQUIRED, "1. ") == (waits.finish_reason, text_of(first[:-1]))

    given = [result(call) for call in waits.pending_calls]
    events = await resumed_events(service.stream_resume(*given, request_id="r"))

    assert (waits.turn_id, 2) == (events[0].started.turn_id, events[0].attempt)
    assert "1. done: sunny, sunny" == text_of(events[1:-1]) == events[-1].completed.response
    assert 2 == sum(event.HasField("tool_call") for event in events)
    again = await resumed_events(service.stream_resume(*given, request_id="r"))
    assert [True] == [event.completed.replayed for event in again]


async def test_conversation_is_busy_meanwhile(start_service: StartService) -> None:
    service = await start_service(AskingAgent())
    waits = await asked(service, conversation_id=an_id(), allow_missing=True)
    conversation_id = waits.conversation_id

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat("another", conversation_id=conversation_id)
    info = info_of(caught.value)
    assert ("TURN_IN_PROGRESS", waits.turn_id) == (info.reason, info.metadata["turn_id"])
    assert "lease_end_time" not in info.metadata
    message = messages.Message(role=messages.ROLE_USER, content="x")
    assert ("ABORTED", "TURN_IN_PROGRESS") == await refused(
        service.append(conversation_id, message)
    )
    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(
        service.append(conversation_id, message, on_busy=pb.ON_BUSY_REPLACE)
    )

    behind = asyncio.create_task(
        service.chat("another", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT)
    )
    await asyncio.sleep(0.2)
    assert not behind.done()
    await service.resume(result(waits.pending_calls[0]), request_id="r")
    assert ACTION_REQUIRED == (await behind).finish_reason


async def test_cancel_gives_each_call_a_result(start_service: StartService) -> None:
    service, other = await start_service(AskingAgent(TWO)), await start_service(AskingAgent(TWO))
    waits = await asked(service)
    first, second = waits.pending_calls
    await service.resume(result(first), request_id="r")

    turn = await other.cancel(request_id="r")

    assert (messages.TURN_STATE_CANCELLED, 2, 0) == (
        turn.state,
        turn.response_sequence,
        len(turn.pending_calls),
    )
    said = (await service.history(waits.conversation_id)).messages[-1]
    assert ("1. ", messages.FINISH_REASON_CANCELLED) == (said.content, said.finish_reason)
    assert [
        ("sunny", False),
        ("The turn was cancelled before this call had a result.", True),
    ] == [(call.result, call.is_error) for call in said.tool_calls]
    assert ("FAILED_PRECONDITION", "CALL_NOT_PENDING") == await refused(
        service.resume(result(second), request_id="r")
    )
    replay = await service.resume(result(first), request_id="r")
    assert (messages.FINISH_REASON_CANCELLED, True) == (replay.finish_reason, replay.replayed)
    assert turn == await service.cancel(request_id="r")
    (used,) = await service.usage()
    assert (1, 1, 0) == (used.turns, used.attempts, used.failed_attempts)


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_other_message_takes_the_place_of_a_turn_that_waits(
    start_service: StartService,
) -> None:
    service = await start_service(AskingAgent())
    waits = await asked(service)
    conversation_id = waits.conversation_id

    replacing = await service.chat(
        "another",
        conversation_id=conversation_id,
        request_id="s",
        on_busy=pb.ON_BUSY_REPLACE,
        expected_sequence=1,
        tools=[WEATHER],
    )

    assert (ACTION_REQUIRED, 3) == (replacing.finish_reason, replacing.user_sequence)
    turn = await service.turn(request_id="r")
    assert messages.TURN_STATE_CANCELLED == turn.state
    (call,) = (await service.history(conversation_id)).messages[1].tool_calls
    assert ("because another message took its place." in call.result, True) == (
        True,
        call.is_error,
    )
    again = await service.chat(
        "another",
        conversation_id=conversation_id,
        request_id="s",
        on_busy=pb.ON_BUSY_REPLACE,
        expected_sequence=1,
        tools=[WEATHER],
    )
    assert (replacing.turn_id, True) == (again.turn_id, again.replayed)


@pytest.mark.parametrize("limit", [{"max_turns_per_minute": 1}, {"max_tokens_per_day": 1}])
async def test_message_that_is_over_a_limit_replaces_nothing(
    start_service: StartService, limit: dict[str, int]
) -> None:
    """Fails when limits are looked at only once the turn that waits is cancelled."""
    service = await start_service(AskingAgent(), **limit)
    waits = await asked(service)

    code, _ = await refused(
        service.chat("another", conversation_id=waits.conversation_id, on_busy=pb.ON_BUSY_REPLACE)
    )

    assert "RESOURCE_EXHAUSTED" == code
    assert messages.TURN_STATE_WAITING == (await service.turn(request_id="r")).state


async def test_turn_that_runs_is_not_replaced(start_service: StartService) -> None:
    entered, opened = asyncio.Event(), asyncio.Event()

    async def hold(_: AgentRun) -> None:
        entered.set()
        await opened.wait()

    service = await start_service(AskingAgent((), before=hold))
    running = asyncio.create_task(
        service.chat("hello", conversation_id=(there := an_id()), allow_missing=True)
    )
    await entered.wait()

    assert ("ABORTED", "TURN_IN_PROGRESS") == await refused(
        service.chat("another", conversation_id=there, on_busy=pb.ON_BUSY_REPLACE)
    )
    opened.set()
    await running


async def test_turn_that_is_to_be_stopped_does_not_begin_to_wait(
    start_service: StartService,
) -> None:
    """A cancel that no worker has noticed when the agent asks its caller."""

    async def cancel_unnoticed(run: AgentRun) -> None:
        store = service.worker.store
        turn = await store.find(run.owner, "r")
        assert turn is not None
        await store.request_cancel(run.owner, turn)

    agent = AskingAgent(before=cancel_unnoticed)
    service = await start_service(agent)

    answer = await asked(service)

    assert (messages.FINISH_REASON_CANCELLED, "1. ") == (answer.finish_reason, answer.response)
    assert [("The turn was cancelled before this call had a result.", True)] == outcomes(answer)
    assert messages.TURN_STATE_CANCELLED == (await service.turn(request_id="r")).state
