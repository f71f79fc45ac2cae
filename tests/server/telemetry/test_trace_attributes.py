"""What spans say, held by a table; and that it is nothing of what is said."""

import json
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import (
    db_attributes,
    error_attributes,
    gen_ai_attributes,
    rpc_attributes,
)
from pydantic_ai import RunContext

from parley_server.telemetry.tracing.attributes import CONTENT, KNOWN, may_leave
from support.fake_openai import PROVIDER_TEXT, Call, Fail, FakeOpenAI, Say
from support.otlp_receiver import Received, Receiver
from support.pages import ROOT
from support.services import refused
from support.traced_workers import (
    CHAT,
    PARENT,
    Traced,
    a_model_agent,
    chat,
    until_calls,
)
from support.waiting import WEATHER

pytestmark = pytest.mark.usefixtures("receiver")

Example = str | int | float | list[str]

CALL, ATTEMPT, STATEMENT = CHAT, "attempt", "claim_new"
RUN, REQUEST, TOOL = "invoke_agent support", "chat any", "execute_tool look"

ATTRIBUTES: dict[str, dict[str, Example | type]] = {
    CALL: {
        "rpc.system.name": "grpc",
        "rpc.method": CHAT,
        "rpc.response.status_code": "OK",
        "gen_ai.conversation.id": str,
        "parley.call.id": str,
        "parley.turn.id": str,
    },
    STATEMENT: {"db.system.name": "postgresql", "db.query.summary": "claim_new"},
    ATTEMPT: {
        "gen_ai.conversation.id": str,
        "gen_ai.agent.name": "echo",
        "parley.turn.id": str,
        "parley.attempt": 1,
        "parley.outcome": "COMPLETED",
    },
    RUN: {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "support",
        "gen_ai.conversation.id": str,
        "gen_ai.aggregated_usage.input_tokens": 22,
        "gen_ai.aggregated_usage.output_tokens": 14,
        "gen_ai.aggregated_usage.cache_read.input_tokens": 6,
        "gen_ai.aggregated_usage.details.cache_read_tokens": 6,
    },
    REQUEST: {
        "gen_ai.operation.name": "chat",
        "gen_ai.agent.name": "support",
        "gen_ai.conversation.id": str,
        "gen_ai.provider.name": "openai",
        "server.address": "127.0.0.1",
        "server.port": int,
        "gen_ai.request.model": "any",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.response.model": "fake-1",
        "gen_ai.response.id": str,
        "gen_ai.response.finish_reasons": ["tool_call"],
        "gen_ai.client.operation.time_to_first_chunk": float,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.details.cache_read_tokens": 3,
    },
    TOOL: {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.agent.name": "support",
        "gen_ai.conversation.id": str,
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": str,
    },
}
"""By span: each attribute with its value, or its type where the value differs from run to run."""

KINDS = {
    CALL: "SERVER",
    STATEMENT: "CLIENT",
    ATTEMPT: "INTERNAL",
    RUN: "INTERNAL",
    REQUEST: "CLIENT",
    TOOL: "INTERNAL",
}
OF_NO_CONVENTION = (
    "parley.",
    "gen_ai.aggregated_usage.",
    "gen_ai.usage.details.",
    "gen_ai.client.operation.time_to_first_chunk",
    "server.",
)
"""Parley's own, pydantic-ai's own, and those of the general conventions."""


async def test_each_span_has_the_attributes_of_the_table_and_no_others(
    start_traced: Traced, receiver: Receiver
) -> None:
    """Fails when a library's release adds, renames or drops one."""
    with FakeOpenAI([Say("", [Call("look")]), Say("Done.")]) as fake:
        settings = {"temperature": 0.5, "max_tokens": 100}
        agent, ours = a_model_agent(fake, model_settings=settings)

        @agent.tool_plain  # type: ignore[untyped-decorator] # for any user's agent
        async def look() -> str:
            return "found"

        service = await start_traced(ours)
        await chat(service, "Hi", PARENT)
        spans = await until_calls(receiver)

    first: dict[str, Received] = {}
    for span in spans:
        first.setdefault(span.name, span)
    for name, attributes in ATTRIBUTES.items():
        found = first[name]
        assert KINDS[name] == found.kind
        assert set(attributes) == set(found.attributes), name
        for key, expected in attributes.items():
            value = found.attributes[key]
            if isinstance(expected, type):
                assert expected is type(value), key
            else:
                assert (type(expected), expected) == (type(value), value), key


def test_names_are_those_of_the_conventions() -> None:
    conventions = {
        value
        for module in (db_attributes, error_attributes, gen_ai_attributes, rpc_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    used = {name for attributes in ATTRIBUTES.values() for name in attributes}
    assert set() == {n for n in used - conventions if not n.startswith(OF_NO_CONVENTION)}


def test_every_attribute_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "tracing.md").read_text()
    assert [] == sorted(name for name in KNOWN | CONTENT if f"`{name}`" not in text)


def test_what_is_not_named_does_not_leave() -> None:
    assert not may_leave("gen_ai.input.messages", has_content=False)
    assert may_leave("gen_ai.input.messages", has_content=True)
    assert not may_leave("metadata", has_content=True)
    assert not may_leave("db.query.text", has_content=True)


SAID = {
    "message": "WORD-message",
    "server instructions": "WORD-server-instructions",
    "conversation instructions": "WORD-conversation-instructions",
    "arguments": "WORD-arguments",
    "result": "WORD-result",
    "answer": "WORD-answer",
    "tool description": "WORD-description",
}
"""What is said: in spans only if the setting says so."""
NEVER = {
    "title": "WORD-title",
    "label": "WORD-label",
    "user": "WORD-user",
    "metadata": "WORD-metadata",
    "token": "Bearer ",
}
"""What is in no span, whatever is set."""
FAILED = {
    "tool error": "WORD-tool-error",
    "provider error": PROVIDER_TEXT,
    "wrong arguments": "WORD-wrong",
    "invented tool": "WORD_tool",
    "cut answer": "WORD-cut",
    "caller's arguments": "WORD-callers-arguments",
}
"""What comes up where something fails or waits."""


async def say_all(service: Any) -> None:
    """Say each marked word where it belongs, with failures of all kinds."""
    user = NEVER["user"]
    made = await service.create(
        user=user,
        title=NEVER["title"],
        labels={"about": NEVER["label"]},
        instructions=SAID["conversation instructions"],
    )
    known = made.conversation.conversation_id
    await service.chat(SAID["message"], user=user, conversation_id=known)
    await service.chat(SAID["message"], user=user, conversation_id=known)
    waits = await service.chat(SAID["message"], user=user, tools=[WEATHER])
    assert waits.pending_calls
    failed = service.chat(SAID["message"], user=user)
    assert "UNAVAILABLE" == (await refused(failed))[0]
    bad = service.chat(SAID["message"], user=user, conversation_id="WORD-id")
    assert "INVALID_ARGUMENT" == (await refused(bad))[0]


@pytest.fixture
def saying() -> Any:
    return FakeOpenAI(
        [
            Say("", [Call("look", json.dumps({"what": SAID["arguments"]}))]),
            Say(SAID["answer"]),
            Say(
                "",
                [
                    Call("fail", "{}"),
                    Call("look", json.dumps({"what": 1, "more": FAILED["wrong arguments"]})),
                    Call(FAILED["invented tool"], "{}"),
                ],
            ),
            Say(SAID["answer"]),
            Say("", [Call(WEATHER.name, json.dumps({"city": FAILED["caller's arguments"]}))]),
            Fail(500),
        ]
    )


async def received(saying: Any, start_traced: Traced, receiver: Receiver, **changes: Any) -> bytes:
    """Return all that the collector got while all of it was said."""
    with saying as fake:
        agent, ours = a_model_agent(
            fake, description="WORD-description", metadata={"x": NEVER["metadata"]}
        )

        @agent.tool(  # type: ignore[untyped-decorator] # for any user's agent
            description=SAID["tool description"]
        )
        async def look(ctx: RunContext, what: str) -> str:
            return SAID["result"]

        @agent.tool_plain  # type: ignore[untyped-decorator] # for any user's agent
        async def fail() -> str:
            raise ValueError(FAILED["tool error"])

        service = await start_traced(
            ours,
            instructions=SAID["server instructions"],
            **changes,
        )
        await say_all(service)
        await until_calls(receiver, 6)
        # What is said is really on its way: else nothing would be proven.
        asked = json.dumps([request.json for request in fake.requests])
        for word in (*SAID.values(), "WORD-message"):
            assert word in asked
    return b"".join(receiver.requests)


async def test_nothing_that_is_said_is_in_what_a_collector_gets(
    saying: Any, start_traced: Traced, receiver: Receiver
) -> None:
    """Fails without the sieve: a run's metadata, which the library records, has the user's name."""
    data = await received(saying, start_traced, receiver)

    assert b"execute_tool look" in data
    words = {**SAID, **NEVER, **FAILED}
    assert [] == [what for what, word in words.items() if word.encode() in data]
    assert b"WORD" not in data


async def test_content_is_there_if_the_setting_says_so(
    saying: Any, start_traced: Traced, receiver: Receiver
) -> None:
    data = await received(saying, start_traced, receiver, traces_content=True)

    assert [] == [what for what, word in SAID.items() if word.encode() not in data]
    assert [] == [what for what, word in NEVER.items() if word.encode() in data]
