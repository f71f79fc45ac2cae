"""A user's agent that does what the words of support.agent_limits ask for, for ThreadedAgent."""

import asyncio
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

PIECE = "x" * 1024
ran: list[str] = []
"""The arguments of each run of the tool."""


def _asked(messages: list[ModelMessage]) -> tuple[list[str], int]:
    """Return the words of the turn's message, and how many results there are behind it."""
    words: list[str] = []
    results = 0
    for part in (part for m in messages if isinstance(m, ModelRequest) for part in m.parts):
        if isinstance(part, UserPromptPart):
            words, results = str(part.content).split(), 0
        elif isinstance(part, ToolReturnPart):
            results += 1
    return words, results


async def _script(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    words, results = _asked(messages)
    match words:
        case ["hang"]:
            await asyncio.Event().wait()
        case ["text", size]:
            yield "x" * int(size)
        case ["forever"]:
            while True:
                yield PIECE
                await asyncio.sleep(0)
        case ["calls", count] if info.function_tools:
            yield {
                n: DeltaToolCall(
                    "work", f'{{"text":"{results + n}"}}', tool_call_id=f"{results + n}"
                )
                for n in range(int(count))
            }
        case ["arguments" | "result" as what, size] if results == 0:
            text = "x" * int(size) if what == "arguments" else f"result {size}"
            yield {0: _call(text, "0")}
        case _:
            yield "done"


def _call(text: str, call_id: str) -> DeltaToolCall:
    return DeltaToolCall("work", f'{{"text":"{text}"}}', tool_call_id=call_id)


agent = Agent(FunctionModel(stream_function=_script, model_name="limited"))


@agent.tool_plain
def work(text: str) -> str:
    """Return as much as the text says."""
    ran.append(text)
    word, _, size = text.partition(" ")
    return "y" * int(size) if word == "result" else "worked"
