"""An agent that both releases can run: `python:support.two_releases_module:agent`.

It says what it was told, of a message with "slow" after a second; one with "pay" waits for approval
first. Each payment writes a line into the file $NOTES.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from support.approving_module import message_of, results


async def speak(past: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    message = message_of(past)
    if "slow" in message:
        await asyncio.sleep(1)  # so that the turn is seen while it runs
    if "pay" in message and not results(past):
        yield {0: DeltaToolCall("pay", "{}", tool_call_id="c")}
    else:
        yield f"told: {message}"


agent = Agent(FunctionModel(stream_function=speak, model_name="two-releases"))


@agent.tool_plain(requires_approval=True)
def pay() -> str:
    """Pay something."""
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write("paid\n")
    return "paid"
