"""Responses and Messages as other servers than OpenAI's and Anthropic's send them.

Each row is the bytes of one response and what becomes of them: text, arguments of the calls that
ran, and finish reason; or the error that the turn ends with.
"""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic_ai import Agent

from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.errors import AgentError, AgentRefused, AgentUnavailable
from parley_server.core.model import FinishReason
from support.agent_runs import a_run, told_by
from support.fake_openai import FakeOpenAI
from support.openai_script import Forever, Step
from support.wire_provider import TOOLS, a_stream, event

STOP, LENGTH, FILTER = FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTENT_FILTER
A, B = '{"city":"A"}', '{"city":"B"}'
Outcome = tuple[str, list[str], FinishReason] | type[AgentError]
Rows = dict[str, tuple[str, Outcome]]
FILLER = "a" * 1_000_000
WRONG_TYPES: tuple[Any, ...] = (["x"], {}, 5, "\ud800", "x\n\ndata: {}", "ä")


def of(kind: str, **fields: Any) -> str:
    return event({"type": kind, **fields}, kind)


async def outcome_of(name: str, first: Step, then: str) -> Outcome:
    """Return what becomes of a response; the second one, behind tools, is `then`."""
    with FakeOpenAI([first, a_stream(then)]) as fake:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ANTHROPIC_API_KEY", "key")
            patch.setenv("ANTHROPIC_BASE_URL", fake.base_url)
            model = model_of(name, openai_base_url=fake.base_url)
        agent = PydanticAgent(Agent(model, tools=TOOLS, output_type=[str, type(None)]), model)
        try:
            told = await told_by(agent, a_run())
        except AgentError as error:
            return type(error)
        finally:
            await agent.close()
    assert told.finish is not None
    arguments = ["wrong" if call.is_error else call.arguments for call in told.calls]
    return told.text, arguments, told.finish.reason


# OpenAI's Responses

BEGUN = of("response.created", response={"id": "r"})
PART = {"type": "output_text", "text": "ab", "annotations": []}
MESSAGE = {"type": "message", "id": "m", "role": "assistant", "content": [PART]}
REASONING = {"type": "reasoning", "id": "rs", "summary": []}
PLACE = {"item_id": "m", "output_index": 0, "content_index": 0}
ADDED = of("response.output_item.added", output_index=0, item={**MESSAGE, "content": []})


def delta(text: object, kind: str = "output_text", **fields: Any) -> str:
    return of(f"response.{kind}.delta", delta=text, **{**PLACE, **fields})


def done(kind: str, **fields: Any) -> str:
    return of(f"response.{kind}.done", **{**PLACE, **fields})


def ended(kind: str = "completed", **response: Any) -> str:
    whole = {"id": "r", "model": "x", "status": kind, "output": [], "usage": None, **response}
    return of(f"response.{kind}", response=whole)


def a_call(**fields: Any) -> dict[str, Any]:
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "weather", "arguments": A}
    return {**call, **fields}


def call_added(index: int = 0, **fields: Any) -> str:
    item = a_call(**{"arguments": "", **fields})
    return of("response.output_item.added", output_index=index, item=item)


def call_done(index: int = 0, **fields: Any) -> str:
    return of("response.output_item.done", output_index=index, item=a_call(**fields))


def arguments(text: object, kind: str = "delta", item_id: str = "f", index: int = 0) -> str:
    key = "delta" if kind == "delta" else "arguments"
    place = {"item_id": item_id, "output_index": index}
    return of(f"response.function_call_arguments.{kind}", **place, **{key: text})


CALL = call_added() + arguments(A) + arguments(A, "done") + call_done()
FILTERED = ended("incomplete", incomplete_details={"reason": "content_filter"})
FINE = BEGUN + delta("fine") + ended()
SAID: Outcome = ("ab", [], STOP)
CALLED: Outcome = ("fine", [A], STOP)
REFUSED: Outcome = ("no", [], FILTER)

TEXTS: Rows = {
    "a character in two pieces": (
        delta("a\ud83d") + delta("\ude00b\ud800c") + ended(),
        ("a😀b\ufffdc", [], STOP),
    ),
    "what its library cannot read": (
        delta("ab") + of("response.reasoning_summary_text.delta", delta="t", item_id=["x"]),
        AgentUnavailable,
    ),
    "only output_text.done": (ADDED + done("output_text", text="ab") + ended(), SAID),
    "only content_part.done": (ADDED + done("content_part", part=PART) + ended(), SAID),
    "only output_item.done": (ADDED + done("output_item", item=MESSAGE) + ended(), SAID),
    "only in the last event": (ADDED + ended(output=[MESSAGE]), SAID),
    "every event tells all": (
        ADDED
        + delta("a")
        + delta("b")
        + done("output_text", text="ab")
        + done("content_part", part=PART)
        + done("output_item", item=MESSAGE)
        + ended(output=[MESSAGE]),
        SAID,
    ),
    "deltas of other indexes": (
        delta("ab", output_index=None, content_index=[])
        + done("output_text", text="ab", output_index=1)
        + ended(output=[REASONING, MESSAGE]),
        SAID,
    ),
    "the end is only in the last event": (delta("a") + ended(output=[MESSAGE]), SAID),
    "reasoning, and a message in the last event": (
        of("response.output_item.added", output_index=0, item=REASONING)
        + done("content_part", part={"type": "reasoning_text", "text": "hm"}, item_id="rs")
        + ended(output=[REASONING, MESSAGE]),
        SAID,
    ),
    "one part by deltas, one done": (
        delta("a") + done("output_text", text="b", content_index=1) + ended(),
        SAID,
    ),
    "a content of text": (ended(output=[{**MESSAGE, "content": "ab"}]), SAID),
    "a part of text": (ended(output=[{**MESSAGE, "content": ["ab"]}]), SAID),
    "an item without type": (ended(output=[{"content": [{"text": "ab"}]}]), SAID),
    "an item of null": (of("response.output_item.added", item=None) + delta("ab") + ended(), SAID),
    "refusal.done": (ADDED + done("refusal", refusal="no") + ended(), REFUSED),
    "refusal.done behind its deltas": (
        delta("no", "refusal") + done("refusal", refusal="no") + ended(),
        REFUSED,
    ),
    "a refusal in the last event": (
        ADDED + ended(output=[{**MESSAGE, "content": [{"type": "refusal", "refusal": "no"}]}]),
        REFUSED,
    ),
    "created without a response": (of("response.created") + delta("ab") + ended(), SAID),
    "details of text": (
        delta("ab") + ended("incomplete", incomplete_details="max_output_tokens"),
        ("ab", [], LENGTH),
    ),
    "incomplete without details": (delta("ab") + ended("incomplete"), ("ab", [], LENGTH)),
    "a reason in other words": (
        delta("ab") + ended("incomplete", incomplete_details={"reason": "MAX_TOKENS"}),
        ("ab", [], LENGTH),
    ),
    "completed, with status failed": (
        delta("half") + ended(status="failed", error={"code": "server_error"}),
        AgentUnavailable,
    ),
    "an error without its key": (
        delta("half") + event({"code": 500, "message": "boom"}) + ended(),
        AgentUnavailable,
    ),
    **{
        f"an event of type {kind!r}": (delta("ab") + event({"type": kind}) + ended(), SAID)
        for kind in WRONG_TYPES
    },
}

CALLS: Rows = {
    "a name with marks behind it": (
        call_done(name="weather<|channel|>commentary") + ended(),
        CALLED,
    ),
    "whole": (CALL + ended(output=[a_call()]), CALLED),
    "only deltas": (call_added() + arguments('{"city"') + arguments(':"A"}') + ended(), CALLED),
    "only arguments.done": (call_added() + arguments(A, "done") + ended(), CALLED),
    "only output_item.done": (call_done() + ended(output=[a_call()]), CALLED),
    "only the last event": (ended(output=[a_call()]), CALLED),
    "all in output_item.added": (call_added(arguments=A) + call_done() + ended(), CALLED),
    "no output_item.done": (call_added() + arguments(A) + ended(), CALLED),
    "text behind it": (
        CALL + delta("so", output_index=1) + ended(),
        ("sofine", [A], STOP),
    ),
    "two with equal ids in the last event": (
        ended(output=[a_call(), a_call(arguments=B)]),
        ("fine", [A, B], STOP),
    ),
    "two with one call id": (
        call_added(0, id="f1", arguments=A) + call_added(1, id="f2", arguments=B) + ended(),
        ("fine", [A, B], STOP),
    ),
    "two with one index": (
        call_added(id="f1")
        + call_added(id="f2")
        + arguments(A, item_id="f1")
        + arguments(B, item_id="f2")
        + ended(),
        ("fine", [A, B], STOP),
    ),
    "two with equal ids, one behind the other": (
        call_added() + call_done() + call_added() + call_done(arguments=B) + ended(),
        ("fine", [A, B], STOP),
    ),
    "added twice": (call_added() + call_added() + arguments(A) + ended(), CALLED),
    "done twice": (CALL + call_done() + ended(), CALLED),
    "ids that change": (
        call_added(id="f1") + arguments(A, item_id="f2") + call_done(id="f3") + ended(),
        CALLED,
    ),
    "no ids": (call_added(id=None, call_id=None) + arguments(A) + ended(), CALLED),
    "arguments as an object": (
        call_added() + call_done(arguments={"city": "A"}) + ended(),
        ("fine", ['{"city": "A"}'], STOP),
    ),
    "arguments of null": (
        ended(output=[a_call(name="now", arguments=None)]),
        ("fine", ["{}"], STOP),
    ),
    "half a character": (
        ended(output=[a_call(id="\ud800", call_id="\ud800", arguments='{"city":"\ud800"}')]),
        ("fine", ['{"city":"\ufffd"}'], STOP),
    ),
    "no name": (call_added(name=None) + call_done(name=None) + ended(), AgentUnavailable),
    "a blank name": (call_added(name=" ") + call_done(name=" ") + ended(), AgentUnavailable),
    "filtered": (CALL + FILTERED, ("", [], FILTER)),
    "filtered, with text behind it": (
        CALL + delta("no", output_index=1) + FILTERED,
        REFUSED,
    ),
    "refused": (delta("no", "refusal") + call_added(1) + call_done(1) + ended(), REFUSED),
    "refused in the last event": (
        CALL + ended(output=[{**MESSAGE, "content": [{"type": "refusal", "refusal": "no"}]}]),
        REFUSED,
    ),
}


@pytest.mark.parametrize("how", TEXTS)
async def test_a_response_tells_its_text_once(how: str) -> None:
    """Fails if the done events and the last one are taken for repetitions."""
    body, expected = TEXTS[how]

    assert expected == await outcome_of("openai:x", a_stream(body), FINE)


@pytest.mark.parametrize("how", CALLS)
async def test_a_response_runs_each_call_once_unless_it_is_filtered(how: str) -> None:
    """Fails if calls are passed on before the last event."""
    body, expected = CALLS[how]

    assert expected == await outcome_of("openai:x", a_stream(BEGUN + body), FINE)


# Anthropic's Messages


def begun(**message: Any) -> str:
    usage = {"input_tokens": 3, "output_tokens": 1}
    whole = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "x"}
    return of("message_start", message={**whole, "usage": usage, **message})


def a_block(block: object, *deltas: object, index: object = 0) -> str:
    start = of("content_block_start", index=index, content_block=block)
    pieces = [of("content_block_delta", index=index, delta=each) for each in deltas]
    return start + "".join(pieces) + of("content_block_stop", index=index)


def a_text(text: str, index: int = 0) -> str:
    return a_block({"type": "text", "text": ""}, {"type": "text_delta", "text": text}, index=index)


def a_tool(*pieces: object, index: int = 0, **fields: Any) -> str:
    block = {"type": "tool_use", "id": "t", "name": "weather", "input": {}, **fields}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return a_block(block, *deltas, index=index)


def stopped(reason: object = "end_turn") -> str:
    return of("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 4})


LAST = of("message_stop")
END = stopped() + LAST
USED = stopped("tool_use") + LAST
TEXT = a_text("ab")
WHOLE = {"type": "message", "role": "assistant", "id": "m", "model": "x", "content": [PART]}

MESSAGES: Rows = {
    "a name in its namespace": (a_tool(A, name="functions.weather") + USED, CALLED),
    "MAX_TOKENS": (TEXT + stopped("MAX_TOKENS") + LAST, ("ab", [], LENGTH)),
    "length": (TEXT + stopped("length") + LAST, ("ab", [], LENGTH)),
    "content_filter": (TEXT + stopped("content_filter") + LAST, ("ab", [], FILTER)),
    "a reason and then null": (
        TEXT + stopped("max_tokens") + stopped(None) + LAST,
        ("ab", [], LENGTH),
    ),
    "no reason at all": (TEXT + LAST, SAID),
    "a text without its block's start": (
        of("content_block_delta", index=7, delta={"type": "text_delta", "text": "ab"}) + END,
        SAID,
    ),
    "blocks of one index": (a_text("a") + a_text("b") + END, SAID),
    "a block of null": (a_block(None, {"type": "text_delta", "text": "ab"}) + END, SAID),
    "deltas of null": (
        a_block(
            {"type": "text", "text": None},
            None,
            {"type": "text_delta", "text": None},
            {"type": "citations_delta", "citation": None},
            {"type": "text_delta", "text": "ab"},
        )
        + END,
        SAID,
    ),
    "thinking of null": (
        a_block({"type": "thinking", "thinking": None, "signature": None}) + a_text("ab", 1) + END,
        SAID,
    ),
    "redacted thinking without data": (
        a_block({"type": "redacted_thinking"}) + a_text("ab", 1) + END,
        SAID,
    ),
    **{
        f"an event of type {kind!r}": (TEXT + event({"type": kind}) + END, SAID)
        for kind in WRONG_TYPES
    },
    "an error without its key": (
        TEXT + event({"code": 500, "message": "boom"}) + END,
        AgentUnavailable,
    ),
    "a tool": (a_tool('{"city"', ':"A"}') + USED, CALLED),
    "a tool with a text behind it": (
        a_text("so") + a_tool(A, index=1) + a_text("on", 2) + USED,
        ("soonfine", [A], STOP),
    ),
    "a tool's input in its start": (
        a_tool(input={"city": "A"}) + USED,
        ("fine", ['{"city": "A"}'], STOP),
    ),
    "a tool's input as text": (a_tool(input=A) + USED, CALLED),
    "a tool's input twice": (a_tool(A, input={"city": "A"}) + USED, CALLED),
    "a tool's input as an object": (
        a_tool(None, {"city": "A"}) + USED,
        ("fine", ['{"city": "A"}'], STOP),
    ),
    "a tool without input": (a_tool(name="now") + USED, ("fine", ["{}"], STOP)),
    "tools of one index and id": (a_tool(A) + a_tool(B) + USED, ("fine", [A, B], STOP)),
    "half a character": (
        a_tool('{"city":"\ud800"}', id="\ud800") + USED,
        ("fine", ['{"city":"\ufffd"}'], STOP),
    ),
    "a delta of a kind that is not known": (
        a_block({"type": "text", "text": ""}, {"type": "x"}, {"type": "text_delta", "text": "ab"})
        + END,
        SAID,
    ),
    "a character of a text in two pieces": (
        a_block(
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "a\ud83d"},
            {"type": "text_delta", "text": "\ude00b\ud800c"},
        )
        + END,
        ("a😀b\ufffdc", [], STOP),
    ),
    "a character in two pieces": (
        a_tool('{"city":"\ud83d', '\ude00"}') + USED,
        ("fine", ['{"city":"😀"}'], STOP),
    ),
    **{
        f"a tool's input with {number}": (
            a_tool(f'{{"city":{number}}}') + USED,
            ("fine", ["wrong"], STOP),
        )
        for number in ("NaN", "1e999")
    },
    "a tool without a name": (a_tool(A, name=None) + USED, AgentUnavailable),
    "a tool with a blank name": (a_tool(A, name=" ") + USED, AgentUnavailable),
    "a tool's input without its start": (
        of("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": A})
        + USED,
        AgentUnavailable,
    ),
    **{
        f"a tool, and {reason}": (a_tool(A) + stopped(reason) + LAST, ("", [], FILTER))
        for reason in ("refusal", "REFUSAL", "content_filter")
    },
    "a text and a tool, and refusal": (
        a_text("no") + a_tool(A, index=1) + stopped("refusal") + LAST,
        REFUSED,
    ),
}

WHOLE_MESSAGES: Rows = {
    "a content in the beginning": (begun(content=[PART]) + END, SAID),
    "a content of text in the beginning": (begun(content="ab") + END, SAID),
    "a reason in the beginning": (begun(stop_reason="length") + TEXT + LAST, ("ab", [], LENGTH)),
    "a refusal in the beginning": (
        begun(stop_reason="refusal") + a_tool(A) + LAST,
        ("", [], FILTER),
    ),
    "no stream": (json.dumps({**WHOLE, "stop_reason": "max_tokens"}), ("ab", [], LENGTH)),
    "no stream, but a tool": (
        json.dumps(
            {
                **WHOLE,
                "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": A}],
                "stop_reason": "tool_use",
            }
        ),
        CALLED,
    ),
    "no stream, but an error": (
        json.dumps({"type": "error", "error": {"type": "invalid_request_error"}}),
        AgentRefused,
    ),
}

CLAUDE = "anthropic:claude-sonnet-5"
FINE_MESSAGE = begun() + a_text("fine") + END


@pytest.mark.slow
@pytest.mark.parametrize("how", MESSAGES)
async def test_a_message_tells_its_blocks_and_its_reason(how: str) -> None:
    """Fails without the boundary's blocks: tools run though refused, and blocks are lost."""
    body, expected = MESSAGES[how]

    assert expected == await outcome_of(CLAUDE, a_stream(begun() + body), FINE_MESSAGE)


@pytest.mark.parametrize("how", WHOLE_MESSAGES)
async def test_a_message_in_its_beginning_is_read(how: str) -> None:
    """Fails if the beginning's content and reason are dropped."""
    body, expected = WHOLE_MESSAGES[how]

    assert expected == await outcome_of(CLAUDE, a_stream(body), FINE_MESSAGE)


@pytest.mark.parametrize(
    ("name", "body", "fine"),
    [
        (CLAUDE, begun() + a_tool(A) + stopped("tool_use") + LAST, FINE_MESSAGE),
        ("openai:gpt-5-mini", ended(output=[a_call()]), FINE),
    ],
    ids=["Messages", "Responses"],
)
async def test_an_id_of_an_earlier_response_becomes_another_one(
    name: str, body: str, fine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only the response's own ids count: some providers refuse an id told twice."""
    script = [a_stream(body), a_stream(body), a_stream(fine)]
    with FakeOpenAI(script) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.base_url)
        model = model_of(name, openai_base_url=fake.base_url)
        told = await told_by(PydanticAgent(Agent(model, tools=TOOLS), model), a_run())

        assert "fine" == told.text
        sent = fake.requests[-1].json
        blocks = [block for m in sent.get("messages", ()) for block in m["content"]]
        calls = [b["id"] for b in blocks if b["type"] == "tool_use"]
        calls += [i["call_id"] for i in sent.get("input", ()) if i.get("type") == "function_call"]
        assert 2 == len(calls) == len(set(calls))


def _many(events: Iterable[str]) -> bytes:
    return "".join(events).encode()


FLOODS: dict[str, tuple[str, str, bytes, Outcome]] = {
    "redacted thinking": (
        CLAUDE,
        begun(),
        _many(
            a_block({"type": "redacted_thinking", "data": FILLER}, index=index)
            for index in range(10)
        ),
        AgentUnavailable,
    ),
    "signatures": (
        CLAUDE,
        begun() + of("content_block_start", index=0, content_block={"type": "thinking"}),
        of(
            "content_block_delta",
            index=0,
            delta={"type": "signature_delta", "signature": FILLER},
        ).encode(),
        AgentUnavailable,
    ),
    "a tool's input": (
        CLAUDE,
        begun()
        + of(
            "content_block_start",
            index=0,
            content_block={"type": "tool_use", "id": "t", "name": "weather"},
        ),
        of(
            "content_block_delta",
            index=0,
            delta={"type": "input_json_delta", "partial_json": FILLER},
        ).encode(),
        ("", [], LENGTH),
    ),
    "text behind a tool": (CLAUDE, begun() + a_tool(A), a_text(FILLER).encode(), AgentUnavailable),
    "reasoning": (
        "openai:x",
        BEGUN,
        done("output_item", item={**REASONING, "encrypted_content": FILLER}).encode(),
        AgentUnavailable,
    ),
    "a call's arguments": ("openai:x", call_added(), arguments(FILLER).encode(), ("", [], LENGTH)),
    "text behind a call": ("openai:x", CALL, delta(FILLER).encode(), AgentUnavailable),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", FLOODS)
async def test_what_the_library_would_hold_is_bounded(how: str) -> None:
    """What the library holds of one response is bounded."""
    name, beginning, again, expected = FLOODS[how]

    assert expected == await outcome_of(name, Forever(beginning.encode(), again), FINE)
