"""Traces, as a collector receives them over OTLP: what is recorded of a call, and under what."""

import asyncio
from typing import Any

import grpc
import pytest
from pydantic_ai import RunContext

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.ports import NO_TRACER
from parley_server.storage.driver.connection import Statement
from parley_server.storage.driver.connections import StatementFailed
from support.agents import Gate, ScriptedAgent
from support.fake_openai import Call, Fail, FakeOpenAI, Say
from support.otlp_receiver import Receiver, child_of, handed, named, tree
from support.pages import ROOT
from support.services import StartService, an_id, metadata, refused
from support.streams import rest_of
from support.traced_workers import (
    CALLER,
    CHAT,
    PARENT,
    TRACE,
    UNSAMPLED,
    Traced,
    a_model_agent,
    chat,
    until_calls,
    until_named,
)
from support.waiting import AskingAgent, result

pytestmark = pytest.mark.usefixtures("receiver")

A_TURN_WITH_A_TOOL = f"""\
{CHAT}
  claim_new
  attempt
    invoke_agent support
      chat any
      store_step
      execute_tool look
      store_step
      chat any
    finish_with_events"""


async def test_one_trace_from_the_caller_through_statements_model_and_tool(
    start_traced: Traced, receiver: Receiver
) -> None:
    """Fails when tools are told the span in which their run began (KeyedToolset's headers)."""
    told: list[dict[str, Any]] = []
    with FakeOpenAI([Say("", [Call("look")]), Say("Done.")]) as fake:
        agent, ours = a_model_agent(fake)

        @agent.tool  # type: ignore[untyped-decorator] # for any user's agent
        async def look(ctx: RunContext) -> str:
            told.append(dict(ctx.metadata or {}))
            return "found"

        service = await start_traced(ours)
        answered = await chat(service, "Hi", PARENT, ("tracestate", "rojo=1"))
        spans = await until_calls(receiver)

    # Other workers are told of turns now and then, for several turns at once.
    spans = [span for span in spans if span.name != "notify"]
    assert A_TURN_WITH_A_TOOL == tree(spans)
    assert A_TURN_WITH_A_TOOL in (ROOT / "docs" / "tracing.md").read_text()
    assert {TRACE} == {span.trace_id for span in spans}
    call = named(spans, CHAT)
    assert CALLER == call.parent_id
    assert {"rojo=1"} == {span.state for span in spans}
    run = named(spans, "invoke_agent support")
    asked = [span for span in spans if span.name == "chat any"]
    assert [(TRACE, span.id) for span in asked] == [handed(each.headers) for each in fake.requests]
    assert ["rojo=1"] * 2 == [each.headers["tracestate"] for each in fake.requests]
    assert [(TRACE, child_of(spans, run, "execute_tool look").id)] == [handed(one) for one in told]
    for span in (call, named(spans, "attempt")):
        assert answered.conversation_id == span.attributes["gen_ai.conversation.id"]
        assert answered.turn_id == span.attributes["parley.turn.id"]
    assert "parley" == call.resource["service.name"]


async def test_an_agent_in_its_thread_is_in_the_trace(
    start_traced: Traced, receiver: Receiver, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parley_server.agents.catalog import create_agent

    (tmp_path / "users_recorded_module.py").write_text(
        "from pydantic_ai import Agent\n"
        "agent = Agent('openai-chat:any', name='support', defer_model_check=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with FakeOpenAI([Say("Hello.")]) as fake:
        agent = create_agent("python:users_recorded_module:agent", openai_base_url=fake.base_url)
        service = await start_traced(agent)
        await chat(service, "Hi", PARENT)
        spans = await until_calls(receiver)

    run = child_of(spans, named(spans, "attempt"), "invoke_agent support")
    assert (TRACE, child_of(spans, run, "chat any").id) == handed(fake.requests[0].headers)


@pytest.mark.parametrize("sample", [None, 1.0])
async def test_a_caller_that_does_not_record_is_followed(
    sample: float | None, start_traced: Traced, receiver: Receiver
) -> None:
    with FakeOpenAI([Say("Hello.")]) as fake:
        service = await start_traced(a_model_agent(fake)[1], traces_sample=sample)
        await chat(service, "Hi", UNSAMPLED)
        await chat(service, "Hi", PARENT)
        spans = await until_calls(receiver)

    assert [CHAT] == [span.name for span in spans if span.kind == "SERVER"]
    unrecorded = fake.requests[0].headers["traceparent"].split("-")
    assert (TRACE, "00") == (unrecorded[1], unrecorded[3])
    assert unrecorded[2] not in {CALLER, *(span.id for span in spans)}


async def test_what_begins_here_is_recorded_by_the_ratio_and_what_callers_record_always(
    start_traced: Traced, receiver: Receiver
) -> None:
    service = await start_traced(traces_sample=0)
    await chat(service)
    await chat(service, "Hi", PARENT)
    spans = await until_calls(receiver)
    assert [TRACE] == [span.trace_id for span in spans if span.kind == "SERVER"]


async def test_a_trace_begins_where_a_call_comes_without_one(
    start_traced: Traced, receiver: Receiver
) -> None:
    service = await start_traced()
    await chat(service)
    await chat(service)
    calls = [span for span in await until_calls(receiver, 2) if span.kind == "SERVER"]
    assert ["", ""] == [span.parent_id for span in calls]
    assert 2 == len({span.trace_id for span in calls})


async def test_calls_at_the_same_time_keep_their_traces_apart(
    start_traced: Traced, receiver: Receiver
) -> None:
    turns = 20
    service = await start_traced()

    def parent(number: int) -> tuple[str, str]:
        return "traceparent", f"00-{number:032x}-{CALLER}-01"

    await asyncio.gather(*(chat(service, f"turn {n}", parent(n)) for n in range(1, turns + 1)))
    spans = await until_calls(receiver, turns)
    for number in range(1, turns + 1):
        mine = [s for s in spans if s.trace_id == f"{number:032x}" and s.name != "notify"]
        assert {CHAT, "claim_new", "attempt", "finish"} == {span.name for span in mine}
        assert 4 == len(mine)
        assert CALLER == named(mine, CHAT).parent_id


async def test_a_started_turn_is_recorded_under_the_call_that_accepted_it(
    start_traced: Traced, receiver: Receiver
) -> None:
    service = await start_traced()
    request = pb.StartTurnRequest(chat=pb.ChatRequest(message="Hi"))
    await service.stub.StartTurn(request, timeout=20, metadata=(*metadata("ada"), PARENT))
    spans = await until_named(receiver, "attempt", "finish_started")

    call = named(spans, "parley.v1.ConversationService/StartTurn")
    attempt = child_of(spans, call, "attempt")
    assert child_of(spans, attempt, "finish_started")
    assert call.attributes["parley.turn.id"] == attempt.attributes["parley.turn.id"]
    assert TRACE == attempt.trace_id


async def test_a_started_turn_of_another_worker_begins_a_trace_and_names_its_turn(
    start_traced: Traced, start_service: StartService, receiver: Receiver
) -> None:
    gate = Gate()
    accepting = await start_service(ScriptedAgent(gate), max_open_chats=1)  # it records nothing
    await accepting.start(user="bob")
    await gate.entered.wait()  # and has no room for what it accepts from now on
    running = await start_traced()
    turn = (await accepting.start()).turn
    await running.until_turn(turn, "COMPLETED")
    gate.opened.set()
    attempt = named(await until_named(receiver, "attempt", "finish_started"), "attempt")

    assert "" == attempt.parent_id
    assert turn.turn_id == attempt.attributes["parley.turn.id"]


async def test_an_attempt_is_linked_with_the_one_before_it(
    start_traced: Traced, receiver: Receiver
) -> None:
    service = await start_traced(AskingAgent())
    waits = await chat(service, "Hi", PARENT)
    answers = [result(call) for call in waits.pending_calls]
    await service.resume(*answers, conversation_id=waits.conversation_id, turn_id=waits.turn_id)
    spans = await until_calls(receiver, 2)

    first, second = [span for span in spans if span.name == "attempt"]
    assert ("WAITING", "COMPLETED") == (
        first.attributes["parley.outcome"],
        second.attributes["parley.outcome"],
    )
    assert () == first.links
    assert ((TRACE, first.id),) == second.links
    assert TRACE != second.trace_id


async def test_failures_are_named_and_only_faults_are_errors(
    start_traced: Traced, receiver: Receiver
) -> None:
    with FakeOpenAI([Fail(500)]) as fake:
        service = await start_traced(a_model_agent(fake)[1])
        missing = chat(service, "Hi", conversation_id=an_id())
        assert "NOT_FOUND" == (await refused(missing))[0]
        assert "UNAVAILABLE" == (await refused(chat(service)))[0]
        spans = await until_calls(receiver, 2)

    not_found, unavailable = [span for span in spans if span.kind == "SERVER"]
    assert "NOT_FOUND" == not_found.attributes["rpc.response.status_code"]
    assert not not_found.is_error
    assert "UNAVAILABLE" == unavailable.attributes["rpc.response.status_code"]
    assert ("UNAVAILABLE", True) == (unavailable.attributes["error.type"], unavailable.is_error)
    attempt = child_of(spans, unavailable, "attempt")
    assert ("AGENT_UNAVAILABLE", True) == (attempt.attributes["parley.outcome"], attempt.is_error)
    request = named(spans, "chat any")
    assert ("500", True) == (request.attributes["error.type"], request.is_error)
    assert "" == request.status_text


async def test_a_cancelled_call_is_recorded(start_traced: Traced, receiver: Receiver) -> None:
    gate = Gate()
    service = await start_traced(ScriptedAgent(gate))
    calling = asyncio.create_task(chat(service, "Hi", PARENT))
    await gate.entered.wait()
    calling.cancel()
    spans = await until_named(receiver, CHAT, "attempt")

    assert "CANCELLED" == named(spans, CHAT).attributes["rpc.response.status_code"]
    assert "CALLER_LOST" == named(spans, "attempt").attributes["parley.outcome"]


async def test_a_refused_token_is_recorded(start_traced: Traced, receiver: Receiver) -> None:
    service = await start_traced()
    with pytest.raises(grpc.aio.AioRpcError):
        await service.stub.Chat(pb.ChatRequest(message="Hi"), metadata=(PARENT,))
    (call,) = await until_calls(receiver)
    assert "UNAUTHENTICATED" == call.attributes["rpc.response.status_code"]


async def test_a_failed_statement_is_named_by_its_state_and_not_its_text(
    start_traced: Traced, receiver: Receiver
) -> None:
    service = await start_traced()
    store = service.worker.store
    broken = Statement("SELECT 1 / 0, 'a secret'", name="broken")
    with service.worker.tracer.call("any/Call") as span:
        with pytest.raises(StatementFailed):
            await store.claiming.run(broken, {})
        span.ended("INTERNAL", {})
    found = named(await until_calls(receiver), "broken")

    assert "22012" == found.attributes["db.response.status_code"]
    assert "22012" == found.attributes["error.type"]
    assert found.is_error
    assert b"secret" not in b"".join(receiver.requests)


async def test_statements_that_no_call_asks_for_are_not_recorded(
    start_traced: Traced, receiver: Receiver
) -> None:
    """Workers look for what there is to do all the time: those would be traces of their own."""
    service = await start_traced()
    await service.worker.store.claiming.run(Statement("SELECT 1", name="looked"), {})
    await chat(service, "Hi", PARENT)
    assert {TRACE} == {span.trace_id for span in await until_calls(receiver)}


async def test_health_checks_are_not_recorded(start_traced: Traced, receiver: Receiver) -> None:
    from support.services import health

    service = await start_traced()
    await health(service)
    await chat(service)
    spans = await until_calls(receiver)
    assert [CHAT] == [span.name for span in spans if span.kind == "SERVER"]


async def test_reading_calls_name_their_conversation(
    start_traced: Traced, receiver: Receiver
) -> None:
    service = await start_traced()
    known = (await chat(service)).conversation_id
    await service.history(known.upper())
    await service.conversation(known.upper())
    await chat(service, conversation_id=known.upper())
    spans = await until_calls(receiver, 4)

    calls = [span for span in spans if span.kind == "SERVER"]
    assert [known] * 4 == [span.attributes["gen_ai.conversation.id"] for span in calls]


async def test_a_rehearsal_is_in_the_trace_of_its_call_and_names_its_turn(
    start_traced: Traced, receiver: Receiver
) -> None:
    """Fails where a turn that is named by its request id leaves the call without its ids."""
    with FakeOpenAI([Say("Hello.")]) as fake:
        service = await start_traced(a_model_agent(fake)[1])
        answered = await chat(service, request_id="r1")
        await rest_of(service.rehearse(request_id="r1"))
        await service.explain(request_id="r1")
        spans = await until_calls(receiver, 3)

    _, rehearsed, explained = [span for span in spans if span.kind == "SERVER"]
    for span in (rehearsed, explained):
        assert answered.conversation_id == span.attributes["gen_ai.conversation.id"]
        assert answered.turn_id == span.attributes["parley.turn.id"]
    run = child_of(spans, rehearsed, "invoke_agent support")
    assert answered.conversation_id == run.attributes["gen_ai.conversation.id"]
    assert [] == [s for s in spans if s.name == "attempt" and s.trace_id == rehearsed.trace_id]


async def test_a_worker_without_traces_has_no_tracer(start_service: StartService) -> None:
    service = await start_service()
    assert service.worker.tracer is NO_TRACER
