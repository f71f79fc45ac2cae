"""Whatever an agent does, and whatever becomes of its caller, a turn ends with a status."""

import asyncio
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentRefused, AgentUnavailable
from parley_server.core.model import Finish, FinishReason, Text, ToolCall, Usage
from support.agents import Gate, ScriptedAgent, say_back
from support.services import (
    Service,
    StartService,
    an_id,
    details_of,
    reason_of,
    refused,
    trailing_of,
)

CANCEL, CONTINUE = pb.ON_DISCONNECT_CANCEL, pb.ON_DISCONNECT_CONTINUE


async def ended(service: Service, request_id: str) -> cpb.Turn:
    """Return a turn once it does not run any more."""
    while True:
        turn = await service.turn(request_id=request_id)
        if turn.state != cpb.TURN_STATE_RUNNING:
            return turn
        await asyncio.sleep(0.02)


async def test_everything_an_agent_yields_is_in_the_answer(start_service: StartService) -> None:
    async def script(run):
        yield Text("Let me see. ")
        yield ToolCall("c1", "weather", '{"city": "Ulm"}', "12 °C", False, 1)
        yield ToolCall("c2", "weather", "not json", "failed", True, 1)
        yield Text("Twelve degrees.")
        yield Finish(FinishReason.STOP, "model-7", Usage(10, 20, 5, 2))

    service = await start_service(ScriptedAgent(script))
    answer = await service.chat("weather?", request_id="r")

    assert "Let me see. Twelve degrees." == answer.response
    assert [
        cpb.ToolCall(id="c1", name="weather", arguments='{"city": "Ulm"}', result="12 °C", step=1),
        cpb.ToolCall(
            id="c2", name="weather", arguments="not json", result="failed", is_error=True, step=1
        ),
    ] == list(answer.tool_calls)
    usage = cpb.Usage(input_tokens=10, output_tokens=20, cached_input_tokens=5, model_requests=2)
    assert usage == answer.usage
    assert ("model-7", cpb.FINISH_REASON_STOP) == (answer.model, answer.finish_reason)
    stored = (await service.history(answer.conversation_id)).messages[1]
    assert answer.tool_calls == stored.tool_calls
    assert usage == stored.usage
    replayed = await service.chat("weather?", request_id="r")
    assert answer.tool_calls == replayed.tool_calls
    assert usage == replayed.usage


async def test_agent_that_says_nothing_gives_an_empty_answer(start_service: StartService) -> None:
    async def script(run):
        return
        yield

    service = await start_service(ScriptedAgent(script))
    answer = await service.chat()

    assert ("", cpb.FINISH_REASON_STOP, 2) == (
        answer.response,
        answer.finish_reason,
        answer.response_sequence,
    )
    assert not answer.HasField("usage")


async def test_unstorable_characters_are_replaced(start_service: StartService) -> None:
    async def script(run):
        yield Text("a\0b\ud800c")
        yield ToolCall("i\0", "n\udfff", "{}\0", "r\0", False, 1)

    service = await start_service(ScriptedAgent(script))
    answer = await service.chat()

    assert "a\ufffdb\ufffdc" == answer.response
    assert ("i\ufffd", "n\ufffd", "{}\ufffd", "r\ufffd") == (
        answer.tool_calls[0].id,
        answer.tool_calls[0].name,
        answer.tool_calls[0].arguments,
        answer.tool_calls[0].result,
    )


async def test_text_without_end_is_cut(start_service: StartService) -> None:
    pieces = 0

    async def script(run):
        nonlocal pieces
        while True:  # 50 MB and more, if nobody stopped it
            pieces += 1
            yield Text("é" * 50_000)

    service = await start_service(ScriptedAgent(script))
    answer = await service.chat()

    assert 256 * 1024 == len(answer.response.encode())
    assert cpb.FINISH_REASON_LENGTH == answer.finish_reason
    assert 3 == pieces


async def test_tool_calls_without_end_are_stopped(start_service: StartService) -> None:
    async def script(run):
        for n in range(1000):
            yield ToolCall(f"c{n}", "loop", "x" * 40_000, "y" * 100, False, n + 1)

    service = await start_service(ScriptedAgent(script))
    answer = await service.chat()

    assert cpb.FINISH_REASON_LENGTH == answer.finish_reason
    assert 1024 * 1024 // (32 * 1024 + 100) == len(answer.tool_calls)
    assert 32 * 1024 == len(answer.tool_calls[0].arguments.encode())
    assert answer.tool_calls[0].arguments.endswith("…[cut]")


async def test_sixty_four_tool_calls_are_enough(start_service: StartService) -> None:
    async def script(run):
        for n in range(1000):
            yield ToolCall(f"c{n}", "loop", "{}", "y" * 70_000 if n == 0 else "", False, n + 1)

    service = await start_service(ScriptedAgent(script))
    answer = await service.chat()

    assert 64 == len(answer.tool_calls)
    assert 64 * 1024 == len(answer.tool_calls[0].result.encode())
    assert cpb.FINISH_REASON_LENGTH == answer.finish_reason


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("secret words"), ("UNAVAILABLE", "AGENT_UNAVAILABLE")),
        (asyncio.CancelledError("secret words"), ("UNAVAILABLE", "AGENT_UNAVAILABLE")),
        (GeneratorExit("secret words"), ("UNAVAILABLE", "AGENT_UNAVAILABLE")),
        (AgentRefused(), ("FAILED_PRECONDITION", "AGENT_REFUSED")),
        (AgentUnavailable(), ("UNAVAILABLE", "AGENT_UNAVAILABLE")),
    ],
)
async def test_agent_that_raises_fails_the_turn(
    start_service: StartService,
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    expected: tuple[str, str],
) -> None:
    async def script(run):
        yield Text("half a")
        raise error

    service = await start_service(ScriptedAgent(script))
    assert expected == await refused(service.chat("hello", request_id="r"))
    turn = await service.turn(request_id="r")

    assert (cpb.TURN_STATE_FAILED, expected[1]) == (turn.state, reason_of(turn))
    assert turn.error_text
    assert "secret" not in turn.error_text + capfd.readouterr().err


@pytest.mark.parametrize(
    ("request_id", "wait_s", "pushback"), [("r", 2, "2000"), ("r", 7, "-1"), ("", 2, "-1")]
)
async def test_providers_wait_is_passed_on(
    start_service: StartService, request_id: str, wait_s: int, pushback: str
) -> None:
    """gRPC's own retries are told not to wait for long, since they do not look at the deadline, and
    not to make a second turn where there is no request id."""

    async def script(run):
        raise AgentUnavailable(retry_after_s=wait_s)
        yield

    service = await start_service(ScriptedAgent(script))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat(request_id=request_id)

    delays = [d.retry_delay.seconds for d in details_of(caught.value) if hasattr(d, "retry_delay")]
    assert [wait_s] == delays
    assert pushback == trailing_of(caught.value)["grpc-retry-pushback-ms"]


async def test_agent_that_hangs_ends_at_the_servers_cap(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), chat_timeout_s=1.2)
    call = service.chat("hello", request_id="r", timeout=20)

    assert ("DEADLINE_EXCEEDED", "AGENT_TIMEOUT") == await refused(call)
    assert gate.closed.is_set()
    assert "AGENT_TIMEOUT" == reason_of(await service.turn(request_id="r"))


async def test_agent_that_ignores_being_stopped_does_not_hold_the_call(
    start_service: StartService,
) -> None:
    release = asyncio.Event()

    async def script(run):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        yield Text("too late")

    service = await start_service(ScriptedAgent(script), chat_timeout_s=1.2)
    call = service.chat("hello", request_id="r", timeout=20)

    assert ("DEADLINE_EXCEEDED", "AGENT_TIMEOUT") == await refused(call)
    turn = await service.turn(request_id="r")
    release.set()
    assert cpb.TURN_STATE_FAILED == turn.state
    assert 1 == (await service.history(turn.conversation_id)).last_sequence


async def test_lost_caller_stops_the_agent_and_frees_the_conversation(
    start_service: StartService,
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    call = asyncio.ensure_future(service.chat("hello", request_id="r", on_disconnect=CANCEL))
    await gate.entered.wait()
    call.cancel()
    await asyncio.wait_for(gate.closed.wait(), 5)
    turn = await ended(service, "r")

    assert (cpb.TURN_STATE_FAILED, "CALLER_LOST") == (turn.state, reason_of(turn))
    gate.opened.set()
    again = await service.chat("hello", request_id="r")
    assert ("HELLO", 2) == (again.response, (await service.turn(request_id="r")).attempt)


async def test_callers_deadline_stops_the_agent(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat("hello", request_id="r", timeout=1.3)
    turn = await ended(service, "r")

    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code()
    assert "CALLER_LOST" == reason_of(turn)
    assert gate.closed.is_set()


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_turn_goes_on_without_its_caller(start_service: StartService, how: str) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    call = asyncio.ensure_future(
        service.chat(
            "hello",
            request_id="r",
            on_disconnect=CONTINUE,
            timeout=20 if how == "cancel" else 1.3,
        )
    )
    await gate.entered.wait()
    if how == "cancel":
        call.cancel()
    await asyncio.wait([call])
    await asyncio.sleep(0.1)
    assert cpb.TURN_STATE_RUNNING == (await service.turn(request_id="r")).state
    gate.opened.set()
    turn = await ended(service, "r")

    assert (cpb.TURN_STATE_COMPLETED, 1) == (turn.state, turn.attempt)
    assert (await service.chat("hello", request_id="r")).replayed


async def test_turn_that_goes_on_ends_at_the_servers_cap(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), chat_timeout_s=1.5)
    call = asyncio.ensure_future(service.chat("hello", request_id="r", on_disconnect=CONTINUE))
    await gate.entered.wait()
    call.cancel()

    assert "AGENT_TIMEOUT" == reason_of(await ended(service, "r"))
    assert gate.closed.is_set()


async def test_too_little_time_runs_nothing_and_replays_all_the_same(
    start_service: StartService,
) -> None:
    agent = ScriptedAgent()
    service = await start_service(agent)
    answered = await service.chat("hello", request_id="r")
    short = service.chat("hello", conversation_id=answered.conversation_id, timeout=0.8)

    assert ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT") == await refused(short)
    assert (await service.chat("hello", request_id="r", timeout=0.8)).replayed
    assert 1 == len(agent.runs)
    assert 2 == (await service.history(answered.conversation_id)).last_sequence


async def test_long_turn_keeps_its_lease(start_service: StartService) -> None:
    """Fails without the heartbeat: the second call then takes the conversation over."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), lease_s=1)
    other = await start_service()
    conversation_id = an_id()
    call = asyncio.ensure_future(service.chat(conversation_id=conversation_id, allow_missing=True))
    await gate.entered.wait()
    await asyncio.sleep(2.2)  # the lease's own time is the subject

    assert ("ABORTED", "TURN_IN_PROGRESS") == await refused(
        other.chat(conversation_id=conversation_id)
    )
    gate.opened.set()
    assert "HELLO" == (await call).response


@pytest.mark.writes_rows
async def test_conversation_deleted_under_a_turn_ends_it(
    start_service: StartService, database_url: str
) -> None:
    import psycopg

    gate = Gate()
    service = await start_service(ScriptedAgent(gate), lease_s=1)
    call = asyncio.ensure_future(refused(service.chat("hello")))
    await gate.entered.wait()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM conversation")

    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await call
    assert gate.closed.is_set()


async def test_drain_lets_turns_end_and_then_fails_them(start_service: StartService) -> None:
    quick, slow = Gate(), Gate()

    async def script(run):
        gate = quick if run.window.messages[-1].content == "quick" else slow
        async for event in gate(run):
            yield event

    service = await start_service(ScriptedAgent(script), drain_s=1)
    calls: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(service.chat("quick", request_id="quick")),
        asyncio.ensure_future(refused(service.chat("slow", request_id="slow"))),
    ]
    await quick.entered.wait()
    await slow.entered.wait()
    draining = asyncio.ensure_future(service.worker.server.drain(1))
    await asyncio.sleep(0.2)
    quick.opened.set()

    assert "QUICK" == (await calls[0]).response
    assert ("UNAVAILABLE", "WORKER_DRAINED") == await calls[1]
    await draining
    other = await start_service()
    failed = await other.turn(request_id="slow")
    assert (cpb.TURN_STATE_FAILED, "WORKER_DRAINED") == (failed.state, reason_of(failed))
    assert "SLOW" == (await other.chat("slow", request_id="slow")).response


async def test_attempt_that_begins_at_the_end_of_a_drain_is_drained(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only those are ended that have begun: its worker goes away under it."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    turns, store = service.worker.turns, service.worker.store
    claim, claimed, goes_on = store.claim, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        found = await claim(*args)
        claimed.set()
        await goes_on.wait()
        return found

    monkeypatch.setattr(store, "claim", slow)
    call = asyncio.ensure_future(refused(service.chat(request_id="r")))
    await claimed.wait()
    draining = asyncio.ensure_future(turns.drain(0))
    await asyncio.sleep(0.1)
    goes_on.set()

    assert ("UNAVAILABLE", "WORKER_DRAINED") == await asyncio.wait_for(call, 5)
    await draining
    assert "WORKER_DRAINED" == reason_of(await service.turn(request_id="r"))


async def test_window_is_bounded_by_messages(start_service: StartService) -> None:
    agent = ScriptedAgent()
    service = await start_service(agent, context_messages=5)
    conversation_id = (await service.chat("m0")).conversation_id
    for n in range(1, 6):
        answer = await service.chat(f"m{n}", conversation_id=conversation_id)

    assert ["m3", "M3", "m4", "M4", "m5"] == [m.content for m in agent.runs[-1].window.messages]
    assert (7, 5, 6) == (
        answer.context.first_sequence,
        answer.context.message_count,
        answer.context.omitted_count,
    )


async def test_window_is_bounded_by_tokens_and_holds_whole_turns(
    start_service: StartService,
) -> None:
    agent = ScriptedAgent(say_back)
    service = await start_service(agent, context_tokens=256)  # 1,024 bytes
    conversation_id = (await service.chat("a" * 300)).conversation_id
    await service.chat("b" * 200, conversation_id=conversation_id)
    await service.chat("c" * 200, conversation_id=conversation_id)
    long = await service.chat("d" * 5000, conversation_id=conversation_id)

    third, fourth = agent.runs[-2], agent.runs[-1]
    assert ["b" * 200, "B" * 200, "c" * 200] == [m.content for m in third.window.messages]
    shown = fourth.window.messages[0].content
    assert 1 == len(fourth.window.messages)
    assert 900 < len(shown.encode()) <= 1024
    assert "\n[…]\n" in shown
    assert "D" * 10 in long.response
    assert "d" * 5000 == (await service.history(conversation_id)).messages[6].content
