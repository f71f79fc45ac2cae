"""How a window looks to a provider: read off the wire, and from the builder itself."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelRequest,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from parley_server.agents.catalog import create_agent
from parley_server.agents.history import Form, conversation_of, plainer, shorter
from parley_server.agents.model_strings import model_of
from parley_server.agents.opaque_state import Provider
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.attempts.window import window_of
from parley_server.core.model import Role, ToolCall, WindowMessage
from support.agent_runs import a_call, a_run, a_user_message, an_answer, told_by
from support.fake_openai import FakeOpenAI, Say

PROVIDER = Provider("openai", "")


async def wire_of(earlier: list[WindowMessage], instructions: str = "") -> list[dict[str, Any]]:
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent = create_agent("openai-chat:any", openai_base_url=fake.base_url)
        await told_by(agent, a_run("Now", earlier=earlier, instructions=instructions))
        messages: list[dict[str, Any]] = fake.requests[0].json["messages"]
        return messages


async def test_instructions_come_first_and_the_newest_message_last() -> None:
    earlier = [a_user_message("One"), an_answer("Two")]

    assert [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Now"},
    ] == await wire_of(earlier, instructions="Be kind.")


async def test_without_instructions_there_is_no_system_message() -> None:
    assert [{"role": "user", "content": "Now"}] == await wire_of([])


async def test_tool_calls_come_back_step_by_step_before_the_text() -> None:
    answer = an_answer(
        "Found both.",
        a_call("c1", step=1),
        a_call("c2", step=1, result="lost", is_error=True),
        a_call("c3", step=2, arguments='{"x": 2}'),
    )

    wire = await wire_of([a_user_message("Look"), answer])

    assert ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "user"] == [
        message["role"] for message in wire
    ]
    first, second = wire[1]["tool_calls"]
    assert ("c1", "look", {"x": 1}) == (
        first["id"],
        first["function"]["name"],
        json.loads(first["function"]["arguments"]),
    )
    assert "c2" == second["id"]
    assert ("c1", "found") == (wire[2]["tool_call_id"], wire[2]["content"])
    assert ("c2", True) == (wire[3]["tool_call_id"], "lost" in wire[3]["content"])
    assert ["c3"] == [call["id"] for call in wire[4]["tool_calls"]]
    assert "Found both." == wire[6]["content"]


@pytest.mark.parametrize(
    "arguments",
    [
        "no json",
        '{"x":',
        "[1]",
        '"text"',
        "null",
        '{"x": NaN}',
        '{"x": [1e999]}',
        "[" * 30_000,
        '{"x":"\\ud800"}',
    ],
    ids=["words", "cut", "list", "string", "null", "nan", "huge", "deep", "surrogate"],
)
async def test_stored_arguments_that_are_no_object_are_sent_as_one(arguments: str) -> None:
    wire = await wire_of([a_user_message("Look"), an_answer("Done", a_call(arguments=arguments))])

    sent = json.loads(wire[1]["tool_calls"][0]["function"]["arguments"])
    assert {"arguments": arguments} == sent


@pytest.mark.parametrize("arguments", ["", " ", "\n"])
async def test_a_call_without_arguments_is_sent_with_an_empty_object(arguments: str) -> None:
    wire = await wire_of([a_user_message("Look"), an_answer("Done", a_call(arguments=arguments))])

    assert "{}" == wire[1]["tool_calls"][0]["function"]["arguments"]


async def test_stored_names_and_ids_are_made_to_fit_every_provider() -> None:
    calls = (
        a_call("same"),
        a_call("same", step=2),
        a_call("", step=3, name="functions.look up!"),
        a_call("x" * 41, step=4, name="n" * 100),
        a_call("ä", step=5, name=""),
    )

    wire = await wire_of([a_user_message("Look"), an_answer("Done", *calls)])

    sent = [message["tool_calls"][0] for message in wire if message.get("tool_calls")]
    ids = [call["id"] for call in sent]
    assert "same" == ids[0]
    assert all(re.fullmatch("[a-z0-9]{9}", each) for each in ids[1:]), "Mistral takes no others"
    assert 5 == len(set(ids))
    assert ["look", "look", "functions_look_up_", "n" * 64, "_"] == [
        call["function"]["name"] for call in sent
    ]


@pytest.mark.parametrize("own", [{"instructions": "Own."}, {"system_prompt": "Own."}])
async def test_an_agents_own_instructions_and_the_conversations_are_one_message(
    own: dict[str, Any],
) -> None:
    """Fails when each is one: many models' templates refuse a second one, and so every turn."""
    with FakeOpenAI([Say("Fine.")]) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, **own), model)
        await told_by(agent, a_run("Now", instructions="Be kind."))
        first = fake.requests[0].json["messages"][0]

    assert {"role": "system", "content": "Own.\n\nBe kind."} == first


async def test_system_messages_stay_where_they_are() -> None:
    earlier = [
        a_user_message("One"),
        an_answer("Two"),
        WindowMessage(3, Role.SYSTEM, "It is noon."),
    ]

    assert {"role": "system", "content": "It is noon."} in await wire_of(earlier)


texts = st.text(max_size=20)
tool_calls = st.builds(
    ToolCall, texts, texts, texts, texts, st.booleans(), st.integers(min_value=1, max_value=3)
)
windows = st.lists(
    st.tuples(st.sampled_from(Role), texts, st.lists(tool_calls, max_size=3), st.booleans()),
    max_size=8,
).map(
    lambda rows: [
        WindowMessage(
            number,
            role,
            content,
            tuple(sorted(calls, key=lambda c: c.step)) if role is Role.ASSISTANT else (),
            has_turn=has_turn,
        )
        for number, (role, content, calls, has_turn) in enumerate(rows, start=1)
    ]
)


@given(windows, st.sampled_from(Form))
def test_any_window_becomes_a_conversation_that_providers_take(
    stored: list[WindowMessage], form: Form
) -> None:
    """Every call has its result in the very next request, ids are unique, requests alternate."""
    window = window_of(stored[::-1], 99, "Now", 10_000)
    prompt, history = conversation_of(window.messages, form, PROVIDER)

    assert prompt.endswith("Now")
    seen: set[str] = set()
    if history and isinstance(history[-1], ModelRequest):
        assert {SystemPromptPart} == set(map(type, history.pop().parts))  # joined by the library
    for said, following in pairwise([*history, ModelRequest(parts=[UserPromptPart(prompt)])]):
        assert type(said) is not type(following)
        if isinstance(said, ModelRequest):
            users = sum(isinstance(part, UserPromptPart) for part in said.parts)
            has_results = any(isinstance(part, ToolReturnPart) for part in said.parts)
            assert users <= 1
            assert users or has_results
            continue
        asked = [part.tool_call_id for part in said.parts if isinstance(part, ToolCallPart)]
        assert not seen & set(asked)
        seen.update(asked)
        assert all(part.content.strip() for part in said.parts if isinstance(part, TextPart))
        results = following.parts if isinstance(following, ModelRequest) else []
        returned = [part.tool_call_id for part in results if isinstance(part, ToolReturnPart)]
        assert asked == returned


def test_system_messages_are_told_in_words_where_they_are_refused() -> None:
    """Some models' templates take none but the first."""
    earlier = [a_user_message("One"), an_answer("Two"), WindowMessage(3, Role.SYSTEM, "Noon.")]
    window = [*earlier, a_user_message("Now", sequence=4)]

    assert Form.WORDS is plainer(window, Form.STATES)
    prompt, history = conversation_of(window, Form.WORDS, PROVIDER)
    assert "[System: Noon.]\n\nNow" == prompt
    assert 2 == len(history)


@given(windows)
def test_a_window_gets_shorter_until_it_cannot(window: list[WindowMessage]) -> None:
    messages: list[WindowMessage] | None = [*window, a_user_message("Now " * 500, sequence=99)]
    while messages is not None:
        assert 99 == messages[-1].sequence
        before = len(messages), len(messages[-1].content)
        messages = shorter(messages)
        if messages is not None:
            assert Role.USER is messages[0].role
            assert (len(messages), len(messages[-1].content)) < before
