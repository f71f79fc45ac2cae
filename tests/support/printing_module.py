"""A user's agent whose code prints, as code does that was written for a terminal."""

from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

print("made at the import", flush=True)  # noqa: T201 - what this module is for


async def _script(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
    print("x" * 100_000, flush=True)  # noqa: T201 - more than a pipe takes
    yield "printed"


agent = Agent(FunctionModel(stream_function=_script, model_name="printing"))
