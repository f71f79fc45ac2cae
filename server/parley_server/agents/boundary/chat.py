"""Chat Completions: a stream as servers send it becomes one as OpenAI sends it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from parley_server.agents.boundary import finish
from parley_server.agents.boundary.choices import (
    add_calls,
    delta_of,
    extras_of,
    head_of,
    index_of,
    is_message,
)
from parley_server.agents.boundary.errors import (
    BrokenStreamError,
    Json,
    ProviderError,
    says_something,
    told_error,
)
from parley_server.agents.boundary.growing import Growing
from parley_server.agents.boundary.request import Request
from parley_server.agents.boundary.sse import Event, Events
from parley_server.agents.boundary.thinking import Piece, TaggedText
from parley_server.agents.boundary.tool_calls import ToolCalls
from parley_server.agents.boundary.usage import RunningUsage
from parley_server.agents.boundary.values import (
    Halves,
    dict_of,
    is_keep_alive,
    objects_in,
    objects_of,
    parsed,
    refusal_of,
    text_of,
    thought_of,
    unwrapped,
    whole_characters,
)

REASONING = ("reasoning_content", "reasoning")
_SAYING = (
    *("content", "refusal", "tool_calls", "tool_call", "function_call"),
    *(*REASONING, "reasoning_details"),
)
"""Fields of a delta that say something."""
_NAMELESS = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
_DONE_BEHIND = re.compile(r"(data:)?\s*\[DONE\]\s*$")
"""The end mark, in the line of what comes before it."""
_FAILURE_NAME = re.compile(r".*(error|exception|fatal|fail).*", re.IGNORECASE)
"""Names of events that report a failure."""


@dataclass(slots=True)
class ChatReader:
    """Reads the events of one response and returns those that the library is given.

    Text and thoughts go on at once. Tool calls, the finish reason and usage go on at the end.

    Args:
        tags: which tags hold thoughts, each opening and closing; none: the model writes no such.
        library_tags: the two by which the library is told of thoughts.
        reasoning: fields of a delta that hold thoughts.
    """

    request: Request
    tags: tuple[tuple[str, str], ...] = ()
    library_tags: tuple[str, str] = ("<think>", "</think>")
    reasoning: tuple[str, ...] = REASONING
    is_over: bool = False
    """What comes now says nothing more."""
    progress: int = 0
    """How many deltas have said something."""
    _text: TaggedText = field(init=False)
    _calls: ToolCalls = field(init=False)
    _other_calls: ToolCalls = field(init=False)
    """Of the other choices: some gateways tell an answer's text in one and its calls in another."""
    _usage: RunningUsage = field(default_factory=RunningUsage)
    _finish: str | None = None
    _is_refused: bool = False
    _choice: object = None
    """The index of the one choice that is read."""
    _has_choice: bool = False
    _said: list[str] = field(default_factory=list)
    _has_deltas: bool = False
    """Something was told as a delta, so that a message is the whole, and no next piece."""
    _is_thinking: bool = False
    """The library was told of an opening tag, and not yet of the closing one."""
    _growing: Growing = field(default_factory=Growing)
    _halves: Halves = field(default_factory=Halves)
    _head: Json = field(default_factory=lambda: dict(_NAMELESS))
    _choice_extras: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._text = TaggedText(self.tags)
        self._calls, self._other_calls = (
            ToolCalls(lambda: self.request.tool_names, lambda: self.request.call_ids)
            for _ in range(2)
        )

    @property
    def may_end(self) -> bool:
        """Whether the answer is whole; only usage and the end mark may be missing."""
        return self._finish is not None

    def feed(self, event: Event) -> Iterator[bytes]:
        """Return what an event becomes; often nothing.

        Raises: BrokenStreamError, ProviderError.
        """
        if event.is_body:
            yield from self._read_body(event)
        elif event.is_done:
            yield from self._finished()
        else:
            for data in self._objects(event):
                if data and not self.is_over:
                    yield from self._read(data)

    def end(self) -> Iterator[bytes]:
        """Return what the end of the bytes adds.

        Raises: BrokenStreamError: the stream is cut.
        """
        if self.is_over:
            return
        if not self.may_end:
            raise BrokenStreamError("the stream is cut")
        yield from self._finished()

    def used(self) -> Iterator[bytes]:
        """Return what was used so far, if the provider has told it."""
        if self._usage.total is not None:
            yield _event({**self._head, "choices": [], "usage": self._usage.total})

    def _read_body(self, event: Event) -> Iterator[bytes]:
        try:
            parsed(event.data)
        except BrokenStreamError:  # one chunk a line, or events behind a first line of JSON
            events = Events()
            for each in [*events.feed(b":\n" + event.data.encode()), *events.end()]:
                if not self.is_over:
                    yield from self.feed(each)
            return
        (data,) = self._objects(event)
        yield from self._read(data)
        if not self.is_over and any(is_message(c) for c in objects_of(data.get("choices"))):
            yield from self._finished()

    def _objects(self, event: Event) -> Iterator[Json]:
        """Return an event's object, or several in one line; an empty one says nothing.

        Raises: ProviderError: one tells of an error; BrokenStreamError: there is no object.
        """
        try:
            yield self._data(event)
        except BrokenStreamError:
            found = objects_in(_DONE_BEHIND.sub("", event.data))
            if not found:
                raise
            for each in found:
                yield self._data(Event(event.name, json.dumps(each)))

    def _data(self, event: Event) -> Json:
        """Return an event's object; empty: it says nothing."""
        data: Any = None
        name = "error" if _FAILURE_NAME.fullmatch(event.name) else ""
        if is_keep_alive("", event.data):
            pass
        elif name:
            try:
                data = parsed(event.data)
            except BrokenStreamError:
                data = event.data
        elif not is_keep_alive(event.name, event.data):
            data = parsed(event.data)
            if isinstance(data, str):  # JSON that was written as JSON again
                data = parsed(data)
        data = unwrapped(data)
        error = told_error(name, data)
        if error is not None:
            raise ProviderError(error)
        if data and not isinstance(data, dict):
            raise BrokenStreamError("no object")
        return data or {}

    def _read(self, data: Json) -> Iterator[bytes]:
        self._head = {**self._head, **head_of(data)}
        self._usage.add(data.get("usage"))
        for choice in self._chosen(data.get("choices")):
            yield from self._read_choice(choice, has_usage=bool(data.get("usage")))
        if self._calls.is_full or self._other_calls.is_full:
            self._finish = finish.LENGTH
            yield from self._finished()

    def _read_choice(self, choice: Json, *, has_usage: bool) -> Iterator[bytes]:
        if says_something(choice.get("error")):
            raise ProviderError(told_error("error", choice["error"]) or {})
        self._has_choice = True
        self._choice_extras = extras_of(choice)
        if not has_usage:
            self._usage.add(choice.get("usage"))
        reason = finish.settled(choice.get("finish_reason"))
        yield from self._read_delta(choice)
        self._finish = reason or self._finish

    def _chosen(self, choices: object) -> Iterator[Json]:
        """Return the pieces of the choice that is read: the first one that the provider sends."""
        for number, choice in enumerate(objects_of(choices)):
            index = index_of(choice, number)
            if not self._has_choice and number == 0:
                self._choice = index
            if index == self._choice:
                yield choice
            else:
                told = delta_of(choice) or dict_of(choice.get("message"))
                add_calls(self._other_calls, {**choice, "delta": told})

    def _read_delta(self, choice: Json) -> Iterator[bytes]:
        delta = delta_of(choice)
        if says_something(delta.get("error")):
            raise ProviderError(told_error("error", delta["error"]) or {})
        is_delta = any(delta.get(key) for key in _SAYING)
        self._has_deltas = self._has_deltas or is_delta
        if not is_delta:
            delta = {**delta, **self._not_said_yet(choice)}
        self.progress += any(delta.get(key) for key in _SAYING)
        thoughts = {k: delta[k] for k in self.reasoning if isinstance(delta.get(k), str)}
        thoughts = {k: v for k, v in thoughts.items() if v}
        if not thoughts and (thought := thought_of(delta.get("content"))):
            thoughts = {self.reasoning[-1]: thought}
        if isinstance(delta.get("reasoning_details"), list):
            thoughts["reasoning_details"] = delta["reasoning_details"]
        if thoughts:
            yield self._chunk(thoughts)
        text = text_of(delta.get("content"))
        is_piece = is_delta or not text
        text = self._growing.feed(text) if is_piece else self._growing.end() + text
        yield from self._say_text(text)
        refusal = delta.get("refusal") or refusal_of(delta.get("content"))
        if refusal:
            self._is_refused = True
            yield from self._say_text(self._growing.end())
            yield from self._say(self._text.end(is_done=False))
            yield from self._say([Piece("text", text_of(refusal))])
        add_calls(self._calls, {**choice, "delta": delta})

    def _not_said_yet(self, choice: Json) -> Json:
        """Return what a choice tells beside its delta, without the beginning that was told."""
        message = dict_of(choice.get("message"))
        if not message:
            text = choice.get("text", choice.get("content"))
            return {"content": text} if text else {}
        rest = {key: message.get(key) for key in _SAYING if message.get(key)}
        whole, said = text_of(message.get("content")), "".join([*self._said, self._growing.held])
        if whole.startswith(said):
            rest["content"] = whole[len(said) :] if said else message.get("content")
        elif self._has_deltas:
            rest["content"] = ""
        if self._calls:
            rest.pop("tool_calls", None)
            rest.pop("function_call", None)
        return rest

    def _say_text(self, text: str) -> Iterator[bytes]:
        if text:
            self._said.append(text)
        yield from self._say(self._text.feed(self._halves.joined(text)))

    def _say(self, pieces: Any) -> Iterator[bytes]:
        opening, closing = self.library_tags
        for kind, content in pieces:
            if kind == "thought":
                if not self._is_thinking and content.strip():
                    self._is_thinking = True
                    yield self._chunk({"content": opening})
                if self._is_thinking and content:
                    yield self._chunk({"content": content})
                continue
            if self._is_thinking:
                self._is_thinking = False
                yield self._chunk({"content": closing})
            if content in self.library_tags:  # text that the library would take for a tag
                yield self._chunk({"content": content[:1]})
                yield self._chunk({"content": content[1:]})
            elif content:
                yield self._chunk({"content": content})

    def _finished(self) -> Iterator[bytes]:
        """End the response: held text, tool calls, one finish reason, one usage, the end mark."""
        yield from self._say_text(self._growing.end())
        if not self._has_choice:
            raise BrokenStreamError("no answer at all")
        self._calls.drop_empty(is_announced=self._finish == finish.CALLS)
        self._other_calls.drop_empty(is_announced=False)
        if self._finish == finish.CALLS and not self._calls:
            self._calls = self._other_calls
        if self._finish == finish.CALLS and not (self._calls or self._said or self._is_refused):
            raise BrokenStreamError("tool calls that are not there")
        reason = finish.FILTER if self._is_refused else self._finish or finish.STOP
        if reason == finish.FILTER:
            self._calls = ToolCalls()  # what was filtered is not acted upon
        if reason in (finish.STOP, finish.CALLS):
            reason = finish.CALLS if self._calls else finish.STOP
        if self._calls:
            self._text.drop_blank()
        yield from self._say(self._text.feed(self._halves.left))
        yield from self._say(self._text.end(is_done=reason == finish.STOP))
        yield from self._say([Piece("text", "")])
        for call in self._calls.settled():
            yield self._chunk({"tool_calls": [call]})
        yield self._chunk({}, reason)
        yield from self.used()
        self.is_over = True
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: Json, reason: str | None = None) -> bytes:
        choice = {**self._choice_extras, "index": 0, "delta": delta, "finish_reason": reason}
        return _event({**self._head, "choices": [choice]})


def _event(data: Json) -> bytes:
    return b"data: " + json.dumps(whole_characters(data)).encode() + b"\n\n"
