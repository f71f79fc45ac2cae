"""An MCP server over HTTP whose answers to tools/call are written out by the test, byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Odd = Callable[[asyncio.StreamWriter, dict[str, Any]], Awaitable[None]]
VERSION = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "odd", "version": "1"},
}
LOOK = {"name": "look", "inputSchema": {"type": "object"}}
FOUND = {"content": [{"type": "text", "text": "found"}]}


def response(
    body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = ""
) -> bytes:
    """Return a whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def result(request: dict[str, Any], value: dict[str, Any]) -> bytes:
    """Return an answer with a result."""
    return response(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": value}).encode())


@dataclass
class OddServer:
    """Answers calls as `odd` says, or as it should if that is None."""

    url: str = ""
    odd: Odd | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """The paths and headers of all requests."""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                self.asked.append((first, headers))
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._answer(writer, json.loads(body) if body else {})
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        match request.get("method"):
            case "initialize":
                writer.write(result(request, VERSION))
            case "tools/list":
                writer.write(result(request, {"tools": [LOOK]}))
            case "tools/call" if self.odd is not None:
                await self.odd(writer, request)
            case "tools/call":
                writer.write(result(request, FOUND))
            case str(method) if method.startswith("notifications/"):
                writer.write(response(b"", status="202 Accepted"))
            case _:
                writer.write(response(b"", status="405 Method Not Allowed"))
        await writer.drain()


@asynccontextmanager
async def odd_server() -> AsyncIterator[OddServer]:
    """Serve on loopback."""
    served = OddServer()
    server = await asyncio.start_server(served.take, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    try:
        yield served
    finally:
        server.close()
