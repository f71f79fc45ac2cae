"""A caller's trace: in its call's log lines, and in what is asked of providers for its turn."""

import asyncio
import json
import textwrap
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent, RunContext

from parley.v1 import conversation_service_pb2 as pb
from parley_server.agents.catalog import close_agent, create_agent
from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.tracing import MAX_STATE_CHARACTERS, Trace
from parley_server.rpc.layers.stack import trace_of
from support.fake_openai import Call, Fail, FakeOpenAI, Say
from support.openai_script import Json
from support.processes import ServerProcess, lines_of
from support.services import Service, StartService, an_id, metadata, refused

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
MALFORMED = {
    "another version": f"01-{TRACE}-{SPAN}-01",
    "no trace": f"00-{'0' * 32}-{SPAN}-01",
    "no span": f"00-{TRACE}-{'0' * 16}-01",
    "upper case": f"00-{TRACE.upper()}-{SPAN}-01",
    "too short": f"00-{TRACE[:-1]}-{SPAN}-01",
    "more behind it": f"{PARENT}-x",
    "a line more": f"{PARENT}\n",
    "nothing": "",
}

numbers = count()
MakeAgent = Callable[[FakeOpenAI], Any]


async def chat(
    service: Service | ServerProcess, message: str = "Hi", *trace: tuple[str, str], **fields: Any
) -> pb.ChatResponse:
    """Make a turn with these headers beside the token."""
    return await service.stub.Chat(
        pb.ChatRequest(message=message, **fields),
        timeout=60,
        metadata=(*metadata("ada"), *trace),
        wait_for_ready=True,
    )


def trace_sent(headers: dict[str, str]) -> tuple[str, str, str]:
    """Return trace id, span id and flags of a request."""
    version, *rest = headers["traceparent"].split("-")
    assert "00" == version
    trace, span, flags = rest
    assert Trace.read(headers["traceparent"], "") is not None
    return trace, span, flags


@pytest.fixture(params=["openai-chat:any", "openai:any", "python"])
def make_agent(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeAgent:
    """Make an agent on the worker's loop, or a user's in its thread."""

    def make(fake: FakeOpenAI) -> Any:
        name = request.param
        if name == "python":
            module = f"users_traced_module_{next(numbers)}"
            text = "from pydantic_ai import Agent\n"
            text += "agent = Agent('openai-chat:any', defer_model_check=True)\n"
            (tmp_path / f"{module}.py").write_text(text)
            monkeypatch.syspath_prepend(tmp_path)
            name = f"python:{module}:agent"
        return create_agent(name, openai_base_url=fake.base_url)

    return make


async def test_provider_is_asked_under_the_callers_trace_with_a_span_of_its_own(
    make_agent: MakeAgent, start_service: StartService
) -> None:
    """Fails for the agent in its thread when its runs do not get the context of their call."""
    with FakeOpenAI([Say("Hello.")]) as fake:
        service = await start_service(make_agent(fake))
        await chat(service, "Hi", ("traceparent", PARENT), ("tracestate", STATE))
        await chat(service, "Hi", ("traceparent", PARENT[:-1] + "0"))

    first, second = (request.headers for request in fake.requests)
    assert (TRACE, "01") == trace_sent(first)[::2]
    assert (TRACE, "00") == trace_sent(second)[::2]
    assert 3 == len({SPAN, trace_sent(first)[1], trace_sent(second)[1]})
    assert STATE == first["tracestate"]
    assert "tracestate" not in second


@pytest.mark.slow
async def test_turns_that_run_at_the_same_time_keep_their_traces_apart(
    make_agent: MakeAgent, start_service: StartService
) -> None:
    turns = 30
    with FakeOpenAI([Say("Hello, how are you?")]) as fake:
        service = await start_service(make_agent(fake))

        def parent(number: int) -> tuple[tuple[str, str], ...]:
            has_trace = number % 3 != 0
            return (("traceparent", f"00-{number:032x}-{SPAN}-01"),) if has_trace else ()

        await asyncio.gather(*(chat(service, f"turn {n}.", *parent(n)) for n in range(turns)))

    expected = {n: f"{n:032x}" if n % 3 != 0 else None for n in range(turns)}
    assert expected == {
        number_in(request.json): trace_sent(request.headers)[0]
        if "traceparent" in request.headers
        else None
        for request in fake.requests
    }


def number_in(request: Json) -> int:
    """Return which turn a provider was asked for, in either protocol."""
    return int(json.dumps(request).partition("turn ")[2].partition(".")[0])


async def test_a_call_without_a_trace_sends_none(
    make_agent: MakeAgent, start_service: StartService
) -> None:
    with FakeOpenAI([Say("Hello.")]) as fake:
        service = await start_service(make_agent(fake))
        await chat(service)
        await chat(service, "Hi", ("traceparent", f"00-{TRACE}"), ("tracestate", STATE))
        await chat(service, "Hi", ("tracestate", STATE))

    assert 3 == len(fake.requests)
    for request in fake.requests:
        assert not {"traceparent", "tracestate"} & request.headers.keys()


async def test_a_turn_that_is_run_again_has_the_trace_of_the_call_that_runs_it(
    start_service: StartService,
) -> None:
    with FakeOpenAI([Fail(500), Say("Hello.")]) as fake:
        agent = create_agent("openai-chat:any", openai_base_url=fake.base_url)
        service = await start_service(agent)
        first = chat(service, "Hi", ("traceparent", PARENT), request_id="r")
        assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(first)
        await chat(service, "Hi", ("traceparent", f"00-{7:032x}-{SPAN}-01"), request_id="r")

    assert [TRACE, f"{7:032x}"] == [trace_sent(r.headers)[0] for r in fake.requests]


async def test_tools_get_the_trace_and_each_request_a_span(start_service: StartService) -> None:
    seen: list[dict[str, Any]] = []
    with FakeOpenAI([Say("", [Call("look")]), Say("Done.")]) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = Agent(model, model_settings={"extra_headers": {"x-own": "kept"}})

        @agent.tool
        async def look(ctx: RunContext) -> str:
            seen.append(dict(ctx.metadata or {}))
            return "found"

        service = await start_service(PydanticAgent(agent, model))
        await chat(service, "Hi", ("traceparent", PARENT), ("tracestate", STATE))

    spans = [trace_sent(request.headers)[1] for request in fake.requests]
    assert 2 == len(set(spans))
    assert ["kept", "kept"] == [request.headers["x-own"] for request in fake.requests]
    assert TRACE == trace_sent(seen[0])[0]
    assert STATE == seen[0]["tracestate"]


async def test_other_providers_are_asked_under_the_trace_as_well(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI([Fail(400)]) as fake:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
        agent = create_agent("anthropic:claude-any")
        service = await start_service(agent)
        with pytest.raises(grpc.aio.AioRpcError):
            await chat(service, "Hi", ("traceparent", PARENT))
        await close_agent(agent)

    assert [TRACE] == [trace_sent(request.headers)[0] for request in fake.requests]


async def test_log_lines_of_a_call_name_its_trace(database_url: str) -> None:
    """Fails when the trace is read behind the layer that writes the line."""
    with ServerProcess(database_url) as server:
        await chat(server, "Hi", ("traceparent", PARENT))
        await chat(server)
        await chat(server, "Hi", ("traceparent", "mine"))
        missing = chat(server, "Hi", ("traceparent", PARENT), conversation_id=an_id())
        assert "NOT_FOUND" == (await refused(missing))[0]
        nobody = server.stub.Chat(pb.ChatRequest(message="Hi"), metadata=(("traceparent", PARENT),))
        assert "UNAUTHENTICATED" == (await refused(nobody))[0]
        server.stop()

    assert [TRACE, None, None, TRACE, TRACE] == [
        line.get("trace_id") for line in lines_of(server, "call")
    ]


@pytest.mark.slow
async def test_log_lines_of_an_agent_name_the_trace_of_its_call(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_failing_module.py").write_text(
        textwrap.dedent(
            """
            from pydantic_ai import Agent
            agent = Agent("openai-chat:any")

            @agent.tool_plain
            async def look() -> str:
                raise ValueError
            """
        )
    )
    with FakeOpenAI([Say("", [Call("look")]), Say("Done.")]) as fake:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("OPENAI_BASE_URL", fake.base_url)
        with ServerProcess(database_url, agent="python:users_failing_module:agent") as server:
            await chat(server, "Hi", ("traceparent", PARENT))
            server.stop()

    assert [TRACE] == [line.get("trace_id") for line in lines_of(server, "tool failed")]


@pytest.mark.parametrize("parent", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_trace_is_none(parent: str) -> None:
    assert Trace.read(parent, STATE) is None


def test_two_parents_are_none_and_two_states_are_one_list() -> None:
    parent = ("traceparent", PARENT)

    assert trace_of([parent, parent]) is None
    assert trace_of([("tracestate", STATE), ("authorization", "x")]) is None
    assert Trace(TRACE, True, "a=1,b=2") == trace_of(
        [("tracestate", "a=1"), parent, ("tracestate", "b=2")]
    )


def test_a_state_in_very_many_parts_is_not_put_together() -> None:
    """Fails when all parts are joined, one by one: a stranger's 20,000 hold up all others."""

    class Unread:
        def __str__(self) -> str:
            raise AssertionError("a part was looked at that cannot count any more")

    too_long = ("tracestate", "a=" + "1" * MAX_STATE_CHARACTERS)
    metadata: list[Any] = [("traceparent", PARENT), too_long, ("tracestate", Unread())]
    assert Trace(TRACE, True) == trace_of(metadata)


@given(state=st.text(max_size=MAX_STATE_CHARACTERS + 10))
def test_a_state_is_handed_on_if_it_is_printable_and_not_too_long(state: str) -> None:
    trace = Trace.read(PARENT, state)

    assert trace is not None
    is_fit = len(state) <= MAX_STATE_CHARACTERS and state.isascii() and state.isprintable()
    assert (state if is_fit else "") == trace.headers().get("tracestate", "")


@given(
    trace_id=st.integers(1, 2**128 - 1), span=st.integers(1, 2**64 - 1), flags=st.integers(0, 255)
)
def test_what_is_handed_on_is_the_same_trace_well_formed(
    trace_id: int, span: int, flags: int
) -> None:
    trace = Trace.read(f"00-{trace_id:032x}-{span:016x}-{flags:02x}", "")

    assert trace is not None
    assert trace == Trace.read(trace.headers()["traceparent"], "")
    assert trace_id == int(trace.id, 16)
    assert bool(flags & 1) == trace.is_sampled
