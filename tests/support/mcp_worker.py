"""A worker whose agent has tools of an MCP server, as a process: `python -m support.mcp_worker`.

Its model notes each word of the message with the server's tool `note`, one after the other, then
says how many. At "wait" it waits until MCP_NOTES has a file `go`: so it can be killed there.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.config import load
from parley_server.process.worker import Worker
from support.mcp_children import a_table

NOTES = Path(os.environ.get("MCP_NOTES", "."))


async def speak(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    parts = [part for m in messages if isinstance(m, ModelRequest) for part in m.parts]
    words = [str(p.content) for p in parts if isinstance(p, UserPromptPart)][-1].split()
    done = sum(isinstance(part, ToolReturnPart) for part in parts)
    if done == len(words):
        yield f"Noted {done}."
        return
    while words[done] == "wait" and not (NOTES / "go").exists():
        (NOTES / "waits").touch()
        await asyncio.sleep(0.02)
    yield {0: DeltaToolCall("note", f'{{"text": "{words[done]}"}}', tool_call_id=f"c{done}")}


async def serve() -> None:
    servers = McpServers({"shop": a_table(NOTES)})
    more = MoreTools(servers.for_agent(["shop"]))
    agent = PydanticAgent.of_model(FunctionModel(stream_function=speak), more_tools=more)
    worker = Worker(load(), agent=agent)
    async with worker.serving() as port:
        print(f"serves on 127.0.0.1:{port}", file=sys.stderr, flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
