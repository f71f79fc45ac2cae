"""An agent that asks its caller, where that has a tool: `python:support.soak.agent:agent`."""

from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

ANSWER = "It is sunny."


async def _speak(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
        yield ANSWER
    else:
        tool = info.function_tools[0]
        yield {0: DeltaToolCall(tool.name, json_args="{}", tool_call_id="call")}


agent = Agent(FunctionModel(stream_function=_speak))
