"""A window, as pydantic-ai is shown it.

    user        → a request with the text
    assistant   → for each step a response with its calls and a request with their results,
                  then a response with the text
    system      → a request with a system part

What was stored must never be refused for its form by any provider, for then the conversation could
not go on: names and ids are made to fit what all of them take, and arguments that are no JSON
object are wrapped in one. The same messages always become the same request, so that a provider's
cache of its beginning stays valid.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import pydantic_core
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from parley_server.core.model import Role, ToolCall, WindowMessage
from parley_server.core.window import shortened

MIN_MESSAGE_BYTES = 256
"""A message that alone is too long is not made shorter than this."""
NO_JSON = "arguments"
"""Under this name stand arguments that are no JSON object."""

_USABLE_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_UNUSABLE_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64


def conversation_of(messages: Sequence[WindowMessage]) -> tuple[str, list[ModelMessage]]:
    """Return the newest message's text, and what was said before it.

    Args:
        messages: oldest first; the last one is the user's.
    Guarantees: no two user messages follow each other (some models' templates refuse that): those
        whose answer was empty are joined with the next.
    """
    *earlier, newest = _joined(messages)
    history: list[ModelMessage] = []
    seen: set[str] = set()
    for message in earlier:
        for said in _said(message, seen):
            if isinstance(said, ModelRequest) and history and isinstance(history[-1], ModelRequest):
                history[-1] = ModelRequest(parts=[*history[-1].parts, *said.parts])
            else:
                history.append(said)
    return newest.content, history


def shorter(messages: Sequence[WindowMessage]) -> list[WindowMessage] | None:
    """Return about half of a window that turned out too long for its model.

    Returns: the newer half, from a user's message on; of a single message, its two ends. None: it
        cannot be made shorter.
    """
    if len(messages) > 1:
        half = list(messages[len(messages) // 2 :])
        while half[0].role is not Role.USER:
            half.pop(0)
        return half
    size = len(messages[0].content.encode())
    if size <= MIN_MESSAGE_BYTES:
        return None
    content = shortened(messages[0].content, max(MIN_MESSAGE_BYTES, size // 2))
    return [messages[0]._replace(content=content)]


def _joined(messages: Sequence[WindowMessage]) -> list[WindowMessage]:
    """Leave out empty answers, and join user messages that then follow each other."""
    joined: list[WindowMessage] = []
    for message in messages:
        if not message.content and not message.tool_calls:
            continue
        last = joined[-1] if joined else None
        if last and last.role is Role.USER and message.role is Role.USER:
            joined[-1] = message._replace(content=f"{last.content}\n\n{message.content}")
        else:
            joined.append(message)
    return joined


def _said(message: WindowMessage, seen: set[str]) -> Iterator[ModelMessage]:
    if message.role is Role.USER:
        yield ModelRequest(parts=[UserPromptPart(message.content)])
    elif message.role is Role.SYSTEM:
        yield ModelRequest(parts=[SystemPromptPart(message.content)])
    else:
        calls = _usable(message, seen)
        for _, step in groupby(calls, key=lambda call: call.step):
            yield from _step(list(step))
        if message.content:
            yield ModelResponse(parts=[TextPart(message.content)])


def _usable(message: WindowMessage, seen: set[str]) -> Iterator[ToolCall]:
    """Give every call an id of its own and a name, both such as every provider takes."""
    for number, call in enumerate(message.tool_calls):
        call_id = call.id
        if call_id in seen or not _USABLE_ID.fullmatch(call_id):
            call_id = f"call_{message.sequence}_{number}"
        seen.add(call_id)
        name = _UNUSABLE_IN_NAMES.sub("_", call.name)[:_MAX_NAME] or "_"
        yield call._replace(id=call_id, name=name)


def _step(calls: Iterable[ToolCall]) -> Iterator[ModelMessage]:
    asked = [
        ToolCallPart(call.name, _object(call.arguments), tool_call_id=call.id) for call in calls
    ]
    results: list[ModelRequestPart] = [
        ToolReturnPart(
            call.name,
            call.result,
            tool_call_id=call.id,
            outcome="failed" if call.is_error else "success",
        )
        for call in calls
    ]
    yield ModelResponse(parts=asked)
    yield ModelRequest(parts=results)


def _object(arguments: str) -> str:
    """Return JSON text of an object: the arguments themselves if they are one."""
    try:
        is_object = isinstance(pydantic_core.from_json(arguments, allow_inf_nan=False), dict)
    except ValueError:
        is_object = False
    return arguments if is_object else pydantic_core.to_json({NO_JSON: arguments}).decode()
