"""A provider whose answers are written byte for byte, as a test says."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic_ai import Agent

from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from support.agent_runs import Told, a_run, told_by
from support.fake_openai import FakeOpenAI, Raw
from support.openai_script import Json, Step

_BASE = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "x"}
DONE = "data: [DONE]\n\n"


def chunk(delta: object = None, finish: object = None, **fields: Any) -> str:
    """One event of Chat Completions with one choice."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return event({**_BASE, "choices": [choice], **fields})


def event(data: object, name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


def of_choices(*choices: object, **fields: object) -> str:
    """One event of Chat Completions with any choices."""
    return event({"choices": list(choices), **fields})


def said(*pieces: str) -> str:
    return "".join(chunk({"content": piece}) for piece in pieces)


def called(*calls: Json) -> str:
    """One event with pieces of tool calls."""
    return chunk({"tool_calls": list(calls)})


STOP = chunk({}, "stop") + DONE


def a_stream(body: str | bytes) -> Raw:
    data = body if isinstance(body, bytes) else body.encode()
    return Raw(data, content_type="text/event-stream")


def is_after_tools(request: Json) -> bool:
    return bool(request["messages"][-1]["role"] == "tool")


def weather(city: str = "nowhere") -> str:
    return f"sunny in {city}"


def now() -> str:
    return "noon"


TOOLS = (weather, now)


def an_agent(base_url: str, *tools: Any) -> PydanticAgent:
    model = model_of("openai-chat:x", openai_base_url=base_url)
    return PydanticAgent(Agent(model, tools=tools, output_type=[str, type(None)]), model)


async def answer_to(
    body: str | bytes | Raw, tools: Sequence[Any] = TOOLS, after: str | None = None
) -> Told:
    """Return what an agent makes of a body; its second answer, behind tools, is "fine"."""
    first = body if isinstance(body, Raw) else a_stream(body)
    second = a_stream(said("fine") + STOP if after is None else after)

    def step(request: Json) -> Step:
        return second if is_after_tools(request) else first

    with FakeOpenAI([step]) as fake:
        agent = an_agent(fake.base_url, *tools)
        try:
            return await told_by(agent, a_run())
        finally:
            await agent.close()
