"""What a provider wants back in later turns: reasoning, signatures, item ids.

    a run's responses ─► state_of ─► bytes, kept with the answer ─► restored ─► the same responses

The bytes hold what the answer does not: for each model response its parts in order, where a text is
its length and a tool call its id; the words, arguments and results are the message's own. They name
the provider and the model, and go back to that provider only. Thoughts that came as tags within the
text are not kept: no provider asks for them, and models are to be told without.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models import Model

from parley_server.core.attempts.window import NO_TEXT
from parley_server.core.model import ToolCall, WindowMessage

log = logging.getLogger("parley.agents")

VERSION = 1
FROM_TAGS = "content"
"""The id that pydantic-ai gives to thoughts that stood between tags within the text."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a state comes from, and where it may go: the same name at the same address."""

    name: str
    url: str

    @classmethod
    def of_model(cls, model: Model[Any]) -> "Provider":
        return cls(model.system, _address(model.base_url))

    @classmethod
    def of_response(cls, response: ModelResponse) -> "Provider":
        return cls(response.provider_name or "", _address(response.provider_url))


def state_of(messages: Sequence[ModelMessage]) -> bytes | None:
    """Return the state of a run's responses; None: there is nothing to be sent back.

    Args:
        messages: what the run has exchanged so far, oldest first.
    Returns: UTF-8 JSON; None also if the responses come from several providers.
    """
    responses = [message for message in messages if isinstance(message, ModelResponse)]
    kept = [(response, _kept_parts(response)) for response in responses]
    providers = {Provider.of_response(response) for response in responses}
    if len(providers) != 1 or not any(_is_opaque(part) for _, parts in kept for part in parts):
        return None
    skeletons: list[ModelMessage] = [_skeleton(response, parts) for response, parts in kept]
    lengths = [
        [len(part.content or "") if isinstance(part, TextPart) else None for part in parts]
        for _, parts in kept
    ]
    provider = providers.pop()
    state = {
        "version": VERSION,
        "provider": [provider.name, provider.url],
        "model": responses[-1].model_name,
        "responses": ModelMessagesTypeAdapter.dump_python(skeletons, mode="json"),
        "lengths": lengths,
    }
    return json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def restored(
    message: WindowMessage, calls: Sequence[ToolCall], provider: Provider
) -> list[tuple[ModelResponse, list[ToolCall]]] | None:
    """Return the responses that an answer was made of, each with its calls.

    Args:
        message: the stored answer.
        calls: its calls, with the ids and names that they are told under.
        provider: where they are sent.
    Returns: None: there is no state, or it is another provider's.
    Guarantees: every word and every call of the message is in it once, in order; what the state
        does not know, because the run was cut short, comes last.
    """
    state = _read(message.opaque_state, provider) if message.opaque_state else None
    if state is None:
        return None
    told: dict[str, list[ToolCall]] = {}
    for old, new in zip(message.tool_calls, calls, strict=True):
        told.setdefault(old.id, []).append(new)
    left = _Text("" if message.content == NO_TEXT else message.content)
    found: list[tuple[ModelResponse, list[ToolCall]]] = []
    for response, lengths in state:
        parts, asked = _filled(response, lengths, left, told)
        if asked or any(isinstance(part, TextPart) for part in parts):
            found.append((replace(response, parts=parts), asked))
    if any(told.values()):
        return None  # calls that it does not know: it is of no use
    rest = left.take(len(message.content)).strip("\n")
    if rest.strip() or not found or found[-1][1]:  # an answer without words has some, too
        found.append((ModelResponse(parts=[TextPart(rest or NO_TEXT)]), []))
    return found


def _filled(
    response: ModelResponse,
    lengths: Sequence[int | None],
    left: "_Text",
    told: dict[str, list[ToolCall]],
) -> tuple[list[ModelResponsePart], list[ToolCall]]:
    """Return a response's parts with their words, and its calls; both are taken from what is left.

    Args:
        lengths: of its text parts' words; None: no text part.
        told: the calls that are left, by the ids in the state.
    """
    parts: list[ModelResponsePart] = []
    asked: list[ToolCall] = []
    for part, length in zip(response.parts, lengths, strict=True):
        if isinstance(part, TextPart):
            if (words := left.take(length or 0)).strip():
                parts.append(replace(part, content=words))
        elif not isinstance(part, ToolCallPart):
            parts.append(part)
        elif told.get(part.tool_call_id):
            call = told[part.tool_call_id].pop(0)
            asked.append(call)
            parts.append(_call_again(part, call))
    return parts, asked


def _call_again(part: ToolCallPart, call: ToolCall) -> ToolCallPart:
    return ToolCallPart(
        call.name,
        call.arguments,
        tool_call_id=call.id,
        id=part.id,
        provider_name=part.provider_name,
        provider_details=part.provider_details,
    )


@dataclass(slots=True)
class _Text:
    """An answer's text, taken piece by piece."""

    text: str
    _taken: int = 0

    def take(self, length: int) -> str:
        start = self._taken
        self._taken = min(len(self.text), start + length)
        return self.text[start : self._taken]


def _kept_parts(response: ModelResponse) -> list[ModelResponsePart]:
    return [
        part
        for part in response.parts
        if not (isinstance(part, ThinkingPart) and part.id == FROM_TAGS)
    ]


def _is_opaque(part: ModelResponsePart) -> bool:
    """Whether a part holds something that its message does not."""
    if isinstance(part, TextPart):
        return False  # an id alone means nothing without what was issued with it
    if isinstance(part, ToolCallPart):
        return bool(part.id or part.provider_details)
    return True


def _skeleton(response: ModelResponse, parts: Sequence[ModelResponsePart]) -> ModelResponse:
    return ModelResponse(
        parts=list(_bare(parts)),
        timestamp=response.timestamp,
        model_name=response.model_name,
        provider_name=response.provider_name,
        provider_url=response.provider_url,
        provider_response_id=response.provider_response_id,
        canonical_system=response.canonical_system,
    )


def _bare(parts: Sequence[ModelResponsePart]) -> Iterator[ModelResponsePart]:
    """Take out what the message itself holds."""
    for part in parts:
        if isinstance(part, TextPart):
            yield replace(part, content="", citations=None)
        elif isinstance(part, ToolCallPart):
            yield replace(part, args=None)
        else:
            yield part


def _read(data: bytes, provider: Provider) -> list[tuple[ModelResponse, list[int | None]]] | None:
    try:
        state = json.loads(data)
        if state["version"] != VERSION or Provider(*state["provider"]) != provider:
            return None
        responses = ModelMessagesTypeAdapter.validate_python(state["responses"])
        lengths: list[list[int | None]] = state["lengths"]
        return [
            (response, of)
            for response, of in zip(responses, lengths, strict=True)
            if isinstance(response, ModelResponse) and len(response.parts) == len(of)
        ]
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        # Another release of the library wrote it: the answer is told without.
        log.warning("opaque state not readable", extra={"error": type(error).__name__})
        return None


def _address(url: str | None) -> str:
    return (url or "").rstrip("/")
