"""What the client's README shows works."""

import asyncio
import re
import subprocess
import sys

from parley_server.core.attempts.roster import NamedAgent
from support.agents import ScriptedAgent, say_back
from support.rosters import WINDOW, AddAgents, add_agents  # noqa: F401 - a fixture
from support.services import Service, StartService, a_token
from support.terminals import ROOT, environment
from support.waiting import AskingAgent


async def test_the_quick_start_runs_as_it_is(service: Service) -> None:
    readme = (ROOT / "clients" / "python" / "README.md").read_text("utf-8")
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert found
    program = found[1].replace("Client(", f'Client("127.0.0.1:{service.port}", ', 1)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-"],
        input=program.encode(),
        capture_output=True,
        env=environment(PARLEY_TOKEN=a_token()),
        timeout=60,
        check=False,
    )
    assert b"" == done.stderr
    assert [
        "WHAT IS MY NAME?",
        "1 My name is Ada.",
        "2 MY NAME IS ADA.",
        "3 What is my name?",
        "4 WHAT IS MY NAME?",
    ] == done.stdout.decode().splitlines()


async def run_snippets(
    section: str, count: int, address: str, *, given: str, last: str, first: str = "pass"
) -> str:
    """Run a section's snippets as one program, and return what it prints.

    Args:
        given: the parameters that its variables come from.
        last: a line behind the snippets.
        first: a line before them.
    """
    readme = (ROOT / "clients" / "python" / "README.md").read_text("utf-8")
    text = readme.partition(f"## {section}\n")[2].partition("\n## ")[0]
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert count == len(snippets)
    body = "".join(snippets).replace("update.message.content)", "update.message.content); break")
    program = (
        "import asyncio, os\nfrom parley_client import AsyncParleyClient, new_request_id\n"
        f"async def main({given}):\n"
        f"  token = os.environ['PARLEY_TOKEN']\n"
        f"  async with AsyncParleyClient({address!r}, token=token) as parley:\n"
        + "".join(f"    {line}\n" for line in [first, *body.splitlines(), last])
        + "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-"],
        input=program.encode(),
        capture_output=True,
        env=environment(PARLEY_TOKEN=a_token(scope="parley.read parley.write parley.erase")),
        timeout=60,
        check=False,
    )
    assert b"" == done.stderr
    return done.stdout.decode()


async def test_the_snippets_about_streams_run_as_they_are(service: Service) -> None:
    first = await service.chat("Hello.", request_id="order-7")
    printed = await run_snippets(
        "Streams",
        3,
        f"127.0.0.1:{service.port}",
        given=f"conversation_id={first.conversation_id!r}, order_id='order-7', seen=3",
        last="print(answer.response_sequence, turn.state)",
    )
    assert "TELL ME MORE.4 TELL ME MORE.\n4 2\n" == printed


async def test_the_snippets_about_turns_without_a_caller_run_as_they_are(service: Service) -> None:
    printed = await run_snippets(
        "Turns without a caller",
        2,
        f"127.0.0.1:{service.port}",
        given="seen=''",
        last="print(len(seen) > 40)",
    )
    assert ["5 False", "2 True", "report-48 2 1", "True"] == printed.splitlines()


async def test_the_snippets_about_histories_run_as_they_are(service: Service) -> None:
    printed = await run_snippets(
        "Histories",
        4,
        f"127.0.0.1:{service.port}",
        given="",
        last="print('erased:', receipt.state == 2)",
    )
    copied, *exported, tokens, receipt, is_erased = printed.splitlines()
    said = ["1 My name is Ada.", "2 Good morning, Ada."]
    assert ("2", "0", "2 4 0", "erased: True") == (copied, tokens, receipt, is_erased)
    assert [*said, *said] == [line.partition(" ")[2] for line in exported]


async def test_the_snippets_about_conversations_run_as_they_are(
    start_service: StartService,
) -> None:
    service = await start_service(trash_days=1)
    printed = await run_snippets(
        "Conversations",
        3,
        f"127.0.0.1:{service.port}",
        given="",
        last="print((await parley.conversation(conversation_id)).labels['state'])",
    )
    assert "Case 42 42\nclosed\n" == printed


async def test_the_snippet_about_agents_runs_as_it_is(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    add_agents(
        NamedAgent("far", ScriptedAgent(), WINDOW, can_rehearse=False),
        NamedAgent("other", ScriptedAgent(say_back), WINDOW),
    )
    service = await start_service(ScriptedAgent(say_back))
    printed = await run_snippets(
        "Agents and rehearsals",
        1,
        f"127.0.0.1:{service.port}",
        given="",
        last="print([agent.name for agent in agents])",
        first="answer = await parley.chat('Hello.')",
    )
    *told, names = printed.splitlines()
    assert ["1 Hello. 6", "main HELLO. 0", "other HELLO. 0"] == told
    assert "['far', 'main', 'other']" == names


async def test_the_snippet_about_tools_runs_as_it_is(start_service: StartService) -> None:
    service = await start_service(AskingAgent((("weather", "approve"),)))
    printed = await run_snippets(
        "Tools and approvals",
        1,
        f"127.0.0.1:{service.port}",
        given="",
        last="print(answer.tool_calls[1].is_error)",
    )
    told = "The sky over 1-0 is clear., Not without a person."
    assert f"1. done: {told}\nTrue\n" == printed
