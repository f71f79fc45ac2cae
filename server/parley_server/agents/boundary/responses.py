"""OpenAI's Responses: what its library leaves open.

Text goes on at once, whether deltas, done events or only the last event tell it. From the first
function call on, everything waits for the end: only the last event tells whether the calls may run,
and the items keep their order.
"""

import json
import re
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
from parley_server.agents.boundary.sse import Event
from parley_server.agents.boundary.tool_calls import (
    MAX_ARGUMENT_CHARS,
    MAX_CALLS,
    MAX_ID_CHARS,
)
from parley_server.agents.boundary.usage import clean_usage
from parley_server.agents.boundary.values import (
    dict_of,
    is_keep_alive,
    list_of,
    model_of,
    parsed,
    text_of,
    whole_characters,
)

MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Of one response's calls, reasoning items and places: they are kept to its end."""
_PLACE_COST = 1024
"""What each text of its own place takes beside its words."""
_PIECE_COST = 64
"""What a piece of a call's arguments takes beside its text."""
_KIND = re.compile(r"[\w.]+", re.ASCII)
_LAST = frozenset({"response.completed", "response.incomplete", "response.done"})
_FAILED = frozenset({"response.failed", "response.cancelled", "response.canceled"})
_REASONS = {finish.LENGTH: "max_output_tokens", finish.FILTER: "content_filter"}
"""The library knows each of these reasons by one word only."""
_FIELDS = ("id", "call_id", "name", "namespace", "arguments")
"""Of a function call: what the library is told."""
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


_Place = tuple[int | None, str]
"""Index and id of an item, as far as the provider tells them."""
_NOWHERE: _Place = (None, "")


@dataclass(slots=True)
class _Call:
    """A function call that waits for the end.

    Args:
        item: the call as it is told so far.
    """

    place: _Place
    item: Json
    pieces: list[str] = field(default_factory=list)
    is_done: bool = False

    @property
    def arguments(self) -> str:
        """The arguments: those of the item if they go on where the pieces end."""
        told, streamed = _json_text(self.item.get("arguments")), "".join(self.pieces)
        return told if told.startswith(streamed) else streamed

    def add(self, item: Json, is_done: bool) -> None:
        """Take what another event tells of the same call."""
        self.item = {**self.item, **item}
        self.is_done = is_done

    def is_near(self, place: _Place) -> bool:
        """Return whether a place may be this call's, though index or id differ."""
        index, item_id = place
        if _NOWHERE in (place, self.place):
            return True
        is_same_id = bool(item_id) and item_id == self.place[1]
        return is_same_id or (index is not None and index == self.place[0])

    def is_like(self, place: _Place, item: Json, key: str) -> bool:
        """Return whether an item is this one again, as far as its place and a field tell."""
        is_same_place = place == self.place and place != _NOWHERE
        return is_same_place and item.get(key) == self.item.get(key)


@dataclass(slots=True)
class _Calls:
    """The function calls of one response."""

    all: list[_Call] = field(default_factory=list)
    _chars: int = 0
    """Of all arguments, with what each piece takes beside them."""

    @property
    def is_full(self) -> bool:
        """There are more calls, or longer arguments, than a response can have."""
        return self._chars > MAX_ARGUMENT_CHARS or len(self.all) > MAX_CALLS

    def begin(self, data: Json) -> _Call | None:
        """Take an item that is added. Returns: its call; None: it is known already."""
        place, item = self._read(data)
        for call in self.all:
            if not call.is_done and call.is_like(place, item, "call_id"):
                call.add(item, is_done=False)
                return None
        return self._new(place, item, is_done=False)

    def complete(self, data: Json) -> _Call | None:
        """Take an item that is done. Returns: its call; None: it is known already."""
        place, item = self._read(data)
        call = self._under_way(place)
        if call is not None:
            call.add(item, is_done=True)
        elif not any(call.is_like(place, item, "arguments") for call in self.all):
            return self._new(place, item, is_done=True)
        return None

    def add_arguments(self, data: Json) -> None:
        """Take a piece of arguments, or all of them."""
        delta, whole = data.get("delta"), data.get("arguments")
        call = self._under_way(_place_of(data))
        if call is None:
            return
        if isinstance(delta, str):
            self._count(delta)
            call.pieces.append(delta)
        elif whole:
            self._count(_json_text(whole))
            call.add({"arguments": whole}, is_done=False)

    def _read(self, data: Json) -> tuple[_Place, Json]:
        item = _fields_of(dict_of(data.get("item")))
        self._count(_json_text(item))
        return _place_of({**data, "item_id": item.get("id")}), item

    def _new(self, place: _Place, item: Json, is_done: bool) -> _Call:
        call = _Call(place, item, is_done=is_done)
        self.all.append(call)
        return call

    def _under_way(self, place: _Place) -> _Call | None:
        """Return the newest call that is not done, by index and id, or else by one of them."""
        calls = [call for call in reversed(self.all) if not call.is_done]
        same = next((call for call in calls if call.place == place), None)
        return same or next((call for call in calls if call.is_near(place)), None)

    def _count(self, text: str) -> None:
        self._chars += len(text) + _PIECE_COST


@dataclass(slots=True)
class ResponsesReader:
    """Reads the events of one response and returns those that the library is given."""

    is_over: bool = False
    may_end: bool = False
    _is_refused: bool = False
    _said: list[str] = field(default_factory=list)
    """All text that the library was told."""
    _places: set[tuple[int, int]] = field(default_factory=set)
    """Where there is text: index of the item, index of its part."""
    _calls: _Calls = field(default_factory=_Calls)
    _held: list[bytes | _Call] = field(default_factory=list)
    """What waits for the end: the first call, and all that comes behind it."""
    _kept_bytes: int = 0
    _ids: set[str] = field(default_factory=set)
    """Ids of calls and of their items: each is told once."""
    _number: int = 0

    def feed(self, event: Event) -> Iterator[bytes]:
        """Return what an event becomes; often nothing.

        Raises: BrokenStreamError, ProviderError.
        """
        if event.is_done or (not event.is_body and is_keep_alive(event.name, event.data)):
            return
        data = self._data(event)
        if event.is_body and data.get("object") == "response":
            data = {"type": f"response.{data.get('status') or 'completed'}", "response": data}
        kind = data.get("type")
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
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

    def _data(self, event: Event) -> Json:
        try:
            data = parsed(event.data)
        except BrokenStreamError:
            data = event.data
        error = told_error(event.name, data)
        if error is not None:
            raise ProviderError(error)
        if data is not None and not isinstance(data, dict):
            raise BrokenStreamError("no object")
        return {**({"type": event.name} if event.name else {}), **(data or {})}

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
            self._keep(len(json.dumps(item)))
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
        self._said.append(text)
        told = _clean_place(place)
        at = told["output_index"], told["content_index"]
        if at not in self._places:
            self._places.add(at)
            self._keep(_PLACE_COST)
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
        self._held += [_Call(_NOWHERE, _fields_of(item)) for item in unknown]

    def _release(self, is_filtered: bool) -> Iterator[bytes]:
        """Tell of what was held; what was filtered is not acted upon."""
        held, self._held = self._held, []
        for index, each in enumerate(held):
            if isinstance(each, bytes):
                yield each
            elif not is_filtered:
                yield from self._call_events(each, index)

    def _call_events(self, call: _Call, index: int) -> Iterator[bytes]:
        name = call.item.get("name")
        if not isinstance(name, str) or not name:
            raise BrokenStreamError("a tool call has no name")
        item = {
            "type": "function_call",
            "id": self._own_id(call.item.get("id"), "fc"),
            "call_id": self._own_id(call.item.get("call_id"), "call"),
            "name": whole_characters(name),
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
        """Return an id that no other call of the response has."""
        own = whole_characters(told) if isinstance(told, str) else ""
        key = f"{prefix} {own}"
        if not own or len(own) > MAX_ID_CHARS or key in self._ids:
            own = f"{prefix}_{uuid4().hex[:24]}"
        self._ids.add(f"{prefix} {own}")
        return own

    def _tell(self, data: Json) -> Iterator[bytes]:
        """Pass an event on, behind the calls that wait for the end."""
        event = self._event(data)
        if self._held:
            self._keep(len(event))
            self._held.append(event)
        else:
            yield event

    def _keep(self, size: int) -> None:
        self._kept_bytes += size
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise BrokenStreamError("a response is too long")

    def _event(self, data: Json) -> bytes:
        self._number += 1
        data = {**data, "sequence_number": self._number}
        name = str(data["type"]).encode()
        return b"event: " + name + b"\ndata: " + json.dumps(data).encode() + b"\n\n"


def _place_of(data: Json) -> _Place:
    """Return index and id of an item, as far as they are told."""
    index, item_id = data.get("output_index"), data.get("item_id")
    return (
        index if isinstance(index, int) else None,
        item_id if isinstance(item_id, str) else "",
    )


def _fields_of(item: Json) -> Json:
    """Return what an item tells of its call."""
    return {key: item[key] for key in _FIELDS if item.get(key)}


def _clean_place(data: Json) -> Json:
    """Return the place of a text, as the library insists on it."""
    index, item_id = _place_of(data)
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


def _json_text(value: object) -> str:
    """Return a call's arguments as JSON text."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if value else ""


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
