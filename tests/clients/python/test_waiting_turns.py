"""Turns that wait, through both clients: tools that are plain functions, and what is given."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    ActionRequired,
    AsyncParleyClient,
    CallNotPending,
    ParleyClient,
    ResultAlreadyGiven,
    ToolFailed,
    tool,
)
from support.deadlines import ROUNDING_S
from support.scripted_server import Refusal, scripted
from support.services import Service, StartService, a_token
from support.waiting import WEATHER, AskingAgent, denial, result

Call = Callable[..., Awaitable[Any]]
ACTION_REQUIRED = parts.FINISH_REASON_ACTION_REQUIRED
TWO = (("weather", "weather"),)


class Caller:
    """One of the clients, as an asynchronous one."""

    def __init__(self, address: str, *, is_async: bool) -> None:
        self.is_async = is_async
        made = AsyncParleyClient if is_async else ParleyClient
        self.client: Any = made(address, token=a_token())

    async def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        method = getattr(self.client, name)
        if self.is_async:
            return await method(*arguments, **options)
        return await asyncio.to_thread(method, *arguments, **options)

    async def listed(self, name: str, *arguments: Any, **options: Any) -> list[Any]:
        items = getattr(self.client, name)(*arguments, **options)
        return [i async for i in items] if self.is_async else await asyncio.to_thread(list, items)

    async def close(self) -> None:
        closing = self.client.close()
        if inspect.isawaitable(closing):
            await closing


Connect = Callable[[str | Service], Caller]


@pytest.fixture(params=[True, False], ids=["async", "sync"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connect either client."""
    callers: list[Caller] = []

    def connected(server: str | Service) -> Caller:
        address = server if isinstance(server, str) else f"127.0.0.1:{server.port}"
        callers.append(Caller(address, is_async=request.param))
        return callers[-1]

    yield connected
    for caller in callers:
        await caller.close()


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


async def test_functions_are_run_until_there_is_an_answer(
    connect: Connect, start_service: StartService
) -> None:
    agent = AskingAgent((("weather",), ("weather", "weather")))
    caller = connect(await start_service(agent))
    keys: list[str] = []

    def keyed(city: str, call_key: str) -> dict[str, str]:
        keys.append(call_key)
        return {"sky": city}

    tools = [tool(keyed, name="weather", description="Tells the weather.")]
    answer = await caller.call("run_with_tools", "hello", tools, request_id="r")

    assert '1. 2. done: {"sky": "1-0"}, {"sky": "2-0"}, {"sky": "2-1"}' == answer.response
    assert (3, 3) == (len(set(keys)), len(keys))
    (sent,) = agent.runs[0].tools
    assert '{"city": {"type": "string"}}' in sent.parameters_schema
    assert "call_key" not in sent.parameters_schema
    assert (await caller.call("run_with_tools", "hello", tools, request_id="r")).replayed
    assert 3 == len(keys)


async def test_calls_of_one_step_are_run_at_the_same_time(
    connect: Connect, start_service: StartService
) -> None:
    """Fails when one waits for the other: neither passes the barrier then."""
    caller = connect(await start_service(AskingAgent(TWO)))
    both = threading.Barrier(2, timeout=20)

    def weather(city: str) -> str:
        both.wait()
        return city

    answer = await caller.call("run_with_tools", "hello", [weather])
    assert "1. done: 1-0, 1-1" == answer.response


async def test_what_goes_wrong_in_a_tool_is_its_result_without_its_text(
    connect: Connect, start_service: StartService
) -> None:
    def of_its_own(city: str) -> str:
        raise ToolFailed(f"no such city: {city}")

    def secret(city: str) -> str:
        raise RuntimeError(f"password=hunter2 {city}")

    names = ("of_its_own", "secret", "unknown", "other", "large", "odd")
    caller = connect(await start_service(AskingAgent((names,))))
    tools = [
        of_its_own,
        secret,
        tool(lambda town: town, name="other", parameters_schema={"type": "object"}),
        tool(lambda city: "x" * 70_000, name="large", parameters_schema={"type": "object"}),
        tool(lambda city: object(), name="odd", parameters_schema={"type": "object"}),
    ]
    answer = await caller.call("run_with_tools", "hello", tools)

    assert [True] * 6 == [call.is_error for call in answer.tool_calls]
    assert [
        "no such city: 1-0",
        "The tool failed: RuntimeError.",
        "There is no tool unknown.",
        "The arguments do not fit the tool: missing a required argument: 'town'.",
        "The tool returned 70000 bytes; the maximum is 65536.",
        "The tool returned what is neither text nor JSON.",
    ] == [call.result for call in answer.tool_calls]


async def test_whatever_a_tool_ends_with_is_its_own(
    connect: Connect, start_service: StartService
) -> None:
    """No future holds a StopIteration, and a future that was cancelled is no cancelled caller."""
    caller = connect(await start_service(AskingAgent((("stops", "awaits"),))))

    def stops(city: str) -> str:
        return next(iter([]))

    def awaits(city: str) -> str:
        gone: Future[str] = Future()
        gone.cancel()
        return gone.result()

    async with asyncio.timeout(20):
        answer = await caller.call("run_with_tools", "hello", [stops, awaits])
    stopped = "RuntimeError" if caller.is_async else "StopIteration"
    assert [f"The tool failed: {stopped}.", "The tool failed: CancelledError."] == [
        call.result for call in answer.tool_calls
    ]


async def test_results_that_are_too_much_for_one_request_are_given_in_several(
    connect: Connect, start_service: StartService
) -> None:
    """40 results of 60 KB are 2.4 MB, more than a server takes at once."""
    caller = connect(await start_service(AskingAgent((("weather",) * 40,))))
    runs: list[str] = []

    def weather(city: str) -> str:
        runs.append(city)
        return "x" * 60_000

    answer = await caller.call("run_with_tools", "hello", [weather])
    assert parts.FINISH_REASON_LENGTH == answer.finish_reason  # so much, a message does not hold
    assert 40 == len(runs)


async def test_approvals_are_asked_for_when_results_are_given(
    connect: Connect, start_service: StartService
) -> None:
    agent = AskingAgent((("approve_a", "weather", "approve_b", "approve_c"),))
    service = await start_service(agent)
    caller = connect(service)
    asked: list[str] = []

    def approve(call: parts.PendingCall) -> bool | str:
        asked.append(call.name)
        decisions: dict[str, bool | str] = {"approve_a": True, "approve_b": "too expensive"}
        return decisions.get(call.name, False)

    answer = await caller.call(
        "run_with_tools", "hello", [weather], approve=approve, request_id="r"
    )

    assert ["approve_a", "approve_b", "approve_c"] == asked
    assert [False, False, True, True] == [call.is_error for call in answer.tool_calls]
    assert "too expensive" in answer.tool_calls[2].result
    again = await caller.call("run_with_tools", "and?", [weather])
    assert all("Nobody can approve" in c.result for c in again.tool_calls if c.name != "weather")


async def test_results_are_stored_before_anybody_is_asked(
    connect: Connect, start_service: StartService
) -> None:
    """A process that dies at the question runs nothing twice when it comes back."""
    caller = connect(await start_service(AskingAgent((("weather", "approve"),))))
    cities: list[str] = []

    def weather(city: str) -> str:
        cities.append(city)
        return city

    def gone(_call: parts.PendingCall) -> bool:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        await caller.call("run_with_tools", "hello", [weather], approve=gone, request_id="r")
    answer = await caller.call(
        "run_with_tools", "hello", [weather], approve=lambda _call: True, request_id="r"
    )

    assert "1. done: 1-0, ran" == answer.response
    assert ["1-0"] == cities


async def test_results_that_somebody_else_gave_stay_and_the_rest_is_given(
    connect: Connect, start_service: StartService
) -> None:
    service = await start_service(AskingAgent(TWO))
    caller = connect(service)
    loop = asyncio.get_running_loop()
    runs: list[str] = []

    def weather(city: str, call_key: str) -> str:
        runs.append(city)
        if city == "1-0":
            given = service.resume(
                pb.CallResult(call_key=call_key, result="theirs"), request_id="r"
            )
            asyncio.run_coroutine_threadsafe(given, loop).result(20)
        return "ours"

    answer = await caller.call("run_with_tools", "hello", [weather], request_id="r")
    assert "1. done: theirs, ours" == answer.response
    assert ["1-0", "1-1"] == sorted(runs)


async def test_results_that_are_refused_for_calls_that_stay_pending_are_not_given_for_ever(
    connect: Connect,
) -> None:
    """Fails when they are given again, without a rest, until the process is stopped."""
    call = parts.PendingCall(
        call_key=WEATHER_CALL.call_key,
        name="weather",
        arguments='{"city": "Rome"}',
        kind=parts.PENDING_CALL_KIND_RESULT,
    )
    waits = pb.ChatResponse(finish_reason=ACTION_REQUIRED, pending_calls=[call])
    refusal = Refusal(grpc.StatusCode.ALREADY_EXISTS, "RESULT_ALREADY_GIVEN")
    async with scripted(waits, refusal, waits, refusal, waits, refusal) as server:
        caller = connect(server.address)
        with pytest.raises(ResultAlreadyGiven):
            await caller.call("run_with_tools", "hello", [weather])
    assert 3 == len(server.asked)


async def test_as_many_calls_are_run_at_the_same_time_as_a_turn_waits_for(
    connect: Connect,
) -> None:
    """Fails when they share the event loop's own threads, of which there are 32 at most."""
    calls = [
        parts.PendingCall(
            call_key=str(number), name="meet", kind=parts.PENDING_CALL_KIND_RESULT, arguments="{}"
        )
        for number in range(64)
    ]
    waits = pb.ChatResponse(finish_reason=ACTION_REQUIRED, pending_calls=calls)
    all_of_them = threading.Barrier(64, timeout=20)

    def meet() -> str:
        all_of_them.wait()
        return "met"

    async with scripted(waits, pb.ResumeTurnResponse()) as server:
        await connect(server.address).call("run_with_tools", "hello", [meet])
    assert {"met"} == {given.result for given in server.asked[1].request.results}


async def test_kinds_of_calls_that_only_a_newer_server_has_stay_pending(connect: Connect) -> None:
    """Fails when they are approved, as calls that they are not."""
    call = parts.PendingCall(call_key=WEATHER_CALL.call_key, name="weather")
    call.kind = 99  # type: ignore[assignment]  # of a later contract
    waits = pb.ChatResponse(finish_reason=ACTION_REQUIRED, pending_calls=[call])
    asked: list[Any] = []
    async with scripted(
        waits, Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    ) as server:
        answer = await connect(server.address).call(
            "run_with_tools", "hello", [weather], approve=asked.append
        )
    assert (waits, []) == (answer, asked)
    assert 1 == len(server.asked)


async def test_a_turn_that_was_cancelled_meanwhile_is_what_is_returned(
    connect: Connect, start_service: StartService
) -> None:
    service = await start_service(AskingAgent())
    caller = connect(service)
    loop = asyncio.get_running_loop()

    def weather(city: str) -> str:
        asyncio.run_coroutine_threadsafe(service.cancel(request_id="r"), loop).result(20)
        return city

    answer = await caller.call("run_with_tools", "hello", [weather], request_id="r")
    assert parts.FINISH_REASON_CANCELLED == answer.finish_reason


async def test_turns_are_resumed_in_both_forms(
    connect: Connect, start_service: StartService
) -> None:
    caller = connect(await start_service(AskingAgent(TWO)))
    waits = await caller.call("chat", "hello", request_id="r", tools=[WEATHER])
    one, two = waits.pending_calls
    partly = await caller.call("resume_turn", [result(one)], request_id="r")
    assert (ACTION_REQUIRED, [two]) == (partly.finish_reason, list(partly.pending_calls))
    with pytest.raises(ResultAlreadyGiven) as given:
        await caller.call("resume_turn", [result(one, "rain")], request_id="r")
    assert one.call_key == given.value.call_key
    named = {"conversation_id": waits.conversation_id, "turn_id": waits.turn_id}
    events = await caller.listed("stream_resume_turn", [result(two, "rain")], **named)
    assert "1. done: sunny, rain" == events[-1].completed.response
    with pytest.raises(CallNotPending) as gone:
        await caller.call("resume_turn", [denial(WEATHER_CALL)], request_id="r")
    assert WEATHER_CALL.call_key == gone.value.call_key


WEATHER_CALL = parts.PendingCall(call_key="018f0000-0000-7000-8000-000000000001")


async def test_every_argument_is_sent(connect: Connect) -> None:
    response = pb.ResumeTurnResponse(chat=pb.ChatResponse(response="hello"))
    async with scripted(Refusal(reason="STORE_UNAVAILABLE", retry_s=0.01), response) as server:
        caller = connect(server.address)
        given = [result(WEATHER_CALL)]
        answer = await caller.call(
            "resume_turn", given, request_id="r", on_disconnect="continue", timeout_s=30
        )
    first, second = server.asked
    assert response.chat == answer
    assert (
        pb.ResumeTurnRequest(request_id="r", results=given, on_disconnect=pb.ON_DISCONNECT_CONTINUE)
        == first.request
        == second.request
    )
    assert "safe" == first.metadata["parley-retry"]
    assert 28 < first.time_left_s <= 30 + ROUNDING_S


async def test_a_stream_of_text_says_that_the_turn_waits(
    connect: Connect, start_service: StartService
) -> None:
    caller = connect(await start_service(AskingAgent((("approve",),))))
    with pytest.raises(ActionRequired) as waits:
        await caller.listed("stream_text", "hello", request_id="r")
    assert "r" == waits.value.request_id


async def test_a_waiting_turn_is_replaced(connect: Connect, start_service: StartService) -> None:
    service = await start_service(AskingAgent())
    caller = connect(service)
    waits = await caller.call("chat", "hello", request_id="r", tools=[WEATHER])
    conversation = {"conversation_id": waits.conversation_id, "tools": [WEATHER]}
    other = await caller.call("chat", "other", on_busy="replace", **conversation)
    assert ACTION_REQUIRED == other.finish_reason
    assert parts.TURN_STATE_CANCELLED == (await service.turn(request_id="r")).state


async def test_coroutine_functions_are_tools_of_the_asynchronous_client_only(
    connect: Connect, start_service: StartService
) -> None:
    caller = connect(await start_service(AskingAgent()))

    async def weather(city: str) -> str:
        await asyncio.sleep(0)
        return f"fine in {city}"

    running = caller.call("run_with_tools", "hello", [weather])
    if caller.is_async:
        assert "1. done: fine in 1-0" == (await running).response
    else:
        with pytest.raises(ValueError, match="the tool weather is asynchronous"):
            await running
