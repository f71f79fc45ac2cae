"""OpenAI's Responses: what its library leaves open."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from parley_server.agents.boundary.errors import (
    BrokenStreamError,
    Json,
    ProviderError,
    told_error,
)
from parley_server.agents.boundary.sse import Event
from parley_server.agents.boundary.usage import clean_usage
from parley_server.agents.boundary.values import (
    dict_of,
    is_keep_alive,
    list_of,
    model_of,
    parsed,
)

_LAST = frozenset({"response.completed", "response.incomplete", "response.done"})
_FAILED = frozenset({"response.failed", "response.cancelled", "response.canceled"})
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

    is_over: bool = False
    may_end: bool = False
    _is_refused: bool = False
    _has_output: bool = False
    """Events told of output; else the last one's is taken."""
    _number: int = field(default=0)

    def feed(self, event: Event) -> Iterator[bytes]:
        """Return what an event becomes; often nothing.

        Raises: BrokenStreamError, ProviderError.
        """
        if event.is_done or (not event.is_body and is_keep_alive(event.name, event.data)):
            return
        data = self._data(event)
        kind = data.get("type")
        if event.is_body and data.get("object") == "response":
            kind = f"response.{data.get('status') or 'completed'}"
            data = {"type": kind, "response": data}
        if kind in _FAILED:
            failure = dict_of(data.get("response")).get("error")
            raise ProviderError(told_error("error", failure) or {})
        if kind in _LAST:
            yield from self._end_with(str(kind), data)
        elif kind not in (None, "keepalive", "ping"):
            yield from self._pass_on(str(kind), data)

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

    def _pass_on(self, kind: str, data: Json) -> Iterator[bytes]:
        if kind == "response.refusal.done":
            return
        if kind == "response.refusal.delta":
            self._is_refused = True
            kind = "response.output_text.delta"
            data = {**data, "type": kind, "logprobs": []}
        if kind.endswith(".delta") and not isinstance(data.get("delta"), str):
            return
        if kind == "response.output_item.added" or kind.endswith(".delta"):
            self._has_output = True
        if "response" in data:  # usage so far would be added to the usage at the end
            data = {**data, "response": _clean(data["response"], usage=None)}
        yield self._event(data)

    def _end_with(self, kind: str, data: Json) -> Iterator[bytes]:
        told = dict_of(data.get("response"))
        usage = clean_usage(told.get("usage"), ("input_tokens", "output_tokens"))
        response = _clean(told, usage)
        if not self._has_output:
            yield from self._output(response["output"])
        if self._is_refused:
            response["incomplete_details"] = {"reason": "content_filter"}
        if kind == "response.done":
            kind = "response.completed"
        yield self._event({**data, "type": kind, "response": response})
        self.is_over = True

    def _output(self, items: list[Json]) -> Iterator[bytes]:
        """Tell of output that only the last event holds."""
        for index, item in enumerate(items):
            place = {"output_index": index, "item_id": item.get("id") or f"item_{index}"}
            if item.get("type") == "function_call":
                item = {**item, "id": place["item_id"]}
                added = {"type": "response.output_item.added", "output_index": index, "item": item}
                yield self._event(added)
                yield self._event({**added, "type": "response.output_item.done"})
                continue
            for number, part in enumerate(list_of(item.get("content"))):
                part = dict_of(part)
                self._is_refused = self._is_refused or bool(part.get("refusal"))
                text = part.get("refusal") or part.get("text")
                if item.get("type") == "message" and isinstance(text, str):
                    yield self._event(
                        {
                            "type": "response.output_text.delta",
                            **place,
                            "content_index": number,
                            "delta": text,
                            "logprobs": [],
                        }
                    )

    def _event(self, data: Json) -> bytes:
        self._number += 1
        data = {**data, "sequence_number": self._number}
        name = str(data["type"]).encode()
        return b"event: " + name + b"\ndata: " + json.dumps(data).encode() + b"\n\n"


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
