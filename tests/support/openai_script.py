"""What a fake model is told to do: steps of a script, and how each looks in OpenAI's protocols."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

PROVIDER_TEXT = "PROVIDER-TEXT that nobody may see"
"""Stands in every error of the fake provider."""

Json: TypeAlias = dict[str, Any]

_ids = count(1)


@dataclass(frozen=True)
class Call:
    """A tool call that the model asks for. The arguments go out as they are, JSON or not."""

    name: str
    arguments: str = "{}"
    id: str | None = None


@dataclass(frozen=True)
class Say:
    """A response: text, then tool calls; and how it goes wrong, if it does."""

    text: str = ""
    calls: Sequence[Call] = ()
    thoughts: str = ""
    """Sent before the text, as `reasoning_content` or as a reasoning item."""
    finish: str | None = None
    """By default tool_calls if there are calls, else stop."""
    usage: tuple[int, int, int] | None = (11, 7, 3)
    """Input, output, cached."""
    piece: int = 4
    """Characters in a chunk."""
    cut_after: int | None = None
    """After so many chunks the connection is reset;"""
    end_after: int | None = None
    """or the stream ends politely, without a finish reason;"""
    stall_after: int | None = None
    """or nothing more comes, until the client leaves;"""
    garbage_after: int | None = None
    """or a chunk is no JSON;"""
    error_after: int | None = None
    """or an error comes inside the stream."""
    hold: threading.Event | None = None
    """What it waits for before it goes wrong."""


@dataclass(frozen=True)
class Fail:
    """An HTTP error in OpenAI's form."""

    status: int
    code: str | None = None
    type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> Json:
        return {"error": {"message": PROVIDER_TEXT, "type": self.type, "code": self.code}}


@dataclass(frozen=True)
class Raw:
    """Any bytes."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"


@dataclass(frozen=True)
class Forever:
    """Bytes, and then others again and again, until the client leaves."""

    beginning: bytes
    again: bytes


@dataclass(frozen=True)
class HangUp:
    """Not even a status line."""


@dataclass(frozen=True)
class Stall:
    """Nothing at all, until the client leaves."""


Step: TypeAlias = Say | Fail | Raw | Forever | HangUp | Stall
Script: TypeAlias = Sequence[Step | Callable[[Json], Step]]


def _id(prefix: str) -> str:
    return f"{prefix}_{next(_ids)}"


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def chat_chunks(step: Say, request: Json) -> Iterator[Json]:
    """The chunks of a Chat Completions stream."""
    base = {"id": _id("chatcmpl"), "object": "chat.completion.chunk", "created": 1}
    base["model"] = "fake-1"

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(step.thoughts, step.piece):
        yield chunk({"reasoning_content": piece})
    for piece in _pieces(step.text, step.piece):
        yield chunk({"content": piece})
    for index, call in enumerate(step.calls):
        first = {"index": index, "id": call.id or _id("call"), "type": "function"}
        yield chunk({"tool_calls": [{**first, "function": {"name": call.name, "arguments": ""}}]})
        for piece in _pieces(call.arguments, step.piece):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, step.finish or ("tool_calls" if step.calls else "stop"))
    if step.usage and (request.get("stream_options") or {}).get("include_usage"):
        prompt, completion, cached = step.usage
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        yield {**base, "choices": [], "usage": usage}


def response_events(step: Say) -> Iterator[Json]:
    """The events of a Responses stream."""
    numbers = count()

    def event(kind: str, **fields: Any) -> Json:
        return {"type": kind, "sequence_number": next(numbers), **fields}

    started = _response(step, [], "in_progress")
    yield event("response.created", response=started)
    items: list[Json] = []
    if step.thoughts:
        sealed = f"sealed {step.thoughts}"
        item = {"type": "reasoning", "id": _id("rs"), "summary": [], "encrypted_content": sealed}
        yield event("response.output_item.added", output_index=0, item=item)
        yield event("response.output_item.done", output_index=0, item=item)
        items.append(item)
    if step.text:
        item = {"type": "message", "id": _id("msg"), "role": "assistant", "status": "completed"}
        part = {"type": "output_text", "text": step.text, "annotations": []}
        index = {"output_index": len(items)}
        place = {**index, "item_id": item["id"], "content_index": 0}
        opened = {**item, "content": [], "status": "in_progress"}
        yield event("response.output_item.added", **index, item=opened)
        yield event("response.content_part.added", **place, part={**part, "text": ""})
        for piece in _pieces(step.text, step.piece):
            yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
        yield event("response.output_text.done", **place, text=step.text, logprobs=[])
        yield event("response.content_part.done", **place, part=part)
        items.append({**item, "content": [part]})
        yield event("response.output_item.done", **index, item=items[-1])
    for call in step.calls:
        item = {"type": "function_call", "id": _id("fc"), "call_id": call.id or _id("call")}
        item |= {"name": call.name, "arguments": call.arguments, "status": "completed"}
        index = {"output_index": len(items)}
        opened = {**item, "arguments": "", "status": "in_progress"}
        yield event("response.output_item.added", **index, item=opened)
        place = {**index, "item_id": item["id"]}
        for piece in _pieces(call.arguments, step.piece):
            yield event("response.function_call_arguments.delta", **place, delta=piece)
        done = {"name": call.name, "arguments": call.arguments}
        yield event("response.function_call_arguments.done", **place, **done)
        items.append(item)
        yield event("response.output_item.done", **index, item=item)
    whole = {**_response(step, items, "completed"), "id": started["id"]}
    yield event("response.completed", response=whole)


def _response(step: Say, output: list[Json], status: str) -> Json:
    usage = None
    if step.usage and status == "completed":
        read, written, cached = step.usage
        usage = {
            "input_tokens": read,
            "output_tokens": written,
            "total_tokens": read + written,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": 1,
        "model": "fake-1",
        "status": status,
        "error": None,
        "incomplete_details": None,
        "output": output,
        "usage": usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def sse(data: Json | str, event: str | None = None) -> bytes:
    """One event of a stream, as a chunk of HTTP's chunked coding."""
    text = data if isinstance(data, str) else json.dumps(data)
    raw = (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()
    return f"{len(raw):x}\r\n".encode() + raw + b"\r\n"
