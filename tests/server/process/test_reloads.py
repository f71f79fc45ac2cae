"""An agents file that is read again, and what agents hold: servers of tools, users' objects."""

import asyncio
import json
import sys
import textwrap
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import BadSettings
from parley_server.process.agents import FiledAgents
from parley_server.process.worker import Worker
from support.fake_openai import Call, FakeOpenAI, Say
from support.mcp_children import TESTS, a_text, a_tool
from support.services import Service, StartService, refused, settings_for, until_true

USERS = """
import asyncio
from pydantic_ai import Agent, FunctionToolset

class AtHome(FunctionToolset):
    async def __aenter__(self):
        self.home = asyncio.get_running_loop()
        return await super().__aenter__()

tools = AtHome()

@tools.tool_plain
async def where() -> str:
    return "at home" if asyncio.get_running_loop() is tools.home else "elsewhere"

agent = Agent("openai-chat:any", toolsets=[tools], defer_model_check=True)
"""
"""A user's agent with a toolset that belongs to the loop on which it was entered."""

numbers = count(1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.toml"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"users_of_reloads_{next(numbers)}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(USERS))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")


def agents_of(service: Service) -> FiledAgents:
    agents = service.worker.agents
    assert isinstance(agents, FiledAgents)
    return agents


def in_two_steps(call: str, before: Callable[[], object] = lambda: None) -> Callable[[Any], Say]:
    """Return a model that calls a tool and then says so, in every turn."""

    def step(request: dict[str, Any]) -> Say:
        if request["messages"][-1]["role"] == "tool":
            return Say("Done.")
        before()
        return Say("", [Call(call)])

    return step


def a_server(name: str, *tools: str, **changes: str) -> list[str]:
    """Return the table of a server whose tools say that they are done."""
    program = TESTS / "support" / "mcp_servers" / "garbage.py"
    results = {tool: a_text(f"{tool} done") for tool in tools}
    script = json.dumps({"tools": [a_tool(tool) for tool in tools], "results": results})
    return [
        f"[mcp.{name}]",
        f"command = {json.dumps([sys.executable, str(program)])}",
        f"env = {{ MCP_SCRIPT = {json.dumps(script)} }}",
        "start_s = 30",
        *(f"{key} = {value}" for key, value in changes.items()),
    ]


async def test_users_agent_with_other_settings_stays_in_the_thread_that_entered_it(
    start_service: StartService, path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where a reload enters the agent once more: its tools belong to the first loop."""
    monkeypatch.setenv("KEY", "sk-1")
    with (
        FakeOpenAI([in_two_steps("where")]) as one,
        FakeOpenAI([in_two_steps("where")]) as two,
    ):

        def table(fake: FakeOpenAI) -> list[str]:
            settings = (f'base_url = "{fake.base_url}"', 'api_key = "$KEY"')
            return ["[agents.shop]", f'model = "python:{module}:agent"', *settings]

        write(path, *table(one))
        service = await start_service(agents_file=path)
        first = await service.chat()
        write(path, *table(one), "tools.where.timeout_s = 20")
        await agents_of(service).reload()
        await until_true(lambda: not agents_of(service).closing)
        second = await service.chat()
        monkeypatch.setenv("KEY", "sk-2")
        write(path, *table(two), "tools.where.approval = true")
        await agents_of(service).reload()
        await until_true(lambda: not agents_of(service).closing)
        third = await service.chat()

        results = [call.result for answer in (first, second) for call in answer.tool_calls]
        assert ["at home", "at home"] == results
        assert ["where"] == [call.name for call in third.pending_calls]
        assert "Bearer sk-2" == two.requests[0].headers["authorization"]


async def test_users_agent_that_comes_back_is_entered_again(
    start_service: StartService, path: Path, module: str
) -> None:
    with FakeOpenAI([in_two_steps("where")]) as one, FakeOpenAI([in_two_steps("where")]) as two:
        bird = ("[agents.bird]", 'model = "echo"')

        def shop(fake: FakeOpenAI) -> tuple[str, ...]:
            model, base_url = f'model = "python:{module}:agent"', f'base_url = "{fake.base_url}"'
            return ("[agents.shop]", model, base_url, 'api_key = "$HOME"')

        write(path, 'default = "bird"', *bird, *shop(one))
        service = await start_service(agents_file=path)
        results = []
        for fake in (one, None, two):
            write(path, 'default = "bird"', *bird, *(shop(fake) if fake else ()))
            await agents_of(service).reload()
            await until_true(lambda: not agents_of(service).closing)
            names = [thread.name for thread in threading.enumerate()]
            assert (fake is not None) == (f"agent {module}:agent" in names)
            if fake is not None:
                answer = await service.chat(agent="shop")
                results += [call.result for call in answer.tool_calls]

        assert ["at home", "at home"] == results
        assert two.requests


async def test_servers_of_tools_stay_for_an_attempt_of_an_agent_that_is_two_reloads_gone(
    start_service: StartService, path: Path
) -> None:
    """Fails where a reload ends servers once the agents of the file before it are free."""
    asked, going_on = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        going_on.wait(30)

    with FakeOpenAI([in_two_steps("look", wait)]) as slow, FakeOpenAI([Say("Hello.")]) as quick:

        def agent(name: str, fake: FakeOpenAI) -> list[str]:
            url = f'base_url = "{fake.base_url}"'
            return [f"[agents.{name}]", 'model = "openai-chat:any"', url, 'mcp = ["shop"]']

        default = 'default = "quick"'
        both = [*agent("quick", quick), *agent("slow", slow)]
        write(path, default, *both, *a_server("shop", "look"))
        service = await start_service(agents_file=path)
        turn = asyncio.create_task(service.chat(agent="slow"))
        await asyncio.to_thread(asked.wait, 30)
        write(path, default, *agent("quick", quick), *a_server("shop", "look"))
        await agents_of(service).reload()
        write(path, default, *agent("quick", quick), *a_server("shop", "look", timeout_s="20"))
        await agents_of(service).reload()
        await until_true(lambda: programs() == 2)
        going_on.set()
        answer = await turn

        assert ["look done"] == [call.result for call in answer.tool_calls]
        await until_true(lambda: not agents_of(service).closing)
        assert 1 == programs()


def programs() -> int:
    """Return how many servers of tools run."""
    children = psutil.Process().children()
    return sum("garbage.py" in " ".join(child.cmdline()) for child in children)


async def test_reload_in_vain_leaves_nothing_open(start_service: StartService, path: Path) -> None:
    """Fails where the servers of a file that cannot be used are not closed: each has a loop."""
    bird = ("[agents.bird]", 'model = "echo"')
    write(path, 'default = "bird"', *bird)
    service = await start_service(agents_file=path)
    process = psutil.Process()
    write(
        path,
        'default = "bird"',
        *bird,
        "[agents.never]",
        'model = "python:nowhere:agent"',
        'mcp = ["shop"]',
        *a_server("shop", "look"),
    )
    await agents_of(service).reload()
    before = process.num_fds()

    for _ in range(5):
        await agents_of(service).reload()

    assert process.num_fds() < before + 5


@pytest.mark.parametrize("command", ['["", "x"]', '["a\\u0000b"]'])
async def test_table_of_a_server_that_cannot_be_right_is_told_by_line(
    database_url: str, path: Path, command: str
) -> None:
    """Fails where it is found out after the file was checked: a worker ends with a traceback."""
    write(path, "[agents.bird]", 'model = "echo"')
    worker = Worker(settings_for(database_url, agents_file=path, agent=None))
    write(path, "[agents.bird]", 'model = "echo"', "[mcp.shop]", f"command = {command}")

    with capture_logs() as logs:
        await worker.agents.reload()
    with pytest.raises(BadSettings, match=r"agents\.toml:4: mcp\.shop\.command: "):
        Worker(settings_for(database_url, agents_file=path, agent=None))

    (problem,) = (entry["problem"] for entry in logs)
    assert problem.startswith(f"{path}:4: mcp.shop.command: ")
    await worker.agents.close()


WAITING = "tools.pay.run_by = 'caller'"
APPROVED = "tools.look.approval = true"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "call", "given", "expected"),
    [
        (WAITING, "", "pay", {"result": "paid"}, "paid"),
        (WAITING, "tools.pay.description = 'Pays.'\n" + WAITING, "pay", {"result": "paid"}, "paid"),
        (APPROVED, "", "look", {"approval": pb.Approval()}, "look done"),
        (APPROVED, "", "look", {"denial": pb.Denial(reason="No.")}, "No."),
        (APPROVED, "tools.look.run_by = 'caller'", "look", {"approval": pb.Approval()}, None),
        ("tools.look.run_by = 'caller'", "", "look", {"result": "seen"}, "seen"),
        ("tools.look.run_by = 'caller'", APPROVED, "look", {"result": "seen"}, None),
    ],
)
async def test_turn_that_waits_goes_on_under_other_rules(
    start_service: StartService,
    path: Path,
    before: str,
    after: str,
    call: str,
    given: dict[str, Any],
    expected: str | None,
) -> None:
    """What was given counts, unless it is of another kind than what the rules now ask for.

    Fails without the tools that stand in for those that are gone: a caller that has paid would be
    told of by "Unknown tool name".
    """
    with FakeOpenAI([in_two_steps(call)]) as fake:
        table = [
            "[agents.shop]",
            'model = "openai-chat:any"',
            f'base_url = "{fake.base_url}"',
            'mcp = ["shop"]',
        ]
        server = a_server("shop", "look")
        write(path, *table, before, *server)
        service = await start_service(agents_file=path)
        (pending,) = (await service.chat(request_id="r1")).pending_calls
        write(path, *table, after, *server)
        await agents_of(service).reload()

        answer = await service.resume(
            pb.CallResult(call_key=pending.call_key, **given), request_id="r1"
        )

    told = [tool["function"]["name"] for tool in fake.requests[-1].json.get("tools", ())]
    assert ("pay" in told) == (call == "pay" and bool(after))
    assert ("Done.", [call]) == (answer.response, [each.name for each in answer.tool_calls])
    (made,) = answer.tool_calls
    if expected is not None:
        assert expected == made.result
    else:
        assert made.is_error


async def test_turn_of_an_agent_that_is_gone_goes_on_once_it_is_back(
    start_service: StartService, path: Path
) -> None:
    with FakeOpenAI([in_two_steps("pay")]) as fake:
        bird = ('default = "bird"', "[agents.bird]", 'model = "echo"')
        url = f'base_url = "{fake.base_url}"'
        shop = ("[agents.shop]", 'model = "openai-chat:any"', url, WAITING)
        write(path, *bird, *shop)
        service = await start_service(agents_file=path)
        (pending,) = (await service.chat(agent="shop", request_id="r1")).pending_calls
        write(path, *bird)
        await agents_of(service).reload()
        result = pb.CallResult(call_key=pending.call_key, result="paid")
        assert "AGENT_UNAVAILABLE" == (await refused(service.resume(result, request_id="r1")))[1]
        explained = await service.explain(request_id="r1")
        assert not explained.instructions_unchanged
        write(path, *bird, *shop)
        await agents_of(service).reload()

        answer = await service.chat(agent="shop", request_id="r1")

    assert ("Done.", ["paid"]) == (answer.response, [each.result for each in answer.tool_calls])
