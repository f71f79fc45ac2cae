"""MCP servers over streamable HTTP: a real one of the `mcp` package, and one of odd answers."""

import asyncio
import gzip
import json
import logging
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from parley_server.agents.file.definitions import McpServer
from parley_server.agents.mcp import connection
from parley_server.agents.mcp.connection import BROKEN_OFF, NOT_REACHED
from parley_server.agents.mcp.messages import MAX_MESSAGE_BYTES, TOO_LONG
from parley_server.agents.mcp.servers import AgentServer, McpServers
from parley_server.agents.mcp.session import ServerDown
from parley_server.core.attempts.transcript import MARK, MAX_RESULT_BYTES
from support.mcp_children import HttpTools, notes_in, said_by
from support.odd_http import Odd, OddServer, odd_server, response, result

SECRET = "sesame-open-4711"
Serve = Callable[..., AgentServer]


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Make a server of a URL; all are closed at the end."""
    monkeypatch.setattr(connection, "RETRY_S", (0.0, 0.0))
    made: list[McpServers] = []

    def serving(url: str, **fields: Any) -> AgentServer:
        table = McpServer.model_validate({"url": url, "start_s": 30, **fields})
        made.append(McpServers({"shop": table}))
        (server,) = made[-1].for_agent(["shop"])
        return server

    yield serving
    for servers in made:
        await servers.close()


@pytest.fixture
async def odd() -> AsyncIterator[OddServer]:
    async with odd_server() as server:
        yield server


async def call(server: AgentServer, tool: str, **arguments: object) -> str:
    return str(await said_by(server.call(tool, arguments, {})))


@pytest.mark.slow
async def test_tools_are_called_with_headers_and_a_server_that_restarts_is_reached_again(
    serve: Serve, tmp_path: Path
) -> None:
    with HttpTools(tmp_path) as http:
        server = serve(http.url, headers={"Authorization": f"Bearer {SECRET}"})
        names = [tool.name for tool in (await server.listed()).tools]
        assert "noted tea" == await server.call("note", {"text": "tea"}, {"parley/call_key": "k"})
        noted = notes_in(tmp_path)[0]
        assert f"Bearer {SECRET}" == noted["headers"]["authorization"]
        assert "k" == noted["meta"]["parley/call_key"]
        large = await call(server, "large", size=100_000)
        assert MAX_RESULT_BYTES >= len(large.encode()) > MAX_RESULT_BYTES - 10
        assert large.endswith(MARK)
        assert f"failed: {TOO_LONG}" == await call(server, "large", size=50_000_000)
        first = await call(server, "where")
        assert f"failed: {BROKEN_OFF}" == await call(server, "die", text="a")
        assert (await call(server, "where")).startswith("failed: ")
        assert names == [tool.name for tool in (await server.listed()).tools]

        http.start()

        assert names == [tool.name for tool in (await server.listed()).tools]
        assert first != await call(server, "where")
        assert "survived a" == await call(server, "die", text="a")
        await call(server, "learn", name="dance")
        assert "dance" in [tool.name for tool in (await server.listed()).tools]


async def answered(serve: Serve, server: OddServer, odd: Odd, **fields: Any) -> tuple[str, str]:
    """Return what becomes of a call that is answered so, and of one after it."""
    reached = serve(server.url, **fields)
    await reached.listed()
    server.odd = odd
    first = await call(reached, "look")
    server.odd = None
    return first, await call(reached, "look")


async def test_answer_that_takes_too_long_fails_its_call_alone(
    serve: Serve, odd: OddServer
) -> None:
    async def never(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    first, second = await answered(serve, odd, never, timeout_s=0.3)

    assert ("failed: The tool did not end within 0.3 s.", "found") == (first, second)


REFUSED = "failed: The tool's server refused the call (code "


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(b"oh no", status="500 Internal Server Error", kind="text/plain"), REFUSED),
        (response(b"<html>", kind="text/html"), REFUSED),
        (response(b"{no json"), REFUSED),
        (response(b"", status="404 Not Found"), REFUSED),
        (
            response(
                b"", status="307 Temporary Redirect", more="Location: http://127.0.0.2:9/mcp\r\n"
            ),
            REFUSED,
        ),
        (response(b"x" * (MAX_MESSAGE_BYTES + 1)), f"failed: {TOO_LONG}"),
        (response(gzip.compress(b"{}"), more="Content-Encoding: gzip\r\n"), REFUSED),
        (response(b"", status="202 Accepted"), REFUSED),
        (response(b"data: {}\n\n", kind="text/event-stream"), "failed: "),
    ],
    ids=["500", "html", "garbage", "404", "redirect", "huge", "gzip", "accepted", "stream"],
)
async def test_odd_answer_fails_its_call_and_the_next_one_is_answered(
    serve: Serve, odd: OddServer, answer: bytes, expected: str
) -> None:
    async def odd_answer(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        writer.write(answer)

    first, second = await answered(serve, odd, odd_answer)

    assert first.startswith(expected)
    assert "found" == second


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_half_a_character_is_no_end_of_an_answer(
    serve: Serve, odd: OddServer, kind: str
) -> None:
    """Fails if the library gets the bytes as they come: the answer is refused."""

    async def half(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        content = [{"type": "text", "text": "\ud83d \u2028 \U0001f600"}]
        told = {"jsonrpc": "2.0", "id": request["id"], "result": {"content": content}}
        before, behind = ("", "") if kind == "application/json" else (": hi\r\ndata: ", "\r\n\r\n")
        answer = response((before + json.dumps(told) + behind).encode(), kind=kind)
        writer.write(answer[:-70])
        await writer.drain()
        writer.write(answer[-70:])

    first, second = await answered(serve, odd, half)

    assert ("\ufffd \u2028 \U0001f600", "found") == (first, second)


async def test_broken_connection_fails_its_call_and_the_next_one_is_answered(
    serve: Serve, odd: OddServer
) -> None:
    async def hang_up(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        writer.transport.abort()

    first, second = await answered(serve, odd, hang_up)

    assert f"failed: {BROKEN_OFF}" == first
    assert "found" == second


async def test_body_without_end_takes_little_memory(serve: Serve, odd: OddServer) -> None:
    """Fails if bodies are read to their end: this one has none."""
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def forever(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    first, _ = await answered(serve, odd, forever, timeout_s=60)

    assert f"failed: {TOO_LONG}" == first
    used_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert used_kb < 8 * MAX_MESSAGE_BYTES / 1024


async def test_secrets_of_headers_are_in_no_result_and_no_log(
    serve: Serve, odd: OddServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails if results are not searched for secrets."""

    async def echo(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        sent = json.dumps(odd.asked[-1][1])
        writer.write(result(request, {"content": [{"type": "text", "text": f"got: {sent}"}]}))

    with caplog.at_level(logging.DEBUG):
        first, _ = await answered(
            serve, odd, echo, headers={"Authorization": f"Bearer {SECRET}", "X-Shop": "open7777"}
        )

    assert "[secret]" in first
    assert SECRET not in first + caplog.text
    assert "open7777" not in first + caplog.text


async def test_server_that_is_not_there_is_down(serve: Serve) -> None:
    server = serve("http://127.0.0.1:9/mcp?token=abc", timeout_s=1)

    with pytest.raises(ServerDown):
        await server.listed()

    assert f"failed: {NOT_REACHED}" == await call(server, "look")
