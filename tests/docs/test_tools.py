"""The examples in docs/tools.md: they run, a payment is made once, and none without approval."""

import asyncio
import json
import re
import sys
import threading
import tomllib
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from parley_server.agents.file.definitions import AgentsFile, McpServer
from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.agents.steps import MAY_HAVE_RUN
from parley_server.core.model import AgentRun, GivenKind, PendingKind, Step, StepKind
from support.agent_runs import Told, a_run, told_by
from support.waiting_turns import WaitingTurn

DOCUMENT = (Path(__file__).parents[2] / "docs" / "tools.md").read_text()
IDEMPOTENT, ONCE, APPROVALS, SERVER = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
FILES = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


class Payments(ThreadingHTTPServer):
    """A service that makes one payment for each key, and says its number."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Payment)
        self.made: dict[str, dict[str, Any]] = {}
        self.may_answer = threading.Event()


class Payment(BaseHTTPRequestHandler):
    server: Payments

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Idempotency-Key"]
        self.server.made.setdefault(key, json.loads(body))
        number = list(self.server.made).index(key) + 1
        self.server.may_answer.wait(10)
        answer = json.dumps({"payment": number}).encode()
        with suppress(OSError):  # who asked has been killed
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - its name there
        """Log nothing."""


@pytest.fixture
def payments(monkeypatch: pytest.MonkeyPatch) -> Iterator[Payments]:
    with Payments() as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        monkeypatch.setenv("PAYMENTS_URL", f"http://127.0.0.1:{service.server_port}")
        yield service
        service.may_answer.set()
        service.shutdown()
        thread.join()


class KeptSteps:
    """Steps in memory."""

    def __init__(self) -> None:
        self.done: list[Step] = []

    async def store(self, kind: StepKind, body: str) -> None:
        self.done.append(Step(len(self.done) + 1, kind, body))


def an_agent(source: str, *calls: DeltaToolCall) -> PydanticAgent:
    """Return the agent of an example, whose model makes these calls."""

    async def speak(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if isinstance(messages[-1].parts[-1], ToolReturnPart):
            yield "done"
        else:
            yield dict(enumerate(calls))

    example: dict[str, Any] = {}
    exec(source, example)
    agent, model = example["agent"], FunctionModel(stream_function=speak)
    agent.model = model
    return PydanticAgent(agent, model)


def with_steps(steps: KeptSteps) -> AgentRun:
    """Return an attempt of one turn, with the steps of those before it."""
    return replace(a_run(turn_id=uuid.UUID(int=1)), steps=steps)


async def stopped(telling: "asyncio.Task[Told]") -> None:
    telling.cancel()
    with suppress(asyncio.CancelledError):
        await telling


async def test_payment_that_was_cut_short_is_made_once(payments: Payments) -> None:
    """Fails when a call has another key in the next attempt, or two calls have one."""
    orders = [
        DeltaToolCall("pay", json.dumps({"order": order, "cents": 5}), tool_call_id=order)
        for order in ("a", "b")
    ]
    agent, steps = an_agent(IDEMPOTENT, *orders), KeptSteps()
    telling = asyncio.create_task(told_by(agent, with_steps(steps)))
    while len(payments.made) < 2:
        assert not telling.done(), telling
        await asyncio.sleep(0.01)
    await stopped(telling)
    payments.may_answer.set()
    told = await told_by(agent, with_steps(steps))

    assert [{"order": "a", "cents": 5}, {"order": "b", "cents": 5}] == sorted(
        payments.made.values(), key=lambda made: str(made["order"])
    )
    assert {"Payment 1 is made.", "Payment 2 is made."} == {call.result for call in told.calls}


async def test_letter_that_may_have_been_sent_is_not_sent_again() -> None:
    letter = json.dumps({"address": "Rome", "text": "Hello."})
    agent = an_agent(ONCE, DeltaToolCall("send_letter", letter, tool_call_id="c"))
    steps = KeptSteps()
    sent = await told_by(agent, with_steps(steps))
    steps.done = steps.done[:1]  # its worker died before the result was stored
    told = await told_by(agent, with_steps(steps))

    assert ["The letter is on its way."] == [call.result for call in sent.calls]
    assert [MAY_HAVE_RUN] == [call.result for call in told.calls]


async def test_refunds_and_large_vouchers_wait_for_approval() -> None:
    calls = [
        DeltaToolCall("refund", json.dumps({"order": "7", "cents": 5}), tool_call_id="c1"),
        *(
            DeltaToolCall("give_voucher", json.dumps(arguments), tool_call_id=arguments["customer"])
            for arguments in ({"customer": "Ann", "cents": 5}, {"customer": "Bob", "cents": 2000})
        ),
    ]
    turn = WaitingTurn(an_agent(APPROVALS, *calls))
    refund, voucher = await turn.waits()
    turn.give(refund, GivenKind.APPROVAL)
    turn.give(voucher, GivenKind.DENIAL, "Too much.")
    told = await turn.attempt()

    assert PendingKind.APPROVAL is refund.kind is voucher.kind
    assert [
        f"5 cents of order 7 are paid back under {refund.call_key}.",
        "Ann has a voucher of 5 cents.",
        "Too much.",
    ] == [call.result for call in told.calls]


def test_schema_of_the_callers_tool_is_one() -> None:
    (request,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    (tool,) = json.loads(request)["tools"]

    assert ["order"] == json.loads(tool["parameters_schema"])["required"]


@pytest.mark.slow
async def test_server_of_the_page_acts_once_for_each_key(tmp_path: Path) -> None:
    (tmp_path / "rooms.py").write_text(SERVER)
    table = McpServer(command=[sys.executable, str(tmp_path / "rooms.py")], start_s=60)
    servers = McpServers({"rooms": table})
    (server,) = servers.for_agent(["rooms"])

    def booked(key: str) -> Any:
        return server.call("book", {"room": "7"}, {"parley/call_key": key})

    first, again, other = [await booked("a"), await booked("a"), await booked("b")]
    await servers.close()

    assert "Booking 1 is for room 7." == first == again
    assert "Booking 2 is for room 7." == other


@pytest.mark.parametrize("text", FILES, ids=["servers", "rules"])
async def test_tables_of_the_page_can_be_followed(text: str) -> None:
    file = AgentsFile.model_validate(tomllib.loads(text))
    servers = McpServers(file.mcp)

    table = file.agents["shop"]
    MoreTools(servers.for_agent(table.mcp), table.tools).check(Agent(FunctionModel(_silent)))
    await servers.close()


def _silent(messages: list[ModelMessage], info: AgentInfo) -> Any:
    raise AssertionError
