"""Anthropic's Messages: what its library leaves open.

Text goes on at once. From the first tool call on, everything waits for the end: only the stop
reason tells whether the calls may run, and the blocks keep their order.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

from parley_server.agents.boundary import finish
from parley_server.agents.boundary.errors import (
    BrokenStreamError,
    Json,
)
from parley_server.agents.boundary.named_events import (
    PIECE_COST,
    Kept,
    data_of,
    kind_of,
    written,
)
from parley_server.agents.boundary.request import Request
from parley_server.agents.boundary.sse import Event
from parley_server.agents.boundary.tool_calls import (
    MAX_ARGUMENT_CHARS,
    MAX_CALLS,
    MAX_ID_CHARS,
    known_name,
)
from parley_server.agents.boundary.usage import clean_usage
from parley_server.agents.boundary.values import (
    Halves,
    dict_of,
    is_keep_alive,
    list_of,
    model_of,
    sendable,
    text_of,
    whole_characters,
)
from parley_server.core.attempts.transcript import MAX_TOKENS

_BLOCK_COST = 1024
"""What a block takes beside its text."""
_MAX_INDEX_CHARS = 64
_UNKNOWN_TOKENS = MAX_TOKENS + 1
"""More than there can be: the library insists on a number, and Parley takes this for none."""
_REASONS = {finish.LENGTH: "max_tokens", finish.FILTER: "refusal"}
"""The library knows each of these reasons by one word only."""
_NEEDED = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
"""What a delta of each kind is nothing without: a text."""
_BOUNDED = frozenset({"text_delta", "thinking_delta"})
"""`RunReader` bounds these."""


@dataclass(slots=True)
class _ToolUse:
    """A tool call that waits for the end.

    Args:
        number: of its block.
        block: its start, without the input.
        start: the input that the start holds, as JSON; the pieces count more.
    """

    number: int
    block: Json
    start: str
    pieces: list[str] = field(default_factory=list)

    def events(self) -> Iterator[Json]:
        """Return the events that tell of this call."""
        place = {"index": self.number}
        yield {"type": "content_block_start", **place, "content_block": {**self.block, "input": {}}}
        text = "".join(self.pieces)
        text = sendable(whole_characters(text if text.strip() else self.start))
        if text:
            delta = {"type": "input_json_delta", "partial_json": text}
            yield {"type": "content_block_delta", **place, "delta": delta}
        yield {"type": "content_block_stop", **place}


@dataclass(slots=True)
class MessagesReader:
    """Reads the events of one message and returns those that the library is given."""

    request: Request
    is_over: bool = False
    may_end: bool = False
    progress: int = 0
    _has_begun: bool = False
    _is_usage_known: bool = True
    _output_tokens: int = 0
    """What the beginning tells of them."""
    _reason: str | None = None
    _is_reason_told: bool = True
    """The library knows the reason."""
    _call_ids: set[str] = field(default_factory=set)
    _numbers: dict[object, int | None] = field(default_factory=dict)
    """The newest block of each index, by its own number; None: a block that is left out."""
    _blocks: int = 0
    _calls: dict[int, _ToolUse] = field(default_factory=dict)
    _held: list[bytes | _ToolUse] = field(default_factory=list)
    """What waits for the end: the first call, and all that comes behind it."""
    _kept: Kept = field(default_factory=Kept)
    _input_chars: int = 0
    _halves: Halves = field(default_factory=Halves)

    def feed(self, event: Event) -> Iterator[bytes]:
        """Return what an event becomes; often nothing.

        Raises: BrokenStreamError, ProviderError.
        """
        if event.is_done or is_keep_alive(event.name, event.data):
            return
        data = data_of(event)
        is_whole = event.is_body and data.get("type") == "message"
        for each in _events_of(data) if is_whole else [data]:
            if not self.is_over:
                yield from self._read(each)

    def end(self) -> Iterator[bytes]:
        """Raise BrokenStreamError if the stream is cut."""
        if not self.is_over:
            raise BrokenStreamError("the stream is cut")
        return iter(())

    def used(self) -> Iterator[bytes]:
        """Return nothing: the library was told at the beginning."""
        return iter(())

    def _read(self, data: Json) -> Iterator[bytes]:
        kind = kind_of(data)
        if kind in ("", "ping"):
            return
        if kind != "message_start" and not self._has_begun:
            raise BrokenStreamError("no beginning")
        match kind:
            case "message_start":
                yield from self._begin(data)
            case "content_block_start":
                yield from self._start(data)
            case "content_block_delta":
                yield from self._piece(data)
            case "content_block_stop":
                yield from self._stop(data)
            case "message_delta":
                yield from self._tell(self._delta(data))
            case "message_stop":
                yield from self._finished()
            case _:
                yield from self._tell(data)

    def _begin(self, data: Json) -> Iterator[bytes]:
        message = dict_of(data.get("message"))
        self._has_begun = True
        self._note(message.get("stop_reason"))
        yield from self._tell({**data, "message": self._message(message)})
        for number, block in enumerate(_blocks_in(message.get("content"))):
            place = {"index": f"beginning {number}"}
            yield from self._start({"type": "content_block_start", **place, "content_block": block})
            yield from self._stop({"type": "content_block_stop", **place})

    def _message(self, told: Json) -> Json:
        usage = clean_usage(told.get("usage"), ("input_tokens",))
        self._is_usage_known = usage is not None
        counts = {"input_tokens": 0, "output_tokens": 0, **(usage or {})}
        self._output_tokens = counts["output_tokens"]
        return {
            "type": "message",
            "role": "assistant",
            "stop_sequence": None,
            **told,
            "stop_reason": None,
            "id": model_of(told.get("id")),
            "model": model_of(told.get("model")),
            "content": [],
            "usage": counts,
        }

    def _start(self, data: Json) -> Iterator[bytes]:
        number = self._numbered(data.get("index"))
        block = _clean_block(data.get("content_block"))
        if block is None:
            self._numbers[_key(data.get("index"))] = None
        elif block["type"] == "tool_use":
            call = self._tool_use(number, block)
            self._calls[number] = call
            self._held.append(call)
            yield from self._count(call.start)
        else:
            yield from self._tell({**data, "index": number, "content_block": block}, is_kept=True)

    def _numbered(self, index: object) -> int:
        """Return the number of a new block: some servers number all of theirs alike."""
        self._kept.add(_BLOCK_COST)
        number = self._blocks
        self._blocks += 1
        self._numbers[_key(index)] = number
        return number

    def _tool_use(self, number: int, block: Json) -> _ToolUse:
        name = block.get("name")
        if not isinstance(name, str) or not name.strip():
            raise BrokenStreamError("a tool call has no name")
        call_id = whole_characters(block.get("id"))
        is_usable = isinstance(call_id, str) and 0 < len(call_id) <= MAX_ID_CHARS
        used = (self._call_ids, self.request.call_ids)
        if not is_usable or any(call_id in ids for ids in used):
            call_id = f"toolu_{uuid4().hex[:24]}"
        self._call_ids.add(call_id)
        self._kept.add(len(name) + len(call_id))
        named = {
            "type": "tool_use",
            "id": call_id,
            "name": known_name(name, lambda: self.request.tool_names),
        }
        return _ToolUse(number, named, _json_text(block.get("input")))

    def _piece(self, data: Json) -> Iterator[bytes]:
        delta = _clean_delta(data.get("delta"))
        if delta is None:
            return
        key = _key(data.get("index"))
        if key not in self._numbers:
            if delta["type"] == "input_json_delta":
                raise BrokenStreamError("an input of no tool call")
            self._numbered(data.get("index"))
        number = self._numbers[key]
        if number is None:
            return
        call = self._calls.get(number)
        if delta["type"] == "text_delta":
            delta = {**delta, "text": self._halves.joined(delta["text"])}
        if call is None:
            is_kept = delta["type"] not in _BOUNDED
            yield from self._tell({**data, "index": number, "delta": delta}, is_kept)
        elif delta["type"] != "input_json_delta":
            raise BrokenStreamError("a tool call holds something else")
        else:
            call.pieces.append(delta["partial_json"])
            yield from self._count(delta["partial_json"])

    def _stop(self, data: Json) -> Iterator[bytes]:
        number = self._numbers.get(_key(data.get("index")))
        if number is not None and number not in self._calls:
            yield from self._tell({**data, "index": number})

    def _count(self, text: str) -> Iterator[bytes]:
        """Count what a tool's input adds; end the message if that is too much."""
        self._input_chars += len(text) + PIECE_COST
        self._kept.add(len(text))
        if self._input_chars > MAX_ARGUMENT_CHARS or len(self._calls) > MAX_CALLS:
            self._note("max_tokens")
            self._is_usage_known = False
            yield from self._finished()

    def _delta(self, data: Json) -> Json:
        delta = dict_of(data.get("delta"))
        self._note(delta.get("stop_reason"))
        self._is_reason_told = True
        usage = clean_usage(data.get("usage"), ("output_tokens",))
        if usage is None or not self._is_usage_known:
            usage = {**(usage or {}), "output_tokens": _UNKNOWN_TOKENS}
        return {**data, "delta": {**delta, "stop_reason": self._reason}, "usage": usage}

    def _note(self, reason: object) -> None:
        """Take a stop reason, if it is one.

        Raises: ProviderError: it says that the response failed.
        """
        if not isinstance(reason, str):
            return
        settled = finish.settled(reason)
        if settled is not None:
            self._reason = _REASONS.get(settled, reason)
            self._is_reason_told = False

    def _finished(self) -> Iterator[bytes]:
        """End the message: what was held, the reason if it is not told, the last event."""
        is_filtered = self._reason == _REASONS[finish.FILTER]
        for held in self._held:
            if isinstance(held, bytes):
                yield held
            elif not is_filtered:  # what was filtered is not acted upon
                yield from map(written, held.events())
        if not self._is_reason_told:
            usage = {"output_tokens": self._output_tokens}
            yield written(self._delta({"type": "message_delta", "delta": {}, "usage": usage}))
        yield written({"type": "message_stop"})
        self.is_over = True

    def _tell(self, data: Json, is_kept: bool = False) -> Iterator[bytes]:
        """Pass an event on, behind the calls that wait for the end.

        Args:
            is_kept: the library keeps it to the end.
        """
        event = written(data)
        if self._held or is_kept:
            self._kept.add(len(event))
        if self._held:
            self._held.append(event)
        else:
            yield event


def _events_of(message: Json) -> list[Json]:
    """Return the events of a message that came in one piece."""
    usage = message.get("usage")
    delta = {"stop_reason": message.get("stop_reason")}
    return [
        {"type": "message_start", "message": message},
        {"type": "message_delta", "delta": delta, "usage": usage},
        {"type": "message_stop"},
    ]


def _blocks_in(content: object) -> list[object]:
    blocks = [content] if isinstance(content, str) else list_of(content)
    return [{"type": "text", "text": each} if isinstance(each, str) else each for each in blocks]


def _key(index: object) -> object:
    """Return an index as something that a dictionary takes."""
    return index if isinstance(index, int) else json.dumps(index)[:_MAX_INDEX_CHARS]


def _clean_block(block: object) -> Json | None:
    """Return a block as the library reads it; None: there is nothing in it."""
    told = dict_of(block)
    match told.get("type") or "text":
        case "text":
            return {**told, "type": "text", "text": text_of(told.get("text"))}
        case "thinking":
            texts = {key: text_of(told.get(key)) for key in ("thinking", "signature")}
            return {**told, **texts}
        case "redacted_thinking":
            return told if isinstance(told.get("data"), str) and told["data"] else None
        case str():
            return told
    return None


def _clean_delta(delta: object) -> Json | None:
    """Return a delta as the library reads it; None: there is nothing in it."""
    told = dict_of(delta)
    kind = told.get("type")
    if not isinstance(kind, str):
        return None
    if kind == "citations_delta":
        return told if isinstance(told.get("citation"), dict) else None
    if kind == "input_json_delta":
        return {**told, "partial_json": _json_text(told.get("partial_json"))}
    if kind in _NEEDED:
        return told if isinstance(told.get(_NEEDED[kind]), str) else None
    return {**told, "text": text_of(told.get("text"))}  # the library takes what it knows not so


def _json_text(value: object) -> str:
    """Return a tool's input as JSON: it is that already, or an object; empty: it is neither."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, dict) and value else ""
