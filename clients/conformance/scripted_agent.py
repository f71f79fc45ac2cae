r"""The agents behind the conformance scenarios: each does what the user's message says.

recall              says the window that it was shown, a line for each earlier message
script\n…           plays the lines below, in order:
    say TEXT        says the text, to the end of the line
    tool WORD …     looks each word up with its tool, all of them in one step
    call NAME:WORD … calls each of these tools with its word, all of them in one step
    told            says what the tools of the step before have returned, a line for each
    hold KEY        waits until some turn releases the key
    release KEY     lets go whoever holds, or comes to hold, the key
    fail KEY        fails as a provider does that is down, at its first run with this key
    refuse          fails as a provider does that refuses the request
anything else       is said back

A tool is one of the caller's, or one of its own: `look_up`, and `send`, which needs an approval.

Nothing in it depends on time or chance: a turn stays under way for as long as its script holds.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from pydantic_ai import Agent, Tool
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

MODEL = "scripted"
UNKNOWN_WORD = "nonsense"
"""Looking it up fails."""

_released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
_failed: set[str] = set()


async def _respond(
    messages: list[ModelMessage], _info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    prompts = [n for n, message in enumerate(messages) if _said_by_user(message)]
    message = _said_by_user(messages[prompts[-1]])
    steps_done = sum(isinstance(m, ModelResponse) for m in messages[prompts[-1] :])
    if message == "recall":
        yield _recalled(messages[: prompts[-1]])
    elif message.startswith("script\n"):
        async for piece in _played(message.split("\n")[1:], steps_done, _told(messages[-1])):
            yield piece
    else:
        yield message


async def _played(
    lines: Sequence[str], steps_done: int, told: str
) -> AsyncIterator[str | DeltaToolCalls]:
    """Play a script from behind the tool lines that are done up to the next one, or to its end."""
    left = (line.partition(" ")[::2] for line in lines)
    for _ in range(steps_done):
        next((rest for verb, rest in left if verb in ("tool", "call")), None)
    for verb, rest in left:
        match verb:
            case "say":
                yield rest
            case "told":
                yield told
            case "tool":
                yield _calls([("look_up", word) for word in rest.split()], steps_done + 1)
                return
            case "call":
                calls = (call.partition(":")[::2] for call in rest.split())
                yield _calls(list(calls), steps_done + 1)
                return
            case _:
                await _done(verb, rest)


async def _done(verb: str, rest: str) -> None:
    """Do what says nothing."""
    match verb:
        case "hold":
            await _released[rest].wait()
        case "release":
            _released[rest].set()
        case "fail":
            if rest not in _failed:
                _failed.add(rest)
                raise ModelHTTPError(503, MODEL)
        case "refuse":
            raise ModelHTTPError(401, MODEL)
        case _:
            raise ValueError(f"no line of a script: {verb}")


def _calls(calls: Sequence[tuple[str, str]], step: int) -> DeltaToolCalls:
    return {
        number: DeltaToolCall(name, f'{{"word": "{word}"}}', tool_call_id=f"call_{step}_{number}")
        for number, (name, word) in enumerate(calls, 1)
    }


def _told(message: ModelMessage) -> str:
    returned = [part for part in message.parts if isinstance(part, ToolReturnPart)]
    return "\n".join(part.model_response_str() for part in returned)


def _said_by_user(message: ModelMessage) -> str:
    if not isinstance(message, ModelRequest):
        return ""
    texts = [part.content for part in message.parts if isinstance(part, UserPromptPart)]
    return "".join(text for text in texts if isinstance(text, str))


def _recalled(messages: Sequence[ModelMessage]) -> str:
    lines = []
    for message in messages:
        if text := _said_by_user(message):
            lines.append(f"user: {text}")
        if isinstance(message, ModelResponse):
            texts = [part.content for part in message.parts if isinstance(part, TextPart)]
            lines += [f"assistant: {text}" for text in texts]
    return "\n".join(lines) or "nothing"


def look_up(word: str) -> str:
    """Say what a word means."""
    if word == UNKNOWN_WORD:
        raise KeyError(word)
    return f"{word} is known"


def send(word: str) -> str:
    """Send a word to somebody."""
    return f"{word} is sent"


def _scripted(model: str) -> Agent:
    tools = [Tool(look_up, takes_ctx=False), Tool(send, takes_ctx=False, requires_approval=True)]
    return Agent(FunctionModel(stream_function=_respond, model_name=model), tools=tools)


agent = _scripted(MODEL)
other = _scripted("other")
