"""OpenAI's Responses: what its library leaves open.

Text goes on at once, whether deltas, done events or only the last event tell it. From the first
function call on, everything waits for the end: only the last event tells whether the calls may run,
and the items keep their order.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

from parley_server.agents.boundary import finish
from parley_server.agents.boundary.errors import (
    BrokenStreamError,
    Json,
    ProviderError,
    told_error,
)
from parley_server.agents.boundary.function_calls import (
    NOWHERE,
    FunctionCall,
    FunctionCalls,
    fields_of,
    place_of,
)
from parley_server.agents.boundary.named_events import Kept, data_of, kind_of, written
from parley_server.agents.boundary.request import Request
from parley_server.agents.boundary.sse import Event
from parley_server.agents.boundary.tool_calls import MAX_ID_CHARS, known_name
from parley_server.agents.boundary.usage import clean_usage
from parley_server.agents.boundary.values import (
    Halves,
    dict_of,
    is_keep_alive,
    list_of,
    model_of,
    text_of,
    whole_characters,
)

_PLACE_COST = 1024
"""What each text of its own place takes beside its words."""
_LAST = frozenset({"response.completed", "response.incomplete", "response.done"})
_FAILED = frozenset({"response.failed", "response.cancelled", "response.canceled"})
_REASONS = {finish.LENGTH: "max_output_tokens", finish.FILTER: "content_filter"}
"""The library knows each of these reasons by one word only."""
_RESPONSE = {
    "id": "",
    "object": "response",
    "created_at": 0,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}


@dataclass(slots=True)
class ResponsesReader:
    """Reads the events of one response and returns those that the library is given."""

    request: Request
    is_over: bool = False
    may_end: bool = False
    progress: int = 0
    _is_refused: bool = False
    _said: list[str] = field(default_factory=list)
    """All text that the library was told."""
    _places: set[tuple[int, int]] = field(default_factory=set)
    """Where there is text: index of the item, index of its part."""
    _calls: FunctionCalls = field(default_factory=FunctionCalls)
    _held: list[bytes | FunctionCall] = field(default_factory=list)
    """What waits for the end: the first call, and all that comes behind it."""
    _kept: Kept = field(default_factory=Kept)
    _halves: Halves = field(default_factory=Halves)
    _ids: set[str] = field(default_factory=set)
    """Ids of calls and of their items: each is told once."""
    _number: int = 0

    def feed(self, event: Event) -> Iterator[bytes]:
        """Return what an event becomes; often nothing.

        Raises: BrokenStreamError, ProviderError.
        """
        if event.is_done or (not event.is_body and is_keep_alive(event.name, event.data)):
            return
        data = data_of(event)
        if event.is_body and data.get("object") == "response":
            data = {"type": f"response.{data.get('status') or 'completed'}", "response": data}
        kind = kind_of(data)
        if not kind:
            return
        failure = dict_of(data.get("response")).get("error")
        if kind in _FAILED or (kind in _LAST and failure):
            raise ProviderError(told_error("error", failure) or {})
        if kind in _LAST:
            yield from self._end_with(kind, data)
        elif kind not in ("keepalive", "ping"):
            yield from self._read(kind, data)

    def end(self) -> Iterator[bytes]:
        """Raise BrokenStreamError if the stream is cut."""
        if not self.is_over:
            raise BrokenStreamError("the stream is cut")
        return iter(())

    def used(self) -> Iterator[bytes]:
        """Return nothing: only the last event tells it."""
        return iter(())

    def _read(self, kind: str, data: Json) -> Iterator[bytes]:
        match kind.removeprefix("response."):
            case "output_item.added" | "output_item.done":
                yield from self._item(data, is_done=kind.endswith("done"))
            case "function_call_arguments.delta" | "function_call_arguments.done":
                self._calls.add_arguments(data)
                yield from self._cut_if_full()
            case "output_text.delta":
                yield from self._say(data, data.get("delta"))
            case "refusal.delta":
                yield from self._say(data, data.get("delta"), is_refusal=True)
            case "output_text.done":
                yield from self._say_if_missing(data, {"text": data.get("text")})
                yield from self._tell({**data, **_clean_place(data)})
            case "refusal.done":
                yield from self._say_if_missing(data, {"refusal": data.get("refusal")})
            case "content_part.done":
                yield from self._say_if_missing(data, dict_of(data.get("part")))
            case "created" | "in_progress" | "queued":
                # Usage so far would be added to the usage at the end.
                response = _clean(data.get("response"), usage=None)
                yield from self._tell({**data, "response": response})
            case _:
                if not kind.endswith(".delta") or isinstance(data.get("delta"), str):
                    yield from self._tell(data)

    def _item(self, data: Json, is_done: bool) -> Iterator[bytes]:
        item = dict_of(data.get("item"))
        if item.get("type") == "function_call":
            yield from self._call(data, is_done)
            return
        if is_done:
            for number, part in enumerate(_parts_of(item)):
                place = {**data, "item_id": item.get("id"), "content_index": number}
                yield from self._say_if_missing(place, part)
        if item.get("type") == "reasoning":
            self._kept.add(len(json.dumps(item)))
        if item:
            yield from self._tell(data)

    def _call(self, data: Json, is_done: bool) -> Iterator[bytes]:
        call = self._calls.complete(data) if is_done else self._calls.begin(data)
        if call is not None:
            self._held.append(call)
        yield from self._cut_if_full()

    def _cut_if_full(self) -> Iterator[bytes]:
        if self._calls.is_full:
            details = {"reason": _REASONS[finish.LENGTH]}
            response = {"status": "incomplete", "incomplete_details": details}
            yield from self._end_with("response.incomplete", {"response": response})

    def _say(self, place: Json, text: object, is_refusal: bool = False) -> Iterator[bytes]:
        """Tell the library of text at the place that an event names."""
        if not isinstance(text, str) or not text:
            return
        self._is_refused = self._is_refused or is_refusal
        text = self._halves.joined(text)
        self._said.append(text)
        told = _clean_place(place)
        at = told["output_index"], told["content_index"]
        if at not in self._places:
            self._places.add(at)
            self._kept.add(_PLACE_COST)
        delta = {"type": "response.output_text.delta", **told, "delta": text, "logprobs": []}
        yield from self._tell(delta)

    def _say_if_missing(self, place: Json, part: Json) -> Iterator[bytes]:
        """Tell of a part that is done and that no delta told of."""
        self._is_refused = self._is_refused or bool(part.get("refusal"))
        text = _text_in(part)
        told = _clean_place(place)
        is_told = (told["output_index"], told["content_index"]) in self._places
        if not is_told and not self._has_just_said(text):
            yield from self._say(place, text)

    def _has_just_said(self, text: str) -> bool:
        """Return whether the text so far ends with this one: some servers' indexes differ."""
        tail: list[str] = []
        missing = len(text)
        for piece in reversed(self._said):
            if missing <= 0:
                break
            tail.append(piece[-missing:])
            missing -= len(piece)
        return "".join(reversed(tail)) == text

    def _end_with(self, kind: str, data: Json) -> Iterator[bytes]:
        told = dict_of(data.get("response"))
        usage = clean_usage(told.get("usage"), ("input_tokens", "output_tokens"))
        response = _clean(told, usage)
        reason = _reason_of(kind, response)
        yield from self._missing(response["output"])
        if self._is_refused:
            reason = _REASONS[finish.FILTER]
        response["incomplete_details"] = {"reason": reason} if reason else None
        response["status"] = "incomplete" if reason else "completed"
        yield from self._release(is_filtered=reason == _REASONS[finish.FILTER])
        if kind == "response.done":
            kind = "response.completed"
        yield self._event({**data, "type": kind, "response": response})
        self.is_over = True

    def _missing(self, items: list[Json]) -> Iterator[bytes]:
        """Tell of output that only the last event holds."""
        texts = [
            ({"output_index": index, "item_id": item.get("id"), "content_index": number}, part)
            for index, item in enumerate(items)
            for number, part in enumerate(_parts_of(item))
        ]
        self._is_refused = self._is_refused or any(part.get("refusal") for _, part in texts)
        said = "".join(self._said)
        if "".join(_text_in(part) for _, part in texts).startswith(said):
            skip = len(said)
            for place, part in texts:
                text = _text_in(part)
                yield from self._say(place, text[skip:])
                skip = max(0, skip - len(text))
        calls = [item for item in items if item.get("type") == "function_call"]
        unknown = calls[len(self._calls.all) :]
        self._held += [FunctionCall(NOWHERE, fields_of(item)) for item in unknown]

    def _release(self, is_filtered: bool) -> Iterator[bytes]:
        """Tell of what was held; what was filtered is not acted upon."""
        held, self._held = self._held, []
        for index, each in enumerate(held):
            if isinstance(each, bytes):
                yield each
            elif not is_filtered:
                yield from self._call_events(each, index)

    def _call_events(self, call: FunctionCall, index: int) -> Iterator[bytes]:
        name = call.item.get("name")
        if not isinstance(name, str) or not name.strip():
            raise BrokenStreamError("a tool call has no name")
        item = {
            "type": "function_call",
            "id": self._own_id(call.item.get("id"), "fc"),
            "call_id": self._own_id(call.item.get("call_id"), "call"),
            "name": known_name(name, lambda: self.request.tool_names),
            "arguments": "",
            "status": "completed",
        }
        if isinstance(namespace := call.item.get("namespace"), str):
            item["namespace"] = namespace
        arguments = whole_characters(call.arguments)
        if not arguments.strip():
            arguments = "{}"
        place = {"output_index": index if call.place[0] is None else call.place[0]}
        yield self._event({"type": "response.output_item.added", **place, "item": item})
        delta = {"item_id": item["id"], "delta": arguments}
        yield self._event({"type": "response.function_call_arguments.delta", **place, **delta})
        done = {**item, "arguments": arguments}
        yield self._event({"type": "response.output_item.done", **place, "item": done})

    def _own_id(self, told: object, prefix: str) -> str:
        """Return an id that no other call of the response or the request has."""
        own = whole_characters(told) if isinstance(told, str) else ""
        key = f"{prefix} {own}"
        is_used = key in self._ids or own in self.request.call_ids
        if not own or len(own) > MAX_ID_CHARS or is_used:
            own = f"{prefix}_{uuid4().hex[:24]}"
        self._ids.add(f"{prefix} {own}")
        return own

    def _tell(self, data: Json) -> Iterator[bytes]:
        """Pass an event on, behind the calls that wait for the end."""
        event = self._event(data)
        if self._held:
            self._kept.add(len(event))
            self._held.append(event)
        else:
            yield event

    def _event(self, data: Json) -> bytes:
        self._number += 1
        return written({**data, "sequence_number": self._number})


def _clean_place(data: Json) -> Json:
    """Return the place of a text, as the library insists on it."""
    index, item_id = place_of(data)
    number = data.get("content_index")
    return {
        "output_index": index or 0,
        "item_id": whole_characters(item_id),
        "content_index": number if isinstance(number, int) else 0,
    }


def _parts_of(item: Json) -> list[Json]:
    """Return the parts of a message; none: the item is no message."""
    content = item.get("content")
    if item.get("type", "message") != "message":
        return []
    parts = [content] if isinstance(content, str | dict) else list_of(content)
    return [{"text": part} if isinstance(part, str) else dict_of(part) for part in parts]


def _text_in(part: Json) -> str:
    """Return the text of a part: its own, or a refusal."""
    return text_of(part.get("refusal")) or text_of(part)


def _reason_of(kind: str, response: Json) -> str | None:
    """Return why a response is not whole, in the library's word; None: it is whole.

    Raises: ProviderError: it failed.
    """
    details, status = response.get("incomplete_details"), response.get("status")
    reason = details.get("reason") if isinstance(details, dict) else details
    finish.settled(status)
    if not reason and "incomplete" in (status, kind.removeprefix("response.")):
        reason = "incomplete"
    settled = finish.settled(reason)
    if settled is None or not isinstance(reason, str):
        return None
    return _REASONS.get(settled, reason)


def _clean(response: object, usage: Json | None) -> Json:
    told = dict_of(response)
    if usage is not None:
        usage = {
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["input_tokens"] + usage["output_tokens"],
            **usage,
        }
    return {
        **_RESPONSE,
        **told,
        "model": model_of(told.get("model")),
        "id": model_of(told.get("id")),
        "output": [item for item in list_of(told.get("output")) if isinstance(item, dict)],
        "created_at": 0,
        "usage": usage,
    }
