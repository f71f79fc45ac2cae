"""Turns with tools of MCP servers, through real workers: under rules, and after a kill (-9)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.agents.file.definitions import ToolRule
from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.model_strings import model_of
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from support.fake_openai import Call, FakeOpenAI, Say
from support.mcp_children import TESTS, a_garbage_table, a_text, a_tool, notes_in, until
from support.processes import ServerProcess
from support.services import StartService, refused

LEASE_S = 1.0


@pytest.fixture
async def servers() -> AsyncIterator[McpServers]:
    tools = [a_tool("look"), a_tool("see")]
    results = {"look": a_text("looked"), "see": a_text("seen")}
    served = McpServers({"shop": a_garbage_table({"tools": tools, "results": results})})
    yield served
    await served.close()


def an_agent(fake: FakeOpenAI, servers: McpServers, **rules: ToolRule) -> PydanticAgent:
    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    return PydanticAgent.of_model(model, more_tools=MoreTools(servers.for_agent(["shop"]), rules))


async def test_caller_approves_one_call_and_runs_the_other(
    start_service: StartService, servers: McpServers
) -> None:
    rules = {"look": ToolRule(approval=True), "see": ToolRule(run_by="caller")}
    with FakeOpenAI([Say("", [Call("look"), Call("see")]), Say("Done.")]) as fake:
        service = await start_service(an_agent(fake, servers, **rules))
        waiting = await service.chat(request_id="r1")
        kinds = {call.name: call for call in waiting.pending_calls}
        assert messages.PENDING_CALL_KIND_APPROVAL == kinds["look"].kind
        assert messages.PENDING_CALL_KIND_RESULT == kinds["see"].kind

        answer = await service.resume(
            pb.CallResult(call_key=kinds["look"].call_key, approval=pb.Approval()),
            pb.CallResult(call_key=kinds["see"].call_key, result="seen by the caller"),
            request_id="r1",
        )

    assert "Done." == answer.response
    assert ["looked", "seen by the caller"] == [call.result for call in answer.tool_calls]


async def test_turn_of_an_agent_whose_server_was_never_reached_is_unavailable(
    start_service: StartService,
) -> None:
    with FakeOpenAI([Say("Done.")]) as fake:
        lost = McpServers({"shop": a_garbage_table({}, command=["no-such-program-here"])})
        service = await start_service(an_agent(fake, lost))

        assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(service.chat())
        await lost.close()


@pytest.mark.slow
async def test_tool_whose_result_is_stored_does_not_run_again_after_a_worker_was_killed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("MCP_NOTES", str(tmp_path))
    turn = {"message": "tea milk wait", "request_id": "r1"}

    def serving() -> ServerProcess:
        return ServerProcess(database_url, module="support.mcp_worker", lease_s=LEASE_S)

    with serving() as first:
        calling = asyncio.create_task(first.chat(**turn))
        await until((tmp_path / "waits").exists)
        first.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await calling
    (tmp_path / "go").touch()
    with serving() as second:
        answer = await second.chat(**turn)

    assert "Noted 3." == answer.response
    assert ["noted tea", "noted milk", "noted wait"] == [c.result for c in answer.tool_calls]
    noted = notes_in(tmp_path)
    assert ["tea", "milk", "wait"] == [note["text"] for note in noted]
    assert 3 == len({note["meta"]["parley/call_key"] for note in noted})
