"""What a provider wants back of its answers: kept with them, and sent to it alone."""

import json
import re
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)

from parley_server.agents.model_strings import model_of
from parley_server.agents.opaque_state import Provider, restored, state_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.attempts.transcript import MAX_OPAQUE_BYTES, Transcript
from parley_server.core.model import OpaqueState, Text
from support.agent_runs import a_call, a_run, an_answer, told_by
from support.fake_openai import Call, FakeOpenAI, Say
from support.services import StartService
from support.strict_providers import (
    STRICTEST,
    must_alternate,
    refuses_thoughts,
    strictly,
    wants_thoughts,
)

THOUGHTS = "SECRET-THOUGHTS of the model"
HERE = Provider("openai", "http://here/v1")


def weather(city: str) -> str:
    return f"sunny in {city}"


def an_agent(base_url: str, kind: str = "openai-chat:any") -> PydanticAgent:
    model = model_of(kind, openai_base_url=base_url)
    return PydanticAgent(Agent(model, tools=[weather]), model)


def a_thinking_turn(*rules: Any) -> list[Any]:
    """A turn with a tool, and answers to four more that only talk."""
    asking = Say("", [Call("weather", '{"city":"Rome"}')], thoughts=THOUGHTS)
    return [strictly(step, *rules) for step in (asking, *[Say("Fine.")] * 5)]


@pytest.fixture
async def stored_state(database_url: str) -> Any:
    def read() -> list[bytes | None]:
        with psycopg.connect(database_url) as connection:
            found = connection.execute(
                "SELECT opaque_state FROM message WHERE role = 'ASSISTANT' ORDER BY sequence"
            )
            return [row[0] for row in found]

    return read


@pytest.mark.slow
async def test_thoughts_go_back_to_a_server_that_insists_on_them_over_several_turns(
    start_service: StartService, stored_state: Any
) -> None:
    """Promise 10. Fails when thoughts are not kept with the answer: turn 2 is AGENT_REFUSED."""
    with FakeOpenAI(a_thinking_turn(wants_thoughts, *STRICTEST)) as fake:
        service = await start_service(an_agent(fake.base_url))
        first = await service.chat("Weather in Rome?")
        again = [
            await service.chat("And now?", conversation_id=first.conversation_id) for _ in range(4)
        ]

        assert ["Fine."] * 5 == [answer.response for answer in (first, *again)]
        assert 6 == len(fake.requests), "no request is refused and sent again"
        told = [m for m in fake.requests[-1].json["messages"] if m.get("tool_calls")]
        assert [THOUGHTS] == [message["reasoning_content"] for message in told]
    states = stored_state()
    assert THOUGHTS.encode() in states[0]
    assert [None] * 4 == states[1:], "an answer without thoughts has no state"


@pytest.mark.parametrize("kind", ["openai-chat:any", "openai:gpt-5-mini"])
async def test_state_is_shown_by_no_rpc_and_by_no_log(
    start_service: StartService, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with FakeOpenAI([Say("", [Call("weather", '{"city":"A"}')], thoughts=THOUGHTS), Say("B")]) as f:
        service = await start_service(an_agent(f.base_url, kind))
        events = [event async for event in service.stream("Go", request_id="r")]
        conversation_id = events[-1].completed.conversation_id
        replay = await service.chat("Go", request_id="r")
        shown = [
            *events,
            replay,
            await service.history(conversation_id),
            await service.turn(request_id="r"),
            await service.conversations(),
        ]
        watch = service.watch(conversation_id)
        shown += [await watch.read() for _ in range(3)]
        watch.cancel()

    assert not [message for message in shown if THOUGHTS in str(message)]
    assert THOUGHTS not in "".join(capfd.readouterr())


async def test_reasoning_items_go_back_with_the_calls_they_led_to(
    start_service: StartService,
) -> None:
    """OpenAI's Responses. Fails when calls go back without the reasoning that was issued before."""
    script = [Say("", [Call("weather", '{"city":"A"}', "c1")], thoughts=THOUGHTS), Say("B")]
    with FakeOpenAI(script) as fake:
        service = await start_service(an_agent(fake.base_url, "openai:gpt-5-mini"))
        first = await service.chat("Go")
        await service.chat("And?", conversation_id=first.conversation_id)

        within, later = (request.json["input"] for request in fake.requests[1:])
        assert within == later[: len(within)], "the next turn tells it as the turn itself did"
        kinds = [item.get("type", item.get("role")) for item in later]
        assert ["reasoning", "function_call", "function_call_output"] == kinds[1:4]


async def test_state_goes_to_no_other_provider(start_service: StartService) -> None:
    """Fails when the address is not compared: the same protocol is spoken by many."""
    with FakeOpenAI(a_thinking_turn()) as here, FakeOpenAI([Say("Hello.")]) as there:
        service = await start_service(an_agent(here.base_url))
        first = await service.chat("Weather in Rome?")
        other = await start_service(an_agent(there.base_url))
        await other.chat("And now?", conversation_id=first.conversation_id)

        assert THOUGHTS not in json.dumps(there.requests[0].json)
        assert "sunny in Rome" in json.dumps(there.requests[0].json)


@pytest.mark.parametrize(
    ("rule", "requests"), [(refuses_thoughts, 3), (lambda m: any("tool_calls" in x for x in m), 4)]
)
async def test_a_window_that_is_refused_is_told_more_plainly(
    start_service: StartService, rule: Any, requests: int
) -> None:
    """Promise 10. Fails when a refusal of what is stored ends the conversation.

    A server that takes its own thoughts, or calls, back in no later turn.
    """
    script = a_thinking_turn()
    with FakeOpenAI([*script[:2], strictly(Say("Hello."), rule)]) as fake:
        service = await start_service(an_agent(fake.base_url))
        first = await service.chat("Weather in Rome?")
        second = await service.chat("And now?", conversation_id=first.conversation_id)

        assert "Hello." == second.response
        assert 2 + requests - 1 == len(fake.requests)
        assert "sunny in Rome" in json.dumps(fake.requests[-1].json)
        assert not must_alternate(fake.requests[-1].json["messages"])


async def test_tools_of_a_cancelled_turn_go_back_with_their_thoughts(
    start_service: StartService,
) -> None:
    """Fails when the state is told only at a run's end: this run has none."""
    stalled = Say("", [Call("weather", '{"city":"B"}')], thoughts=THOUGHTS, stall_after=3)
    script = [*a_thinking_turn(wants_thoughts)[:1], stalled]
    with FakeOpenAI([*script, strictly(Say("Hello."), wants_thoughts, *STRICTEST)]) as fake:
        service = await start_service(an_agent(fake.base_url))
        stream = service.stream("Weather in Rome?", request_id="r")
        async for event in stream:
            if event.HasField("tool_call"):
                break
        await service.cancel(request_id="r")
        cancelled = [event async for event in stream][-1].completed
        second = await service.chat("And?", conversation_id=cancelled.conversation_id)

        assert "Hello." == second.response
        assert 3 == len(fake.requests)


async def test_thoughts_within_tags_are_not_sent_back() -> None:
    responses = [
        ModelResponse(
            parts=[ThinkingPart("hm", id="content", provider_name="openai"), TextPart("Hello")],
            provider_name="openai",
        )
    ]

    assert state_of(responses) is None


def test_too_large_a_state_is_left_out_and_the_answer_stays() -> None:
    transcript = Transcript("m")
    transcript.add(Text("Hello"))
    transcript.add(OpaqueState(b"x" * (MAX_OPAQUE_BYTES + 1)))

    assert ("Hello", None) == (transcript.answer().text, transcript.answer().opaque_state)


def test_a_state_does_not_show_in_what_is_printed() -> None:
    transcript = Transcript("m")
    transcript.add(OpaqueState(THOUGHTS.encode()))

    printed = repr([transcript, transcript.answer(), OpaqueState(THOUGHTS.encode())])
    assert "SECRET" not in printed


parts = st.lists(
    st.one_of(
        st.text(max_size=12).map(TextPart),
        st.text(max_size=12).map(
            lambda text: ThinkingPart(text, id="reasoning_content", provider_name="openai")
        ),
        st.just(None),
    ),
    min_size=1,
    max_size=4,
)


@given(st.lists(parts, min_size=1, max_size=4), st.integers(0, 60), st.integers(0, 20))
def test_whatever_was_said_comes_back_whole_and_once(
    said: list[list[Any]], cut_text: int, cut_calls: int
) -> None:
    """Also of a run that was cut short: what its message lacks, its state may know."""
    responses: list[Any] = []
    calls: list[Any] = []
    for step, of in enumerate(said, start=1):
        made: list[Any] = []
        for part in of:
            if part is None:
                calls.append(a_call(f"c{len(calls)}", step=step))
                part = ToolCallPart("look", '{"x":1}', tool_call_id=calls[-1].id, id="fc")
            made.append(part)
        responses.append(ModelResponse(parts=made, provider_name=HERE.name, provider_url=HERE.url))
    state = state_of(responses)
    text = "".join(p.content for r in responses for p in r.parts if isinstance(p, TextPart))
    kept = calls[:cut_calls]
    answer = an_answer(text[:cut_text] or "-", *kept)._replace(opaque_state=state)

    found = restored(answer, kept, HERE)

    if state is None:
        assert found is None
        return
    assert found is not None
    assert kept == [call for _, asked in found for call in asked]
    words = "".join(
        p.content for response, _ in found for p in response.parts if isinstance(p, TextPart)
    )
    assert _bare(words).startswith(_bare(answer.content))
    assert restored(answer, kept, Provider("openai", "http://there/v1")) is None


def _bare(text: str) -> str:
    return re.sub(r"\s|\(notext\)", "", re.sub(r"\s", "", text))


@pytest.mark.parametrize("state", [b"", b"{", b"{}", b'{"version":1}', b"\xff", b'{"version":9}'])
def test_a_state_that_cannot_be_read_is_left_out(state: bytes) -> None:
    answer = an_answer("Hello", a_call())._replace(opaque_state=state)

    assert restored(answer, answer.tool_calls, HERE) is None


async def test_an_agent_without_thoughts_tells_no_state() -> None:
    with FakeOpenAI([Say("", [Call("weather", '{"city":"A"}')]), Say("Done.")]) as fake:
        told = await told_by(an_agent(fake.base_url), a_run())

    assert [] == told.states
