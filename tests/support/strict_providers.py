"""Providers that refuse what the strictest of them refuse: a rule for each complaint.

    FakeOpenAI([strictly(Say("Hi"), wants_thoughts, must_alternate)])

A rule takes a request's messages and returns whether they are refused.
"""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from support.openai_script import Fail, Json, Raw, Step

Rule = Callable[[list[Json]], bool]


def strictly(step: Step, *rules: Rule) -> Callable[[Json], Step]:
    """Take a step of the script, unless a rule refuses the request: then answer 400."""

    def answer(request: Json) -> Step:
        messages = request["messages"]
        if any(rule(messages) for rule in rules):
            return Fail(400, type="invalid_request_error")
        return step

    return answer


def wants_thoughts(messages: list[Json]) -> bool:
    """A thinking model that needs its thoughts back wherever it used a tool."""
    return any(m.get("tool_calls") and not m.get("reasoning_content") for m in messages)


def refuses_thoughts(messages: list[Json]) -> bool:
    """A server that knows no such field."""
    return any("reasoning_content" in m for m in messages)


def refuses_all_thoughts(messages: list[Json]) -> bool:
    """Groq, Cerebras: they tell their thoughts, and refuse to be told of them."""
    return refuses_thoughts(messages) or any("reasoning" in m for m in messages)


def wants_short_ids(messages: list[Json]) -> bool:
    """Mistral, and servers with its templates, whatever ids they give themselves."""
    calls = [call["id"] for m in messages for call in m.get("tool_calls") or []]
    results = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    return not all(re.fullmatch("[a-zA-Z0-9]{9}", each) for each in [*calls, *results])


def refuses_blanks(messages: list[Json]) -> bool:
    return any(
        m["role"] == "assistant" and not m.get("tool_calls") and not (m["content"] or "").strip()
        for m in messages
    )


def must_alternate(messages: list[Json]) -> bool:
    """A chat template: user and assistant in turn; results behind their calls; user comes last."""
    order = [m["role"] for m in messages if m["role"] not in ("system", "developer")]
    allowed = {
        ("user", "assistant"),
        ("assistant", "user"),
        ("assistant", "tool"),
        ("tool", "tool"),
        ("tool", "assistant"),
    }
    return order[0] != "user" or any(pair not in allowed for pair in pairwise(order))


def wants_whole_calls(messages: list[Json]) -> bool:
    """OpenAI: each call has its one result right behind it, and arguments that are an object."""
    for number, message in enumerate(messages):
        calls = message.get("tool_calls") or []
        behind = messages[number + 1 : number + 1 + len(calls)]
        if [call["id"] for call in calls] != [m.get("tool_call_id") for m in behind]:
            return True
        if not all(_is_object(call["function"]["arguments"]) for call in calls):
            return True
    return False


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


STRICTEST: tuple[Rule, ...] = (refuses_blanks, must_alternate, wants_whole_calls)


def anthropic_refuses(request: dict[str, Any]) -> bool:
    """Anthropic: roles in turn, no blank text, results directly behind their calls."""
    messages = request["messages"]
    order = [m["role"] for m in messages]
    if order[0] != "user" or any(a == b for a, b in pairwise(order)):
        return True
    for message, after in pairwise([*messages, {"content": []}]):
        blocks = _blocks(message)
        if not blocks or any(b["type"] == "text" and not b["text"].strip() for b in blocks):
            return True
        if any(b["type"] == "tool_use" and not isinstance(b["input"], dict) for b in blocks):
            return True
        asked = {b["id"] for b in blocks if b["type"] == "tool_use"}
        given = {b["tool_use_id"] for b in _blocks(after) if b["type"] == "tool_result"}
        if asked != given:
            return True
    return False


def _blocks(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def anthropic_answer(*blocks: Json, stop: str = "end_turn") -> Raw:
    """A stream of Anthropic's Messages, whole."""
    message: Json = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "fake",
        "content": [],
    }
    message |= {"stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    events: list[Json] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(blocks):
        at = {"index": index}
        text, given = block.get("text"), block.get("input")
        empty = {**block, "text": ""} if text is not None else {**block, "input": {}}
        events.append({"type": "content_block_start", **at, "content_block": empty})
        if text is not None:
            delta = {"type": "text_delta", "text": text}
        else:
            delta = {"type": "input_json_delta", "partial_json": json.dumps(given)}
        events.append({"type": "content_block_delta", **at, "delta": delta})
        events.append({"type": "content_block_stop", **at})
    end = {"delta": {"stop_reason": stop}, "usage": {"output_tokens": 2}}
    events += [{"type": "message_delta", **end}, {"type": "message_stop"}]
    body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    return Raw(body.encode(), content_type="text/event-stream")
