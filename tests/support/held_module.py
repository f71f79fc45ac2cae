"""A user's agent that answers once the test lets it."""

import asyncio
import threading
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

entered = threading.Event()
opened = threading.Event()


async def _script(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
    entered.set()
    await asyncio.to_thread(opened.wait)
    yield "held"


agent = Agent(FunctionModel(stream_function=_script, model_name="held"))
