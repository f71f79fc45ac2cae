"""docs/waiting.md: what it shows from Python and with `parley` runs, in the order of the page."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from parley_server.agents.pydantic_agent import PydanticAgent
from support.guides import as_pattern
from support.services import StartService, a_token
from support.terminals import ROOT, environment

PAGE = (ROOT / "docs" / "waiting.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[WITH_PARLEY] = re.findall(r"^## With `parley`\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", WITH_PARLEY, re.DOTALL)
NAMES = "from parley.v1.conversation_pb2 import Tool\n" + (
    "from parley.v1.conversation_service_pb2 import Approval, CallResult, Denial\n"
)


async def speak(
    messages: list[ModelMessage], _info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Call the tool that the question needs, then say what it has returned."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        yield last.model_response_str()
        return
    assert isinstance(last, UserPromptPart)
    question = str(last.content)
    if "weather" in question:
        yield {0: DeltaToolCall("weather", '{"city": "Turin"}', tool_call_id="c")}
    else:
        [order] = re.findall(r"\d+", question)
        yield {0: DeltaToolCall("refund", f'{{"order": "{order}"}}', tool_call_id="c")}


def a_shop() -> PydanticAgent:
    model = FunctionModel(stream_function=speak)
    agent = Agent(model)

    @agent.tool_plain(requires_approval=True)
    def refund(order: str) -> str:
        return f"Order {order} is paid back."

    return PydanticAgent(agent, model)


def program(address: str) -> Iterator[str]:
    yield f"import asyncio, os\nfrom parley_client import AsyncParleyClient\n{NAMES}"
    yield "async def main():\n"
    yield "  token = os.environ['PARLEY_TOKEN']\n"
    yield f"  async with AsyncParleyClient({address!r}, token=token) as parley:\n"
    for line in "".join(SNIPPETS).splitlines():
        yield f"    {line}\n"
    yield "asyncio.run(main())\n"


@pytest.mark.slow
async def test_the_page_is_true(start_service: StartService) -> None:
    service = await start_service(a_shop())
    address = f"127.0.0.1:{service.port}"
    variables = environment(PARLEY_TOKEN=a_token(), PARLEY_ADDRESS=address)
    variables["PATH"] = f"{ROOT / '.venv' / 'bin'}:{variables['PATH']}"

    async def printed(*command: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            env=variables,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert 0 == done.returncode, done.stderr.decode()
        return done.stdout.decode()

    assert [
        "The sky over Turin is clear.",
        'weather {"city": "Turin"} 36',
        '{"sky": "clear"}',
        "too expensive",
    ] == (await printed(sys.executable, "-c", "".join(program(address)))).splitlines()

    assert 2 == len(COMMANDS)
    for commands, expected in COMMANDS:
        found = await printed("bash", "-ec", commands)
        assert as_pattern(expected).fullmatch(found.strip()), found
