"""Conversations with appended messages go on, by the strictest of providers."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai import Agent

from parley.v1 import conversation_pb2
from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from support.fake_openai import Fail, FakeOpenAI, Say
from support.messages import assistant, system, tool_call, user
from support.openai_script import Json
from support.services import StartService, an_id
from support.strict_providers import (
    STRICTEST,
    anthropic_answer,
    anthropic_refuses,
    strictly,
)

CUT = conversation_pb2.FINISH_REASON_LENGTH
APPENDED = {
    "a system message alone": [system("It is noon.")],
    "two of a user": [user("One"), user("Two")],
    "one of a user": [user("One")],
    "an answer first": [assistant("Welcome.")],
    "an answer first, then a system message": [assistant("Welcome."), system("Noon.")],
    "a system message, then an answer": [system("Noon."), assistant("Welcome.")],
    "a system message between two of a user": [user("One"), system("Noon."), user("Two")],
    "a system message between two answers": [
        user("One"),
        assistant("1"),
        system("Noon."),
        assistant("2"),
    ],
    "two answers": [user("One"), assistant("1"), assistant("2")],
    "a blank answer": [user("One"), assistant("", finish_reason=CUT)],
    "a blank answer alone": [assistant(" ", finish_reason=CUT)],
    "calls alone": [user("One"), assistant("", tool_calls=[tool_call("c")])],
    "the same call twice": [
        user("One"),
        assistant("1", tool_calls=[tool_call("c")]),
        user("Two"),
        assistant("2", tool_calls=[tool_call("c"), tool_call("d", step=2)]),
    ],
    "calls first, of a strange form": [
        assistant("1", tool_calls=[tool_call("c!", name="a b", arguments="no JSON")])
    ],
    "a call with a number that no float holds": [
        user("One"),
        assistant("1", tool_calls=[tool_call("c", arguments='{"x":1e999}')]),
    ],
    "a question without its answer": [user("Lost", turn_id=an_id())],
}


def ok(refuses: Callable[[Json], bool]) -> Callable[[Json], Any]:
    def answer(request: Json) -> Any:
        return Fail(400) if refuses(request) else anthropic_answer({"type": "text", "text": "OK"})

    return answer


@pytest.mark.slow
@pytest.mark.parametrize("appended", APPENDED.values(), ids=APPENDED.keys())
async def test_conversation_goes_on_after_what_was_appended(
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    appended: list[conversation_pb2.Message],
) -> None:
    """Promise 10, at the first request: fails when a window has to be told more plainly.

    Fails when neighbours are not joined, or when an answer is the first that is told.
    """
    conversation_id = an_id()
    with (
        FakeOpenAI([strictly(Say("OK"), *STRICTEST)]) as one,
        FakeOpenAI([ok(anthropic_refuses)]) as other,
    ):
        service = await start_service(an_agent("openai-chat:any", one.base_url))
        await service.append(conversation_id, *appended, allow_missing=True)
        await service.chat("Now", conversation_id=conversation_id)
        await service.append(conversation_id, *appended)
        await service.chat("And now", conversation_id=conversation_id)
        assert 2 == len(one.requests)

        monkeypatch.setenv("ANTHROPIC_BASE_URL", other.base_url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        service = await start_service(an_agent("anthropic:claude-sonnet-5"))
        answer = await service.chat("At last", conversation_id=conversation_id)
        assert ("OK", 1) == (answer.response, len(other.requests))

    told = str([m["content"] for m in one.requests[1].json["messages"]])
    for message in appended:
        assert (message.content.strip() in told) != (message.content == "Lost"), told


def an_agent(kind: str, base_url: str | None = None, **options: Any) -> PydanticAgent:
    model = model_of(kind, openai_base_url=base_url)
    return PydanticAgent(Agent(model, output_type=[str, type(None)], **options), model)


async def test_an_agents_own_system_prompt_comes_before_appended_ones(
    start_service: StartService,
) -> None:
    """Fails when the library takes the conversation's system messages for the agent's."""
    conversation_id = an_id()
    with FakeOpenAI([strictly(Say("OK"), *STRICTEST)] * 2) as fake:
        agent = an_agent("openai-chat:any", fake.base_url, system_prompt="You are Bob.")
        service = await start_service(agent)
        await service.append(conversation_id, system("It is noon."), allow_missing=True)
        await service.chat("Hi", conversation_id=conversation_id)
        await service.append(conversation_id, system("It is one."))
        await service.chat("Again", conversation_id=conversation_id)

    messages = fake.requests[1].json["messages"]
    assert ["You are Bob.\n\nIt is noon.", "Hi", "OK", "It is one.", "Again"] == [
        message["content"] for message in messages
    ]


async def test_calls_of_appended_answers_are_told_with_their_results(
    start_service: StartService,
) -> None:
    conversation_id = an_id()
    calls = [tool_call("c1", result="noon"), tool_call("c2", step=2, result="gone", is_error=True)]
    with FakeOpenAI([strictly(Say("OK"), *STRICTEST)]) as fake:
        service = await start_service(an_agent("openai-chat:any", fake.base_url))
        said = [user("What time is it?"), assistant("Noon.", tool_calls=calls)]
        await service.append(conversation_id, *said, allow_missing=True)
        await service.chat("Thanks", conversation_id=conversation_id)

    messages = fake.requests[0].json["messages"]
    assert ["user", "assistant", "tool", "assistant", "tool", "assistant", "user"] == [
        message["role"] for message in messages
    ]
    assert "noon" == messages[2]["content"]
    assert "gone" in messages[4]["content"]
