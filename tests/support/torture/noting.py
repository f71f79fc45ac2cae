"""An agent whose tool takes a while and writes down which attempt it was told; it says back."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel


def _write(line: str) -> None:
    with Path(os.environ["TORTURE_NOTES"]).open("a") as notes:
        notes.write(line + "\n")


async def _speak(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
    parts = [part for each in messages if isinstance(each, ModelRequest) for part in each.parts]
    if isinstance(parts[-1], ToolReturnPart):
        yield next(str(part.content) for part in parts[::-1] if isinstance(part, UserPromptPart))
    else:
        yield {0: DeltaToolCall(name="work", json_args="{}", tool_call_id="c")}


agent = Agent(FunctionModel(stream_function=_speak))


@agent.tool
async def work(ctx: RunContext) -> str:
    """Take a while, and write down for which attempt, at its beginning and at its end."""
    told = ctx.metadata or {}
    note = {"turn": told["turn_id"], "attempt": told["attempt"], "pid": os.getpid()}
    _write(json.dumps({**note, "is_begun": True}))
    await asyncio.sleep(float(os.environ["TORTURE_TOOL_S"]))
    _write(json.dumps(note))
    return "worked"
