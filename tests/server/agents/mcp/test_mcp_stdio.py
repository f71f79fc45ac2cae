"""MCP servers that are child processes: real ones of the `mcp` package, and one of garbage."""

import asyncio
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from mcp_types import INVALID_PARAMS

from parley_server.agents.file.definitions import McpServer
from parley_server.agents.mcp import connection
from parley_server.agents.mcp.connection import BROKEN_OFF, NOT_REACHED
from parley_server.agents.mcp.listing import MAX_DESCRIPTION_BYTES
from parley_server.agents.mcp.messages import MAX_MESSAGE_BYTES, TOO_LONG, UNREADABLE
from parley_server.agents.mcp.servers import AgentServer, McpServers
from parley_server.agents.mcp.session import ServerDown
from parley_server.core.attempts.transcript import MARK, MAX_RESULT_BYTES
from support.mcp_children import (
    TESTS,
    a_garbage_table,
    a_table,
    a_text,
    a_tool,
    is_alive,
    notes_in,
    said_by,
    until,
)

SECRET = "sesame-open-4711"
Serve = Callable[[McpServer], AgentServer]


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Make a server of a table; all are closed at the end."""
    monkeypatch.setattr(connection, "RETRY_S", (0.0, 0.0))
    made: list[McpServers] = []

    def serving(table: McpServer) -> AgentServer:
        made.append(McpServers({"shop": table}))
        (server,) = made[-1].for_agent(["shop"])
        return server

    yield serving
    for servers in made:
        await servers.close()


async def call(server: AgentServer, tool: str, **arguments: object) -> str:
    return str(await said_by(server.call(tool, arguments, {})))


async def names(server: AgentServer) -> list[str]:
    return [tool.name for tool in (await server.listed()).tools]


async def test_tools_are_listed_and_called_with_what_the_call_says_of_itself(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(a_table(tmp_path))

    assert "note" in await names(server)
    meta = {"parley/call_key": "k1", "traceparent": "00-1-2-01"}
    assert "noted tea" == await server.call("note", {"text": "tea"}, meta)

    assert "tea" == notes_in(tmp_path)[0]["text"]
    assert meta == {k: v for k, v in notes_in(tmp_path)[0]["meta"].items() if k in meta}


async def test_agents_on_several_loops_share_one_process(serve: Serve, tmp_path: Path) -> None:
    server = serve(a_table(tmp_path))

    here = await call(server, "where")
    there = await asyncio.to_thread(lambda: asyncio.run(call(server, "where")))

    assert here == there


async def test_server_that_dies_between_calls_is_started_again(
    serve: Serve, tmp_path: Path
) -> None:
    """Fails if a session whose output is closed counts as one that goes on."""
    server = serve(a_table(tmp_path))
    first = await call(server, "where")
    os.kill(int(first), signal.SIGKILL)
    await until(lambda: not is_alive(int(first)))

    second = await call(server, "where")

    assert second.isdigit()
    assert first != second


async def test_call_that_cannot_be_written_fails_and_the_next_one_does_not(
    serve: Serve, tmp_path: Path
) -> None:
    """Fails when what writes ends unseen: each call from then on waits for its time to be over."""
    server = serve(a_table(tmp_path))
    assert (await call(server, "where")).isdigit()

    assert f"failed: {BROKEN_OFF}" == await call(server, "note", text="half of a pair: \ud83d")
    assert "noted tea" == await call(server, "note", text="tea")


@pytest.mark.slow
async def test_server_that_dies_in_a_call_fails_it_and_is_started_again(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(a_table(tmp_path))

    assert f"failed: {BROKEN_OFF}" == await call(server, "die", text="a")
    assert "survived a" == await call(server, "die", text="a")


async def test_call_that_hangs_ends_and_others_go_on(serve: Serve, tmp_path: Path) -> None:
    server = serve(a_table(tmp_path))
    pid = await call(server, "where")

    hanging = asyncio.create_task(said_by(server.call("hang", {}, {}, 0.5)))
    assert pid == await call(server, "where")

    assert "failed: The tool did not end within 0.5 s." == await hanging
    assert pid == await call(server, "where")


async def test_cancelled_call_leaves_the_connection_as_it_is(serve: Serve, tmp_path: Path) -> None:
    server = serve(a_table(tmp_path))
    pid = await call(server, "where")
    hanging = asyncio.create_task(server.call("hang", {}, {}))
    await until((tmp_path / "hangs").exists)

    hanging.cancel()

    assert pid == await call(server, "where")


async def test_results_are_cut_and_images_are_told_of(serve: Serve, tmp_path: Path) -> None:
    server = serve(a_table(tmp_path))

    large = await call(server, "large", size=100_000)
    assert MAX_RESULT_BYTES >= len(large.encode()) > MAX_RESULT_BYTES - 10
    assert large.endswith(MARK)
    expected = "[image/png, 1004 bytes, left out: only text is passed on]"
    assert expected == await call(server, "picture")


@pytest.mark.slow
async def test_result_of_50_mb_fails_alone_and_takes_little_memory(
    serve: Serve, tmp_path: Path
) -> None:
    """Fails (takes 100 MB and more) if lines are read to their end."""
    server = serve(a_table(tmp_path, timeout_s=60))
    pid = await call(server, "where")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert f"failed: {TOO_LONG}" == await call(server, "large", size=50_000_000)

    used_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert used_kb < 8 * MAX_MESSAGE_BYTES / 1024
    assert pid == await call(server, "where")


async def test_changed_list_of_tools_is_there_when_it_is_asked_for(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(a_table(tmp_path))
    assert "dance" not in await names(server)

    await call(server, "learn", name="dance")

    assert "dance" in await names(server)
    assert "I am dance." == await call(server, "dance")


async def test_tools_own_error_is_told_without_the_servers_secrets(
    serve: Serve, tmp_path: Path
) -> None:
    """Fails if results are not searched for secrets."""
    server = serve(a_table(tmp_path, env={"SHOP_KEY": SECRET}))

    failed = await call(server, "fail", text=f"no order 7, key {SECRET}")

    assert failed.endswith("no order 7, key [secret]")
    assert SECRET not in await call(server, "environment")


async def test_secret_where_a_servers_words_are_cut_is_hidden_first(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails if words are cut before they are searched: half of a secret is not found."""
    left = len(MARK.encode()) + 8
    refusal = {"code": INVALID_PARAMS, "message": "x" * (1024 - left) + SECRET * 9}
    answer = json.dumps({"jsonrpc": "2.0", "id": "ID", "error": refusal}).replace('"ID"', "ID")
    described = "x" * (MAX_DESCRIPTION_BYTES - left) + SECRET * 9
    script = {"tools": [a_tool(description=described)], "results": {"look": {"raw": answer}}}
    server = serve(a_garbage_table(script, env={"MCP_SCRIPT": json.dumps(script), "T_KEY": SECRET}))
    says = f"import sys; sys.exit('{SECRET}' + 'x' * 1014)"
    down = serve(a_garbage_table({}, command=[sys.executable, "-c", says], env={"T_KEY": SECRET}))

    (tool,) = (await server.listed()).tools
    refused = await call(server, "look")
    with caplog.at_level(logging.INFO, "parley.agents"), pytest.raises(ServerDown):
        await down.listed()

    (record,) = [r for r in caplog.records if r.message == "MCP server not reached"]
    for said in (refused, tool.description, record.__dict__["said"]):
        assert "xxx" in said
        assert SECRET[:8] not in said
        assert SECRET[-8:] not in said


async def test_program_gets_what_its_table_names_and_nothing_of_the_workers(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_DATABASE_URL", "postgresql://of-the-worker")

    given = await serve(a_table(tmp_path, env={"SHOP": "7"})).call("environment", {}, {})

    told = given if isinstance(given, dict) else json.loads(given)
    ours = {name for name in told if not name.startswith("LC_")}
    assert {"PATH", "HOME", "PYTHONPATH", "MCP_NOTES", "SHOP"} == ours


async def test_what_a_server_writes_to_its_standard_error_blocks_nothing_and_is_not_logged(
    serve: Serve, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve(a_table(tmp_path, env={"MCP_SAYS": "hello there"}))

    assert "said" == await call(server, "loud", size=3_000_000)

    captured = capfd.readouterr()
    assert len(captured.out + captured.err) < 10_000


async def test_server_that_never_starts_is_down_and_its_last_words_are_logged_without_secrets(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    says = f"import sys; sys.exit('no such database, {SECRET}')"
    table = McpServer.model_validate(
        {"command": [sys.executable, "-c", says], "env": {"TOKEN": SECRET}}
    )
    server = serve(table)

    with caplog.at_level(logging.INFO, "parley.agents"), pytest.raises(ServerDown):
        await server.listed()

    (record,) = [r for r in caplog.records if r.message == "MCP server not reached"]
    assert "no such database, [secret]" == record.__dict__["said"]
    assert f"failed: {NOT_REACHED}" == await call(server, "where")


async def test_program_that_is_not_there_is_down(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(McpServer(command=["no-such-program-here"]))

    with pytest.raises(ServerDown):
        await server.listed()

    assert "cannot be started: No such file" in caplog.records[-1].__dict__["said"]


async def test_server_that_is_down_is_left_alone_for_a_while(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if each use starts the program."""
    monkeypatch.setattr(connection, "RETRY_S", (60.0, 60.0))
    count = "import os, sys; open(sys.argv[1], 'a').write('x')"
    starts = tmp_path / "starts"
    server = serve(McpServer(command=[sys.executable, "-c", count, str(starts)]))

    for _ in range(3):
        with pytest.raises(ServerDown):
            await server.listed()

    assert "x" == starts.read_text()


@pytest.mark.slow
async def test_known_server_that_cannot_be_reached_keeps_its_tools_and_fails_its_calls(
    serve: Serve, tmp_path: Path
) -> None:
    """Fails if a list that is known is forgotten with its session."""
    flag = tmp_path / "may-start"
    flag.touch()
    start = f"import os, runpy, sys\nif not os.path.exists({str(flag)!r}): sys.exit(1)\n"
    start += "runpy.run_module('support.mcp_servers.tools', run_name='__main__')"
    table = a_table(tmp_path)
    server = serve(table.model_copy(update={"command": [sys.executable, "-c", start]}))
    known = await names(server)
    flag.unlink()
    os.kill(int(await call(server, "where")), signal.SIGKILL)

    failed = f"failed: {NOT_REACHED}"
    async with asyncio.timeout(30):
        while await call(server, "where") != failed:
            pass

    assert known == await names(server)
    flag.touch()
    assert (await call(server, "where")).isdigit()


GARBAGE = 'this is no JSON\n{"jsonrpc": "1.0"}\n[]\n\n\x00\xff\n'


async def test_garbage_on_the_standard_output_is_left_out(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(
        a_garbage_table(
            {"garbage": GARBAGE, "tools": [a_tool()], "results": {"look": a_text("found")}}
        )
    )

    assert ["look"] == await names(server)
    assert "found" == await call(server, "look")
    assert 1 == sum(r.message == "MCP server wrote garbage" for r in caplog.records)
    assert "no JSON" not in caplog.text


async def test_answer_that_is_no_result_fails_its_call(serve: Serve) -> None:
    results = {"look": {"content": "no list"}, "see": a_text("seen")}
    server = serve(a_garbage_table({"tools": [a_tool(), a_tool("see")], "results": results}))

    assert (await call(server, "look")).startswith("failed: ")
    assert "seen" == await call(server, "see")


def a_line(text: str, **fields: str) -> dict[str, object]:
    """Return a result written as a line, with a text as it stands in JSON."""
    result = '{"content":[{"type":"text","text":"' + text + '"}]}'
    told = {"jsonrpc": '"2.0"', "id": "ID", "result": result, **fields}
    said = [f'"{key}":{value}' for key, value in told.items() if value]
    return {"raw": "{" + ",".join(said) + "}"}


BAD_IMAGE = '{"content":[{"type":"image","data":"abcde","mimeType":"image/png"}]}'
ODD_LINES = {
    "half a character": (a_line(r"a\ud83db \\ud83d \ud83d\ude00"), "a\ufffdb \\ud83d \U0001f600"),
    "no UTF-8": (a_line("caf\udce9"), "caf\ufffd"),
    "a byte order mark": ({"raw": "\ufeff" + str(a_line("found")["raw"])}, "found"),
    "a list": (a_line("", result="[]"), f"failed: {UNREADABLE}"),
    "no version": (a_line("", jsonrpc=""), f"failed: {UNREADABLE}"),
    "deep": (a_line("", result='{"x":' + "[" * 300 + "]" * 300 + "}"), f"failed: {UNREADABLE}"),
    "a long number": (a_line("", result='{"x":' + "9" * 5000 + "}"), f"failed: {UNREADABLE}"),
    "half an image": (a_line("", result=BAD_IMAGE), f"failed: {UNREADABLE}"),
    "no result": (a_line("", result='{"content":"no list"}'), f"failed: {UNREADABLE}"),
    "an error of its own": (
        a_line("", result="", error='{"code":-32600,"message":"no"}'),
        "failed: The tool's server refused the call (code -32600).",
    ),
}


async def test_odd_answer_fails_its_call_at_most_and_the_program_goes_on(serve: Serve) -> None:
    """Fails if an answer that cannot be read is garbage, so that its call waits in vain.

    Or if it counts as the end of the connection, which other calls use.
    """
    results = {name: result for name, (result, _) in ODD_LINES.items()}
    tools = [a_tool(name) for name in (*ODD_LINES, "where")]
    script = {"tools": tools, "results": {**results, "where": a_line("PID")}}
    server = serve(a_garbage_table(script, timeout_s=5))
    pid = await call(server, "where")

    told = {name: await call(server, name) for name in ODD_LINES}

    assert {name: expected for name, (_, expected) in ODD_LINES.items()} == told
    assert pid == await call(server, "where")


async def test_line_without_end_or_id_ends_the_session_and_no_more(serve: Serve) -> None:
    results = {"look": {"line": MAX_MESSAGE_BYTES + 1}, "see": a_text("seen")}
    server = serve(a_garbage_table({"tools": [a_tool(), a_tool("see")], "results": results}))

    assert f"failed: {BROKEN_OFF}" == await call(server, "look")
    assert "seen" == await call(server, "see")


async def test_one_wrong_tool_does_not_take_the_others_with_it(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails if the library reads the list as it came."""
    wrong = [{"inputSchema": {}}, a_tool("text", "no"), a_tool(7), "no tool", a_tool("a", [])]
    server = serve(
        a_garbage_table({"tools": [*wrong, a_tool(outputSchema=7, annotations=[])], "results": {}})
    )

    assert ["look"] == await names(server)
    left_out = [r.__dict__ for r in caplog.records if r.message == "MCP tool"]
    assert ("shop", "text") in [(each["server"], each["tool"]) for each in left_out]
    assert "its inputSchema is no JSON object" in [each["reason"] for each in left_out]


LAST_CURSORS = {
    "none": {},
    "null": {"nextCursor": None},
    "an empty one": {"nextCursor": ""},
    "the same again": {"nextCursor": "2"},
    "no text": {"nextCursor": 3},
}


@pytest.mark.parametrize("last", LAST_CURSORS.values(), ids=LAST_CURSORS.keys())
async def test_pages_are_read_to_the_last_and_each_tool_is_listed_once(
    serve: Serve, caplog: pytest.LogCaptureFixture, last: dict[str, object]
) -> None:
    """Fails if an empty cursor asks for the first page again, to the limit of pages."""
    pages = {
        "": {"tools": [a_tool("a"), a_tool("b")], "nextCursor": "2"},
        "2": {"tools": [a_tool("b"), a_tool("c")], **last},
    }
    server = serve(a_garbage_table({"pages": pages, "results": {}}))

    assert ["a", "b", "c"] == await names(server)
    assert not [record for record in caplog.records if record.message == "MCP tool"]


async def test_server_of_the_time_before_that_ignores_what_it_does_not_know_is_reached(
    serve: Serve,
) -> None:
    """Fails if each attempt asks first which protocol it speaks."""
    script = {"tools": [a_tool()], "results": {}, "ignores": ["server/discover"]}
    server = serve(a_garbage_table(script, start_s=2))

    with pytest.raises(ServerDown):
        await server.listed()

    assert ["look"] == await names(server)


async def test_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    script = {"tools": [], "results": {}, "stays": True}
    say_pid = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); "
    table = a_garbage_table(script)
    program = (table.command or [])[1]
    run = f"{say_pid} import runpy; runpy.run_path({program!r}, run_name='__main__')"
    pid_file = tmp_path / "pid"
    command = [sys.executable, "-c", run, str(pid_file)]
    servers = McpServers({"shop": table.model_copy(update={"command": command})})
    (server,) = servers.for_agent(["shop"])
    await server.listed()

    await servers.close()

    assert not is_alive(int(pid_file.read_text()))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel kills it on Linux only")
async def test_program_dies_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    """Fails without the launcher: this program goes on when its input closes."""
    script = {"tools": [], "results": {}, "stays": True}
    worker = f"""
        import asyncio, json, os, sys
        from parley_server.agents.mcp.servers import McpServers
        from support.mcp_children import a_garbage_table

        async def main():
            servers = McpServers({{"shop": a_garbage_table(json.loads({json.dumps(script)!r}))}})
            (server,) = servers.for_agent(["shop"])
            await server.listed()
            children = open(f"/proc/{{os.getpid()}}/task/" + str([
                t for t in os.listdir("/proc/self/task")
                if open(f"/proc/self/task/{{t}}/children").read()][0]) + "/children").read()
            print(children.split()[0], flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    path = os.pathsep.join(p for p in sys.path if p) + os.pathsep + str(TESTS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(worker)),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    assert is_alive(child)

    process.kill()
    await process.wait()

    await until(lambda: not is_alive(child))


async def test_closed_servers_are_down(serve: Serve, tmp_path: Path) -> None:
    servers = McpServers({"shop": a_table(tmp_path)})
    (server,) = servers.for_agent(["shop"])
    pid = int(await call(server, "where"))

    await servers.close()

    assert not is_alive(pid)
    with pytest.raises(ServerDown):
        await server.listed()
