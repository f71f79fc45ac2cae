"""What a provider is sent of a turn's own calls, once it has refused them as they are.

Some providers refuse in the next request what they have sent themselves: their own field for
thoughts, ids or names of calls that their template does not take. The run keeps them as they came,
since its steps and its answer hold them; only what goes over the wire is made plain:

    thoughts, signatures, ids of items → left out
    ids of calls                       → nine letters and digits, the strictest form there is
    names of calls                     → the characters and the length that every provider takes
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    RetryPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models import ModelRequestContext

from parley_server.agents.boundary.values import plain_name
from parley_server.core.attempts.transcript import storable
from parley_server.core.attempts.window import NO_TEXT

_PLAIN_ID = re.compile(r"[A-Za-z0-9]{9}")


@dataclass
class PlainRequests(AbstractCapability[Any]):
    """Given to a run whose window is not told as it is."""

    async def prepare_model_request(
        self, _ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        return replace(request_context, messages=plain(request_context.messages))


def plain(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Return messages in the form that every provider takes."""
    return [_request(m) if isinstance(m, ModelRequest) else _response(m) for m in messages]


def plain_id(call_id: str) -> str:
    """Return an id of a call that every provider takes; the same for the same id."""
    if _PLAIN_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(storable(call_id).encode()).hexdigest()[:9]


def _request(request: ModelRequest) -> ModelRequest:
    return replace(request, parts=[_request_part(part) for part in request.parts])


def _request_part(part: ModelRequestPart) -> ModelRequestPart:
    if not isinstance(part, ToolReturnPart | RetryPromptPart) or part.tool_name is None:
        return part
    told: dict[str, Any] = {
        "tool_name": plain_name(part.tool_name),
        "tool_call_id": plain_id(part.tool_call_id),
    }
    return replace(part, **told)


def _response(response: ModelResponse) -> ModelResponse:
    parts = [_response_part(p) for p in response.parts if not isinstance(p, ThinkingPart)]
    return replace(response, parts=parts or [TextPart(NO_TEXT)])


def _response_part(part: ModelResponsePart) -> ModelResponsePart:
    if isinstance(part, ToolCallPart):
        args: Any = part.args
        return ToolCallPart(
            plain_name(part.tool_name), args, tool_call_id=plain_id(part.tool_call_id)
        )
    return TextPart(part.content) if isinstance(part, TextPart) else part
