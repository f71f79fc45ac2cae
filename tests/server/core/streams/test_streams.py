"""Streaming that survives: stored before it is sent, re-attached on any worker, taken over."""

import asyncio
from typing import Any

import grpc
import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import Finish, FinishReason, Text, ToolCall
from parley_server.storage.statements import sql
from support.agents import Gate, ScriptedAgent, Speaker
from support.processes import ServerProcess
from support.services import Service, StartService, an_id, gathered, refused
from support.streams import next_of, rest_of, text_of

CALL = ToolCall("c1", "weather", '{"city": "Ulm"}', "12 °C", False, 1)
CALL_PROTO = cpb.ToolCall(**CALL._asdict())


async def test_stream_brings_everything_as_it_happens(start_service: StartService) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    stream = service.stream("weather?", request_id="r")
    started = await next_of(stream, "started")
    speaker.say("Let me see. ")
    first = await next_of(stream, "chunk")
    speaker.say(CALL)
    call = await next_of(stream, "tool_call")
    speaker.say("Twelve ")
    second = await next_of(stream, "chunk")
    speaker.say("degrees.", None)
    events = await rest_of(stream)
    completed = events[-1].completed

    assert (1, 0) == (started.started.user_sequence, started.index)
    assert not started.HasField("index")
    assert ("Let me see. ", "Twelve ") == (first.chunk.text, second.chunk.text)
    assert [0, 1, 2] == [first.index, call.index, second.index]
    assert [1] * 4 == [started.attempt, first.attempt, call.attempt, second.attempt]
    assert CALL_PROTO == call.tool_call
    assert ("Let me see. Twelve degrees.", 2) == (completed.response, completed.response_sequence)
    assert [CALL_PROTO] == list(completed.tool_calls)
    replay = await rest_of(service.stream("weather?", request_id="r"))
    assert ["completed"] == [e.WhichOneof("event") for e in replay]
    assert replay[0].completed.replayed
    assert (await service.chat("weather?", request_id="r")).response == completed.response


async def test_event_is_stored_before_it_is_sent(
    start_service: StartService, database_url: str
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    stream = service.stream()
    await next_of(stream, "started")
    with psycopg.connect(database_url, autocommit=True) as connection:
        for n, text in enumerate(["one", "two", "three"]):
            speaker.say(text)
            assert text == (await next_of(stream, "chunk")).chunk.text
            stored = connection.execute(
                "SELECT text FROM turn_event WHERE index = %s", [n]
            ).fetchall()
            assert [(text,)] == stored
        speaker.say(None)
        await rest_of(stream)
        left = connection.execute("SELECT count(*) FROM turn_event").fetchone()

    assert (0,) == left


async def test_text_is_gathered_into_chunks(start_service: StartService) -> None:
    async def script(run):
        yield Text("first")
        await asyncio.sleep(0.02)
        for _ in range(1000):
            yield Text("x" * 10)
        await asyncio.sleep(0.2)
        yield Finish(FinishReason.STOP, "m")

    service = await start_service(ScriptedAgent(script))
    events = await rest_of(service.stream())
    chunks = [e.chunk.text for e in events if e.WhichOneof("event") == "chunk"]

    assert "first" == chunks[0]
    assert "first" + "x" * 10_000 == "".join(chunks)
    assert 2 <= len(chunks) <= 8


@pytest.mark.parametrize("notify", ["listen", "poll"])
async def test_stream_cut_at_every_event_continues_on_the_other_worker(
    start_service: StartService, notify: str
) -> None:
    """Fails when the position is not honoured: an event then comes twice, or never."""
    speaker = Speaker()
    one = await start_service(ScriptedAgent(speaker), notify=notify)
    two = await start_service(notify=notify)
    request = {"request_id": "r", "on_disconnect": pb.ON_DISCONNECT_CONTINUE}
    pieces: list[str | ToolCall] = ["a ", CALL, "b ", "c ", CALL._replace(id="c2"), "d"]
    seen: list[pb.StreamChatResponse] = []
    for n, piece in enumerate(pieces):
        stream = (one, two)[n % 2].stream(after=seen[-1] if seen else None, **request)
        await next_of(stream, "started")
        speaker.say(piece)
        event = await stream.read()
        seen.append(event)
        stream.cancel()
    last = two.stream(after=seen[-1], **request)
    await next_of(last, "started")
    speaker.say(None)
    completed = (await rest_of(last))[-1].completed

    assert list(range(len(pieces))) == [e.index for e in seen]
    assert "a b c d" == text_of(seen) == completed.response
    calls = [e.tool_call for e in seen if e.WhichOneof("event") == "tool_call"]
    assert list(completed.tool_calls) == calls
    assert ["c1", "c2"] == [c.id for c in calls]


async def test_attached_callers_one_slow_one_gone(start_service: StartService) -> None:
    speaker = Speaker()
    one, two = await start_service(ScriptedAgent(speaker)), await start_service()
    running = one.stream(request_id="r")
    await next_of(running, "started")
    slow, gone = two.stream(request_id="r"), one.stream(request_id="r")
    for stream in (slow, gone):
        await next_of(stream, "started")
    for n in range(20):
        speaker.say(f"{n} " * 1000)
        await next_of(running, "chunk")
        if n == 5:
            gone.cancel()
    speaker.say(None)
    running_rest, slow_rest = await asyncio.gather(rest_of(running), rest_of(slow))

    said = "".join(f"{n} " * 1000 for n in range(20))
    assert said == running_rest[-1].completed.response == slow_rest[-1].completed.response
    assert not running_rest[-1].completed.replayed
    assert slow_rest[-1].completed.replayed
    assert said.startswith(text_of(slow_rest))


async def test_lost_runner_hands_the_turn_to_the_attached_caller(
    start_service: StartService,
) -> None:
    speaker = Speaker()
    agent = ScriptedAgent(speaker)
    service = await start_service(agent)
    running = service.stream(request_id="r")
    await next_of(running, "started")
    attached = service.stream(request_id="r")
    await next_of(attached, "started")
    speaker.say("first try ")
    assert "first try " == (await next_of(attached, "chunk")).chunk.text
    running.cancel()
    while len(agent.runs) < 2:
        await asyncio.sleep(0.01)
    speaker.say("second try", None)
    events = await rest_of(attached)

    assert "second try" == events[-1].completed.response
    assert {2} == {e.attempt for e in events}
    assert 0 == events[0].index


@pytest.mark.slow
async def test_killed_workers_stream_is_taken_over_by_the_attached_caller(
    start_service: StartService, database_url: str
) -> None:
    service = await start_service()
    with ServerProcess(database_url, agent="echo:30", lease_s=1.5) as doomed:
        chat = pb.ChatRequest(message="hello", request_id="r")
        from support.services import metadata

        running = doomed.stub.StreamChat(
            pb.StreamChatRequest(chat=chat), timeout=20, metadata=metadata("ada")
        )
        await next_of(running, "started")
        attached = service.stream("hello", request_id="r")
        await next_of(attached, "started")
        doomed.process.kill()
        events = await rest_of(attached)

    assert "HELLO" == events[-1].completed.response
    assert 2 == (await service.turn(request_id="r")).attempt


async def test_turn_run_by_chat_has_no_events(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await gate.entered.wait()
    stream = service.stream(request_id="r")
    await next_of(stream, "started")
    gate.opened.set()
    await call

    assert ["completed"] == [e.WhichOneof("event") for e in await rest_of(stream)]


async def test_failing_stream_ends_with_a_status_and_runs_again(
    start_service: StartService,
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    stream = service.stream(request_id="r")
    await next_of(stream, "started")
    speaker.say("half a ")
    await next_of(stream, "chunk")
    speaker.say(AgentUnavailable(retry_after_s=3))

    assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(stream.read())
    speaker.say("whole", None)
    assert "whole" == (await rest_of(service.stream(request_id="r")))[-1].completed.response


@pytest.mark.parametrize("how", ["failed", "abandoned"])
async def test_events_of_an_overtaken_turn_are_removed(
    start_service: StartService, database_url: str, how: str
) -> None:
    speaker = Speaker()
    # The lease is renewed so seldom that it stays expired until the other worker has the next turn.
    service = await start_service(ScriptedAgent(speaker), lease_s=30)
    other = await start_service()
    conversation_id = an_id()
    stream = service.stream(conversation_id=conversation_id, allow_missing=True)
    await next_of(stream, "started")
    speaker.say("half a ")
    await next_of(stream, "chunk")
    with psycopg.connect(database_url, autocommit=True) as connection:
        count = "SELECT count(*) FROM turn_event"
        if how == "failed":
            speaker.say(AgentUnavailable())
            await refused(stream.read())
        else:
            connection.execute("UPDATE conversation SET lease_expires_at = now()")
        assert (1,) == connection.execute(count).fetchone()
        await other.chat("next", conversation_id=conversation_id)
        while connection.execute(count).fetchone() != (0,):
            await asyncio.sleep(0.02)


async def test_chat_and_stream_share_request_ids(service: Service) -> None:
    streamed = (await rest_of(service.stream("one", request_id="r")))[-1].completed
    chatted = await service.chat("one", request_id="r")

    assert chatted.replayed
    assert streamed.turn_id == chatted.turn_id
    other = refused(service.stream("two", request_id="r").read())
    assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await other


async def test_bad_stream_request_names_every_field(service: Service) -> None:
    request = pb.StreamChatRequest(
        chat=pb.ChatRequest(conversation_id="x"), after_attempt=-1, after_index=-1
    )
    from support.services import details_of, metadata

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.StreamChat(request, metadata=metadata("ada")).read()

    fields = {v.field for d in details_of(caught.value) for v in getattr(d, "field_violations", ())}
    assert {"chat.conversation_id", "chat.message", "after_attempt", "after_index"} == fields


# CancelTurn


@pytest.mark.parametrize("where", ["same worker", "another worker", "another worker, poll"])
async def test_cancel_keeps_what_was_said(start_service: StartService, where: str) -> None:
    speaker = Speaker()
    notify = "poll" if where.endswith("poll") else "listen"
    one = await start_service(ScriptedAgent(speaker), notify=notify)
    two = one if where == "same worker" else await start_service(notify=notify)
    running = one.stream(request_id="r")
    await next_of(running, "started")
    speaker.say("so far ")
    await next_of(running, "chunk")
    speaker.say(CALL)
    await next_of(running, "tool_call")
    waiting = asyncio.ensure_future(two.chat(request_id="r"))
    turn = await two.cancel(request_id="r")
    completed = (await rest_of(running))[-1].completed

    assert (cpb.TURN_STATE_CANCELLED, cpb.FINISH_REASON_CANCELLED) == (
        turn.state,
        turn.finish_reason,
    )
    assert ("so far ", cpb.FINISH_REASON_CANCELLED) == (completed.response, completed.finish_reason)
    assert [CALL_PROTO] == list(completed.tool_calls)
    assert "so far " == (await waiting).response
    await asyncio.wait_for(speaker.closed.wait(), 1)
    assert turn == await two.cancel(conversation_id=turn.conversation_id, turn_id=turn.turn_id)
    assert "so far " == (await one.chat(request_id="r")).response


async def test_cancel_with_nothing_said_leaves_an_empty_answer(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    call = asyncio.ensure_future(service.chat("hello", request_id="r"))
    await gate.entered.wait()
    turn = await service.cancel(request_id="r")

    assert cpb.TURN_STATE_CANCELLED == turn.state
    assert ("", 2) == ((await call).response, (await call).response_sequence)
    next_turn = await _after(service, gate, turn.conversation_id)
    assert 3 == next_turn.user_sequence


async def test_cancel_of_an_ended_turn_changes_nothing(service: Service) -> None:
    answer = await service.chat("hello", request_id="r")
    turn = await service.cancel(request_id="r")

    assert cpb.TURN_STATE_COMPLETED == turn.state
    assert answer.response == (await service.chat("hello", request_id="r")).response
    assert ("NOT_FOUND", "TURN_NOT_FOUND") == await refused(service.cancel(request_id="no"))


@pytest.mark.slow
async def test_cancel_of_a_dead_workers_turn_keeps_the_stored_events(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a standby is asked for them, which may be behind."""
    service = await start_service()
    read = service.worker.store.claiming.read

    async def behind(statement: Any, parameters: Any) -> Any:
        return [] if statement is sql.EVENTS else await read(statement, parameters)

    monkeypatch.setattr(service.worker.store.claiming, "read", behind)
    with ServerProcess(database_url, agent="echo:30", lease_s=1) as doomed:
        call = asyncio.ensure_future(doomed.chat("hello", request_id="r"))
        while True:
            try:
                turn = await service.turn(request_id="r")
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO turn_event (owner_id, turn_id, attempt, index, text)"
                " SELECT owner_id, id, attempt, n, 'piece ' || n FROM turn, generate_series(0, 2) n"
            )
        doomed.process.kill()
        await asyncio.wait([call])
    while (await service.cancel(request_id="r")).state == cpb.TURN_STATE_RUNNING:
        pass

    answer = await service.chat("hello", request_id="r")
    assert answer.replayed
    assert "piece 0piece 1piece 2" == answer.response
    assert turn.turn_id == answer.turn_id
    with psycopg.connect(database_url) as connection:
        assert (0,) == connection.execute("SELECT count(*) FROM turn_event").fetchone()


async def test_cancel_racing_with_the_end_has_one_winner_everywhere(
    start_service: StartService,
) -> None:
    async def script(run):
        yield Text("half ")
        await asyncio.sleep(0.01)
        yield Text("whole")
        yield Finish(FinishReason.STOP, "m")

    one, two = await start_service(ScriptedAgent(script)), await start_service()
    outcomes = set()
    for n in range(30):
        call = asyncio.ensure_future(one.chat("hello", request_id=f"r{n}"))
        await asyncio.sleep(0.012 + n % 10 / 1000)
        cancelled, answer = await gathered(two.cancel(request_id=f"r{n}"), call)
        turn = await two.turn(request_id=f"r{n}")
        replayed = await two.chat("hello", request_id=f"r{n}")
        outcomes.add(turn.state)
        assert answer.response == replayed.response
        assert turn.finish_reason == answer.finish_reason == replayed.finish_reason
        if not isinstance(cancelled, Exception):
            assert turn == cancelled

    assert outcomes <= {cpb.TURN_STATE_COMPLETED, cpb.TURN_STATE_CANCELLED}


async def _after(service: Service, gate: Gate, conversation_id: str) -> pb.ChatResponse:
    gate.opened.set()
    return await service.chat("next", conversation_id=conversation_id)


@pytest.mark.slow
async def test_streams_go_on_when_the_notification_connection_is_killed(
    start_service: StartService, database_url: str
) -> None:
    speaker = Speaker()
    one, two = await start_service(ScriptedAgent(speaker)), await start_service()
    running = one.stream(request_id="r")
    await next_of(running, "started")
    attached = two.stream(request_id="r")
    await next_of(attached, "started")
    seen = []
    with psycopg.connect(
        database_url.replace("//parley@", "//postgres@"), autocommit=True
    ) as connection:
        for n in range(12):
            if n % 3 == 1:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'parley-signals' AND datname = current_database()"
                )
            speaker.say(f"{n} ")
            await next_of(running, "chunk")
            seen.append(await next_of(attached, "chunk"))
    speaker.say(None)

    assert "".join(f"{n} " for n in range(12)) == text_of(seen)
    assert text_of(seen) == (await rest_of(attached))[-1].completed.response
