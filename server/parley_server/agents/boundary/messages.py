"""Anthropic's Messages: what its library leaves open."""

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
from parley_server.agents.boundary.sse import Event
from parley_server.agents.boundary.usage import clean_usage
from parley_server.agents.boundary.values import dict_of, is_keep_alive, model_of, parsed
from parley_server.core.attempts.transcript import MAX_TOKENS

_UNKNOWN_TOKENS = MAX_TOKENS + 1
"""More than there can be: the library insists on a number, and Parley takes this for none."""


@dataclass(slots=True)
class MessagesReader:
    """Reads the events of one message and returns those that the library is given."""

    is_over: bool = False
    may_end: bool = False
    _has_begun: bool = False
    _is_usage_known: bool = True
    _call_ids: set[str] = field(default_factory=set)

    def feed(self, event: Event) -> Iterator[bytes]:
        """Return what an event becomes; often nothing.

        Raises: BrokenStreamError, ProviderError.
        """
        if event.is_done or is_keep_alive(event.name, event.data):
            return
        data = self._data(event)
        kind = data.get("type")
        if kind in (None, "ping"):
            return
        if kind == "message_start":
            self._has_begun = True
            data = {**data, "message": self._message(data.get("message"))}
        elif not self._has_begun:
            raise BrokenStreamError("no beginning")
        elif kind == "content_block_start":
            data = {**data, "content_block": self._block(data.get("content_block"))}
        elif kind == "message_delta":
            data = self._delta(data)
        yield b"event: " + str(kind).encode() + b"\ndata: " + json.dumps(data).encode() + b"\n\n"
        self.is_over = kind == "message_stop"

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

    def _message(self, message: object) -> Json:
        told = dict_of(message)
        usage = clean_usage(told.get("usage"), ("input_tokens",))
        self._is_usage_known = usage is not None
        return {
            "type": "message",
            "role": "assistant",
            "stop_reason": None,
            "stop_sequence": None,
            **told,
            "id": model_of(told.get("id")),
            "model": model_of(told.get("model")),
            "content": [],
            "usage": {"input_tokens": 0, "output_tokens": 0, **(usage or {})},
        }

    def _block(self, block: object) -> Json:
        told = dict_of(block)
        if told.get("type") != "tool_use":
            return told
        call_id = told.get("id")
        if not isinstance(call_id, str) or not call_id or call_id in self._call_ids:
            call_id = f"toolu_{uuid4().hex[:24]}"
        self._call_ids.add(call_id)
        return {**told, "id": call_id, "input": dict_of(told.get("input"))}

    def _delta(self, data: Json) -> Json:
        delta = dict_of(data.get("delta"))
        reason = delta.get("stop_reason")
        if not isinstance(reason, str):
            reason = None
        finish.settled(reason)
        usage = clean_usage(data.get("usage"), ("output_tokens",))
        if usage is None or not self._is_usage_known:
            usage = {**(usage or {}), "output_tokens": _UNKNOWN_TOKENS}
        return {**data, "delta": {**delta, "stop_reason": reason}, "usage": usage}
