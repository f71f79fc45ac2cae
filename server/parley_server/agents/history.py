"""A window, as pydantic-ai is shown it.

    user        → a request with the text
    assistant   → for each step a response with its calls and a request with their results,
                  then a response with the text; with its opaque state, the very responses of then
    system      → a request with a system part

What stands between two answers is one request: results, then system parts, then one user's text, of
several messages a paragraph each. Every answer has such a text, or results, before it.

What was stored must never be refused for its form by any provider, for then the conversation could
not go on: names and ids are made to fit what all of them take, and arguments that are no JSON
object are wrapped in one. A window that is refused all the same is told more plainly, form by form.
The same messages always become the same request, so that a provider's cache of its beginning stays
valid.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import Enum
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

from parley_server.agents.boundary.values import has_numbers_beyond_json, plain_name
from parley_server.agents.opaque_state import Provider, restored
from parley_server.agents.plain_requests import plain, plain_id
from parley_server.core.attempts.window import NO_TEXT, shortened
from parley_server.core.model import Role, ToolCall, WindowMessage

MIN_MESSAGE_BYTES = 256
"""A message that alone is too long is not made shorter than this."""
PARAGRAPH = "\n\n"
"""Stands between texts of several messages that are told as one."""
NO_JSON = "arguments"
"""Under this name stand arguments that are no JSON object."""

_USABLE_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Form(Enum):
    """How much of the answers a provider is told."""

    STATES = "everything, with what the provider gave to be sent back"
    CALLS = "texts and tool calls, of which `plain_requests` says how"
    WORDS = "texts alone; tool calls and system messages are told in words"


def conversation_of(
    messages: Sequence[WindowMessage], form: Form, provider: Provider
) -> tuple[str, list[ModelMessage]]:
    """Return the newest message's text, and what was said before it.

    Args:
        messages: oldest first, as `core.window` makes them; the last one is the user's.
        provider: who is told.
    """
    *earlier, newest = messages
    history: list[ModelMessage] = []
    seen: set[str] = set()
    for message in earlier:
        for said in _said(message, seen, form, provider):
            _append(history, said)
    return _joined_with(history, newest.content), history


def _joined_with(history: list[ModelMessage], text: str) -> str:
    """Take the user's text at the end of a history away, and return it with another one behind."""
    if not history or not isinstance(history[-1], ModelRequest):
        return text
    *others, last = history[-1].parts
    if not isinstance(last, UserPromptPart):
        return text
    history[-1:] = [replace(history[-1], parts=others)] if others else []
    return f"{last.content}{PARAGRAPH}{text}"


def _append(history: list[ModelMessage], said: ModelMessage) -> None:
    """Add a message; two of a kind in a row, which some models' templates refuse, become one."""
    match said, history[-1:]:
        case ModelRequest(), [ModelRequest() as last]:
            history[-1] = replace(last, parts=_in_order([*last.parts, *said.parts]))
        case ModelResponse(), [ModelResponse() as before]:
            history[-1] = replace(before, parts=[*before.parts, *said.parts])
        case ModelResponse(), [ModelRequest() as asked]:
            history[-1] = replace(asked, parts=_with_words(asked.parts))
            history.append(said)
        case ModelResponse(), []:
            history += [ModelRequest(parts=_with_words([])), said]
        case _:
            history.append(said)


def _in_order(parts: Sequence[ModelRequestPart]) -> list[ModelRequestPart]:
    """Join users' texts, and put them behind everything else."""
    texts = [str(part.content) for part in parts if isinstance(part, UserPromptPart)]
    others: list[ModelRequestPart] = [p for p in parts if not isinstance(p, UserPromptPart)]
    return [*others, UserPromptPart(PARAGRAPH.join(texts))] if texts else others


def _with_words(parts: Sequence[ModelRequestPart]) -> list[ModelRequestPart]:
    """Return a request that an answer may follow: not one of system parts alone."""
    if any(isinstance(part, UserPromptPart | ToolReturnPart) for part in parts):
        return list(parts)
    return [*parts, UserPromptPart(NO_TEXT)]


def plainer(
    messages: Sequence[WindowMessage], form: Form, own: Sequence[ModelMessage] = ()
) -> Form | None:
    """Return the next form in which a window that was refused differs; None: there is none.

    Args:
        own: what the turn has exchanged with the model so far.
    """
    if form is Form.STATES and (
        any(message.opaque_state for message in messages)
        or any(plain_id(call.id) != call.id for m in messages for call in m.tool_calls)
        or plain(own) != list(own)
    ):
        return Form.CALLS
    if form is not Form.WORDS and any(
        message.tool_calls or message.role is Role.SYSTEM for message in messages
    ):
        return Form.WORDS
    return None


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


def _said(
    message: WindowMessage, seen: set[str], form: Form, provider: Provider
) -> Iterator[ModelMessage]:
    if message.role is Role.USER:
        yield ModelRequest(parts=[UserPromptPart(message.content)])
    elif message.role is Role.SYSTEM and form is Form.WORDS:
        yield ModelRequest(parts=[UserPromptPart(f"[System: {message.content}]")])
    elif message.role is Role.SYSTEM:
        yield ModelRequest(parts=[SystemPromptPart(message.content)])
    elif form is Form.WORDS:
        yield ModelResponse(parts=[TextPart(_in_words(message))])
    else:
        yield from _answered(message, list(_usable(message, seen)), form, provider)


def _in_words(answer: WindowMessage) -> str:
    told = [f"[{call.name} {call.arguments}: {call.result}]" for call in answer.tool_calls]
    return "\n".join([*told, answer.content])


def _answered(
    answer: WindowMessage, calls: Sequence[ToolCall], form: Form, provider: Provider
) -> Iterator[ModelMessage]:
    found = restored(answer, calls, provider) if form is Form.STATES else None
    if found is not None:
        for response, asked in found:
            yield response
            if asked:
                yield _results(asked)
        return
    for _, step in groupby(calls, key=lambda call: call.step):
        yield from _step(list(step))
    yield ModelResponse(parts=[TextPart(answer.content)])


def _usable(message: WindowMessage, seen: set[str]) -> Iterator[ToolCall]:
    """Give every call a unique id and a name, both in a form that every provider accepts."""
    for number, call in enumerate(message.tool_calls):
        call_id = call.id
        if call_id in seen or not _USABLE_ID.fullmatch(call_id):
            call_id = plain_id(f"{message.sequence}/{number}")
        seen.add(call_id)
        yield call._replace(
            id=call_id, name=plain_name(call.name), arguments=_object(call.arguments)
        )


def _step(calls: Sequence[ToolCall]) -> Iterator[ModelMessage]:
    yield ModelResponse(
        parts=[ToolCallPart(call.name, call.arguments, tool_call_id=call.id) for call in calls]
    )
    yield _results(calls)


def _results(calls: Iterable[ToolCall]) -> ModelRequest:
    results: list[ModelRequestPart] = [
        ToolReturnPart(
            call.name,
            call.result,
            tool_call_id=call.id,
            outcome="failed" if call.is_error else "success",
        )
        for call in calls
    ]
    return ModelRequest(parts=results)


def _object(arguments: str) -> str:
    """Return JSON text of an object: the arguments themselves if they are one."""
    if not arguments.strip():
        return "{}"
    try:
        is_object = isinstance(pydantic_core.from_json(arguments), dict)
    except ValueError:
        is_object = False
    is_object = is_object and not has_numbers_beyond_json(arguments)
    return arguments if is_object else pydantic_core.to_json({NO_JSON: arguments}).decode()
