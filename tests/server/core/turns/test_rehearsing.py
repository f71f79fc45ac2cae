"""RehearseTurn: another answer to a turn, of which nothing is stored and for which no tool runs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.agents.catalog import close_agent, create_agent
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.agents.steps import REHEARSAL
from parley_server.core.attempts.roster import NamedAgent
from parley_server.core.attempts.window import WindowSettings
from parley_server.core.errors import AgentRefused
from parley_server.core.model import (
    AgentEvent,
    AgentLimits,
    AgentRun,
    Finish,
    FinishReason,
    Spent,
    Text,
    ToolCall,
    Usage,
)
from parley_server.core.ports import Agent as AgentPort
from parley_server.rpc import servicer
from support.agents import Gate, ScriptedAgent, Speaker, say_back
from support.databases import as_superuser
from support.http2 import INITIAL_WINDOW_SIZE, Connection, message
from support.rosters import WINDOW, AddAgents, add_agents  # noqa: F401 - a fixture
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    a_token,
    an_id,
    metadata,
    refused,
    until_true,
)
from support.streams import Stream

USED = Usage(input_tokens=70, output_tokens=30, cached_input_tokens=50, model_requests=1)
GONE = ("NOT_FOUND", "TURN_NOT_FOUND")
INCOMPLETE = ("FAILED_PRECONDITION", "WINDOW_INCOMPLETE")
TOOL = cpb.Tool(name="mine", description="The caller's.", parameters_schema='{"type": "object"}')
Tables = dict[str, list[Any]]


async def say_in_pieces(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Say how many messages it was shown, with which instructions."""
    yield Text(f"{len(run.window.messages)} messages. ")
    yield ToolCall("c1", "count", "{}", "1", is_error=False, step=1)
    yield Text(run.instructions)
    yield Finish(FinishReason.STOP, "other-1", USED)


def other(script: Any = say_in_pieces, **fields: Any) -> NamedAgent:
    return NamedAgent(
        **{"name": "other", "agent": ScriptedAgent(script), "window": WINDOW, **fields}
    )


def named(answered: pb.ChatResponse) -> dict[str, str]:
    return {"conversation_id": answered.conversation_id, "turn_id": answered.turn_id}


async def told(stream: Stream) -> list[pb.RehearseTurnResponse]:
    return [event async for event in stream]


async def answer_of(stream: Stream) -> pb.RehearsalCompleted:
    return (await told(stream))[-1].completed


def everything(url: str) -> Tables:
    """Return what is in every table of the schema."""
    with psycopg.connect(as_superuser(url)) as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        ).fetchall()
        assert len(names) > 15
        return {
            name: sorted(connection.execute(f'SELECT t::text FROM "{name}" t').fetchall())
            for (name,) in names
        }


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_other_agent_answers_what_the_turn_was_shown_and_nothing_is_written(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
    database_url: str,
) -> None:
    """Fails when anything at all is written, in any table, by any part of a rehearsal."""
    gate = Gate()
    rehearsing = other()
    add_agents(rehearsing)

    async def script(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        is_open = run.window.messages[-1].content == "open"
        async for event in gate(run) if is_open else say_back(run):
            yield event

    service = await start_service(ScriptedAgent(script))
    created = await service.create(instructions="Be brief.")
    fields = {"conversation_id": created.conversation.conversation_id}
    await service.chat("one", **fields)
    second = await service.chat("two", **fields, request_id="second")
    await service.chat("three", **fields)
    open_one = asyncio.ensure_future(service.chat("open", **fields))
    await gate.entered.wait()
    before = everything(database_url)

    events = await told(service.rehearse(request_id="second", agent="other"))

    assert before == everything(database_url)
    (run,) = rehearsing.agent.runs  # type: ignore[attr-defined]  # of a ScriptedAgent
    assert ["one", "ONE", "two"] == [m.content for m in run.window.messages]
    assert "Be kind.\n\nBe brief." == run.instructions
    started, *pieces, completed = events
    assert ("other", second.context) == (started.started.agent, started.started.context)
    said = "".join(piece.chunk.text for piece in pieces)
    assert completed.completed.response == said == "3 messages. Be kind.\n\nBe brief."
    assert list(completed.completed.tool_calls) == [
        piece.tool_call for piece in pieces if piece.HasField("tool_call")
    ]
    assert ("other-1", cpb.FINISH_REASON_STOP) == (
        completed.completed.model,
        completed.completed.finish_reason,
    )
    assert cpb.Usage(**USED._asdict()) == completed.completed.usage
    gate.opened.set()
    await open_one


async def test_rehearsal_waits_for_no_lock(start_service: StartService, database_url: str) -> None:
    """Fails when it locks the conversation or the turn, as an attempt does."""
    service = await start_service()
    answered = await service.chat("hello")
    with psycopg.connect(database_url) as connection:
        for table in ("conversation", "turn", "message"):
            connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")

        completed = await answer_of(service.rehearse(**named(answered), timeout=10))

    assert "HELLO" == completed.response


async def test_own_agent_is_the_default_and_a_failed_turn_can_be_rehearsed(
    start_service: StartService,
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    speaker.say(AgentRefused())
    assert "AGENT_REFUSED" == (await refused(service.chat("hello", request_id="r")))[1]
    speaker.say("better", None)

    events = await told(service.rehearse(request_id="r"))

    assert ("echo", "better") == (events[0].started.agent, events[-1].completed.response)
    assert cpb.TURN_STATE_FAILED == (await service.turn(request_id="r")).state


# Tools


@pytest.fixture
async def approving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AgentPort]:
    """A user's agent in a thread, whose tools take notes of what they do."""
    monkeypatch.setenv("NOTES", str(tmp_path))
    agent = create_agent("python:support.approving_module:agent")
    yield agent
    await close_agent(agent)


async def test_tools_of_the_agent_and_of_the_caller_are_answered_from_the_record(
    start_service: StartService, approving: AgentPort, tmp_path: Path, database_url: str
) -> None:
    """Fails when a tool runs again, an approval is asked for, or a call waits for the caller."""
    service = await start_service(approving)
    waiting = await service.chat("look+pay mine send", tools=[TOOL])
    while waiting.pending_calls:
        gives = [
            pb.CallResult(call_key=call.call_key, approval=pb.Approval())
            if call.kind == cpb.PENDING_CALL_KIND_APPROVAL
            else pb.CallResult(call_key=call.call_key, result="the caller's")
            for call in waiting.pending_calls
        ]
        waiting = await service.resume(*gives, **named(waiting))
    notes = (tmp_path / "notes").read_text()
    assert ["look", "pay", "send"] == [line.split()[0] for line in notes.splitlines()]
    before = everything(database_url)

    completed = await answer_of(service.rehearse(**named(waiting)))

    assert notes == (tmp_path / "notes").read_text()
    assert before == everything(database_url)
    assert waiting.response == completed.response
    assert "Done: look: done, pay: done, the caller's, send: done" in completed.response
    assert list(waiting.tool_calls) == list(completed.tool_calls)


async def test_denied_calls_are_denied_again_and_a_waiting_turn_goes_on_in_rehearsal_only(
    start_service: StartService, approving: AgentPort, tmp_path: Path
) -> None:
    service = await start_service(approving)
    waiting = await service.chat("look pay", request_id="r")
    notes = (tmp_path / "notes").read_text()

    completed = await answer_of(service.rehearse(request_id="r"))
    assert ["look: done", REHEARSAL] == [call.result for call in completed.tool_calls]
    assert [False, True] == [call.is_error for call in completed.tool_calls]
    assert cpb.TURN_STATE_WAITING == (await service.turn(request_id="r")).state
    assert notes == (tmp_path / "notes").read_text()

    (pending,) = waiting.pending_calls
    denied = pb.CallResult(call_key=pending.call_key, denial=pb.Denial(reason="too dear"))
    await service.resume(denied, **named(waiting))
    completed = await answer_of(service.rehearse(request_id="r"))
    assert ["look: done", "too dear"] == [call.result for call in completed.tool_calls]
    assert [False, True] == [call.is_error for call in completed.tool_calls]
    assert notes == (tmp_path / "notes").read_text()


def asking(*calls: tuple[str, str]) -> tuple[PydanticAgent, list[int]]:
    """Return an agent whose model makes calls, one after the other, and the runs of its tool."""
    ran: list[int] = []

    async def speak(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        done = sum(part.part_kind == "tool-return" for m in messages for part in m.parts)
        if done == len(calls):
            yield "Done."
        else:
            name, arguments = calls[done]
            yield {0: DeltaToolCall(name, arguments, tool_call_id=f"c{done}")}

    agent: Agent[None, str] = Agent(FunctionModel(stream_function=speak))

    @agent.tool
    async def look(ctx: RunContext[Any], n: float, deep: bool = False) -> str:
        ran.append(len(ran) + 1)
        return f"found {len(ran)}"

    return PydanticAgent(agent, agent.model), ran  # type: ignore[arg-type]  # a Model


async def test_call_gets_the_result_of_an_equal_one_and_each_only_once(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    """Fails when results are matched by name alone, or by the text of the arguments."""
    own, own_runs = asking(
        ("look", '{"n":1}'), ("look", '{"n":1,"deep":true}'), ("look", '{"n":1}')
    )
    asked, asked_runs = asking(
        ("look", '{ "n" : 1.0 }'),
        ("look", '{"n":2}'),
        ("look", '{"deep": true, "n": 1}'),
        ("look", '{"n":1}'),
        ("look", '{"n":1}'),
    )
    add_agents(other(agent=asked))
    service = await start_service(own)
    answered = await service.chat("go")
    assert ["found 1", "found 2", "found 3"] == [call.result for call in answered.tool_calls]

    completed = await answer_of(service.rehearse(**named(answered), agent="other"))

    expected = ["found 1", REHEARSAL, "found 2", "found 3", REHEARSAL]
    assert expected == [call.result for call in completed.tool_calls]
    assert [False, True, False, False, True] == [call.is_error for call in completed.tool_calls]
    assert ("Done.", [1, 2, 3], []) == (completed.response, own_runs, asked_runs)


# What cannot be rehearsed


async def test_agent_that_may_act_is_not_asked(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    acting = other(can_rehearse=False)
    add_agents(acting)
    service = await start_service()
    answered = await service.chat()

    call = service.rehearse(**named(answered), agent="other")
    assert ("FAILED_PRECONDITION", "NO_REHEARSAL") == await refused(call.read())
    assert [] == acting.agent.runs  # type: ignore[attr-defined]  # of a ScriptedAgent
    call = service.rehearse(**named(answered), agent="nobody")
    assert "INVALID_ARGUMENT" == (await refused(call.read()))[0]


async def test_agent_that_may_act_since_a_reload_is_not_asked(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
    database_url: str,
) -> None:
    """Fails where that is looked at only before the window is read: the file may change then."""
    acting = ScriptedAgent(say_in_pieces)
    add_agents(other(limits=AgentLimits(tokens_a_day=1000)))
    service = await start_service()
    answered = await service.chat()
    with psycopg.connect(as_superuser(database_url), autocommit=True) as looking:
        with psycopg.connect(as_superuser(database_url)) as locking:
            locking.execute("LOCK TABLE usage_day")
            call = service.rehearse(**named(answered), agent="other")
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
            await until_true(lambda: looking.execute(waiting).rowcount > 0)
            roster = service.worker.turns.roster
            roster.replace([roster.default, other(agent=acting, can_rehearse=False)], "main")

        assert ("FAILED_PRECONDITION", "NO_REHEARSAL") == await refused(call.read())
    assert [] == acting.runs


async def test_window_that_does_not_hold_what_was_shown_is_refused(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    small = other(name="small", window=WindowSettings(3, 100_000))
    narrow = other(name="narrow", window=WindowSettings(40, 256))
    large = other(name="large", window=WindowSettings(400, 100_000))
    add_agents(small, narrow, large, window=WindowSettings(5, 100_000))
    service = await start_service()
    chats = [await service.chat("m0")]
    for number in range(1, 4):
        chats.append(await service.chat(f"m{number}", conversation_id=chats[0].conversation_id))
    long = await service.chat("x" * 2000)

    def refusal(chat: pb.ChatResponse, agent: str) -> Any:
        return refused(service.rehearse(**named(chat), agent=agent).read())

    assert INCOMPLETE == await refusal(chats[2], "small")
    assert INCOMPLETE == await refusal(long, "narrow")
    assert "2 messages" not in (await answer_of(service.rehearse(**named(long)))).response
    fits = await answer_of(service.rehearse(**named(chats[1]), agent="small"))
    assert fits.response.startswith("3 messages")
    same = await told(service.rehearse(**named(chats[3]), agent="large"))
    assert same[-1].completed.response.startswith("5 messages"), "no more than the turn was shown"
    assert chats[3].context == same[0].started.context


async def test_turn_that_has_not_begun_or_is_not_there_is_refused(
    start_service: StartService,
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    running = (await service.start("first", request_id="r1")).turn
    await gate.entered.wait()
    await service.start("second", conversation_id=running.conversation_id, request_id="r2")

    assert INCOMPLETE == await refused(service.rehearse(request_id="r2").read())
    assert GONE == await refused(service.rehearse(request_id="r1", user="bob").read())
    unknown = service.rehearse(conversation_id=running.conversation_id, turn_id=an_id())
    assert GONE == await refused(unknown.read())
    await service.delete(running.conversation_id)
    assert GONE == await refused(service.rehearse(request_id="r1").read())


async def test_rehearsal_takes_the_scope_of_writing(service: Service) -> None:
    """It costs what a turn does. Explaining takes the scope of reading."""
    answered = await service.chat()
    token = (("authorization", f"Bearer {a_token(scope='parley.read')}"),)

    stream = service.stub.RehearseTurn(pb.RehearseTurnRequest(**named(answered)), metadata=token)
    assert ("PERMISSION_DENIED", "SCOPE_MISSING") == await refused(stream.read())
    request = pb.ExplainTurnRequest(**named(answered))
    assert (await service.stub.ExplainTurn(request, metadata=token)).messages


# Bounds


async def test_deadlines_and_limits_hold_as_for_a_turn(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    gate = Gate()
    slow = other(gate, name="slow", limits=AgentLimits(seconds=0.3))
    brief = other(name="brief", limits=AgentLimits(reply_bytes=5))
    add_agents(slow, brief)
    service = await start_service()
    answered = await service.chat()

    call = service.rehearse(**named(answered), agent="slow")
    assert "started" == (await call.read()).WhichOneof("event")
    assert ("DEADLINE_EXCEEDED", "AGENT_TIMEOUT") == await refused(call.read())
    await gate.closed.wait()
    short = service.rehearse(**named(answered), timeout=0.8)
    assert ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT") == await refused(short.read())
    cut = await answer_of(service.rehearse(**named(answered), agent="brief"))
    assert ("1 mes", cpb.FINISH_REASON_LENGTH) == (cut.response, cut.finish_reason)


async def test_lost_caller_stops_the_agent(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    gate = Gate()
    add_agents(other(gate))
    service = await start_service()
    answered = await service.chat()
    call = service.rehearse(**named(answered), agent="other")
    await gate.entered.wait()

    call.cancel()

    await gate.closed.wait()
    await until_true(lambda: len(service.worker.rehearsals) == 0)


async def test_caller_that_takes_nothing_for_long_counts_as_lost(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servicer, "TAKE_S", 0.5)
    speaker = Speaker()
    add_agents(other(speaker))
    service = await start_service()
    request = pb.RehearseTurnRequest(**named(await service.chat()), agent="other")
    connection = await Connection.opened(service.port, {INITIAL_WINDOW_SIZE: 0})
    body = message(request.SerializeToString())
    await connection.send(connection.call("RehearseTurn", metadata("ada"), body)[1])
    await speaker.entered.wait()
    speaker.say(*["x" * 4000] * 40)

    await speaker.closed.wait()
    await until_true(lambda: len(service.worker.rehearsals) == 0)
    connection.close()


async def test_rehearsal_ends_with_its_worker(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    gate = Gate()
    add_agents(other(gate))
    service = await start_service()
    answered = await service.chat()
    call = service.rehearse(**named(answered), agent="other")
    assert "started" == (await call.read()).WhichOneof("event")

    service.worker.rehearsals.drain()

    assert ("UNAVAILABLE", "WORKER_DRAINED") == await refused(call.read())
    await gate.closed.wait()
    later = service.rehearse(**named(answered))
    assert ("UNAVAILABLE", "WORKER_DRAINED") == await refused(later.read())


async def test_rehearsals_take_the_places_of_chats(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    gate = Gate()
    add_agents(other(gate))
    service = await start_service(max_open_chats=2, owner_share=0.5)
    hers, his = await service.chat(), await service.chat(user="bob")
    call = service.rehearse(**named(hers), agent="other")
    await gate.entered.wait()

    assert ("RESOURCE_EXHAUSTED", "OVERLOADED") == await refused(service.chat())
    assert "HELLO" == (await answer_of(service.rehearse(**named(his), user="bob"))).response
    gate.opened.set()
    assert "HELLO" == (await told(call))[-1].completed.response


async def spend(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Answer for 100 tokens, or fail for as many."""
    yield Spent(USED)
    yield Text("fine")
    yield Finish(FinishReason.STOP, "scripted-1", USED)


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_budget_holds_for_turns_and_rehearsals_together(start_service: StartService) -> None:
    """Fails when what was rehearsed is forgotten: an owner could ask a model without end."""
    service = await start_service(ScriptedAgent(spend), max_tokens_per_day=300)
    answered = await service.chat()
    for _ in range(2):
        await told(service.rehearse(**named(answered)))

    call = service.rehearse(**named(answered))
    assert ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED") == await refused(call.read())
    assert "fine" == (await service.chat()).response, "the turns' own budget is not touched"
    his = await service.chat(user="bob")
    assert "fine" == (await answer_of(service.rehearse(**named(his), user="bob"))).response


async def test_budget_of_an_agent_holds_for_its_rehearsals(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    add_agents(other(spend, limits=AgentLimits(tokens_a_day=200)))
    service = await start_service()
    answered = await service.chat(agent="other")
    await told(service.rehearse(**named(answered)))

    call = service.rehearse(**named(answered))
    assert ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED") == await refused(call.read())
    assert "HELLO" == (await answer_of(service.rehearse(**named(answered), agent="main"))).response


async def test_turns_a_minute_hold_for_turns_and_rehearsals_together(
    start_service: StartService,
) -> None:
    service = await start_service(max_turns_per_minute=3)
    answered = await service.chat()
    for _ in range(2):
        await told(service.rehearse(**named(answered)))

    call = service.rehearse(**named(answered))
    assert ("RESOURCE_EXHAUSTED", "TURN_LIMIT_REACHED") == await refused(call.read())
    assert "HELLO" == (await service.chat()).response


@pytest.mark.writes_rows
async def test_limits_hold_for_an_owner_without_turns_of_today(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
    database_url: str,
) -> None:
    """Fails when only what is stored is looked at: none of it is of this minute, or of today."""
    add_agents(other(spend))
    service = await start_service(max_turns_per_minute=3)
    answered = await service.chat()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE turn SET create_time = now() - interval '1 hour'")
    for _ in range(3):
        await told(service.rehearse(**named(answered), agent="other"))
    call = service.rehearse(**named(answered), agent="other")
    assert ("RESOURCE_EXHAUSTED", "TURN_LIMIT_REACHED") == await refused(call.read())

    budgeted = await start_service(max_tokens_per_day=200)
    for _ in range(2):
        await told(budgeted.rehearse(**named(answered), agent="other"))
    call = budgeted.rehearse(**named(answered), agent="other")
    assert ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED") == await refused(call.read())


async def test_rehearsals_are_counted_apart(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    add_agents(other(spend), NamedAgent("bad", ScriptedAgent(fail), WINDOW))
    service = await start_service(metrics_listen="127.0.0.1:0")
    answered = await service.chat()

    await told(service.rehearse(**named(answered), agent="other"))
    assert (
        "AGENT_REFUSED"
        == (await refused(told(service.rehearse(**named(answered), agent="bad"))))[1]
    )

    assert service.worker.metrics is not None
    found = service.worker.metrics.registry.get_sample_value
    ended = "parley_rehearsals_total"
    assert 1 == found(ended, {"agent": "other", "outcome": "COMPLETED"})
    assert 1 == found(ended, {"agent": "bad", "outcome": "AGENT_REFUSED"})
    tokens = {"agent": "other", "type": "input"}
    assert 70 == found("parley_rehearsal_tokens_total", tokens)
    assert found("parley_tokens_total", tokens) is None
    assert found("parley_turns_total", {"agent": "other", "outcome": "COMPLETED"}) is None


async def fail(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    raise AgentRefused
    yield  # makes it a generator
