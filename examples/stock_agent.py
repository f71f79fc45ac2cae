"""An agent in Python whose tools come from an MCP server, by `mcp = ["stock"]` in the agents file.

So that it runs without a key, its model is a script: to "Take 2 pens" it calls the tool `take`, to
anything else `count` with the last word, and it says what the tool has said. In your own agent, a
real model stands in its place: `Agent("openai:gpt-5-mini", instructions="…")`.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel


async def script(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
    """Do what a model would: call a tool, then tell its result."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        yield last.model_response_str()
        return
    words = str(last.content).rstrip("?.! ").split() if isinstance(last, UserPromptPart) else []
    match words:
        case ["Take", number, article] if number.isdigit():
            tool, arguments = "take", {"article": article, "number": int(number)}
        case [*_, article]:
            tool, arguments = "count", {"article": article}
        case _:
            yield "Ask for an article, such as: How many pens?"
            return
    yield {0: DeltaToolCall(tool, json.dumps(arguments))}


agent = Agent(FunctionModel(stream_function=script, model_name="script"), name="stock")
