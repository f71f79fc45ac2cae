"""A session with an MCP server, from the library's opening to its closing."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastmcp import Client
from mcp_types import Implementation
from pydantic import SecretStr
from pydantic_ai.mcp import MCPToolset

from parley_server.agents.file.definitions import McpServer
from parley_server.agents.mcp.fitting import fitted
from parley_server.agents.mcp.listing import MAX_LISTED, LeftOut, McpTool, shown
from parley_server.agents.mcp.messages import Complain
from parley_server.agents.mcp.stdio import StdioTransport
from parley_server.agents.mcp.streamable_http import HttpTransport
from parley_server.core.attempts.transcript import storable

CLOSE_S = 5.0
SILENCE_S = 300.0
"""How much longer than a call an HTTP stream may say nothing."""
MAX_PAGES = 64


class ServerDown(Exception):
    """A server cannot be reached."""


class Session:
    """A session, opened and closed by one task of its own, as the library requires."""

    def __init__(self, name: str, table: McpServer, complain: Complain, *, is_modern: bool) -> None:
        self._transport = _transport(name, table, complain)
        self._complain = complain
        client: Client[Any] = Client(
            self._transport,
            init_timeout=table.start_s,
            log_handler=_say_nothing,
            progress_handler=_note_nothing,
            client_info=Implementation(name="parley", version="1"),
            # A server of the time before may die of the question which protocol it speaks.
            mode="auto" if is_modern else "legacy",
        )
        self.toolset = MCPToolset[Any](client, tool_error_behavior="failed", cache_tools=False)
        self.is_broken = False
        self._open = asyncio.Event()
        self._stop = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it is of no use any more."""
        has_died = isinstance(self._transport, StdioTransport) and self._transport.has_ended
        is_done = self._life is not None and self._life.done()
        return self.is_broken or has_died or is_done

    @property
    def said(self) -> str:
        """What a program said on its standard error before it was ready."""
        if not isinstance(self._transport, StdioTransport):
            return ""
        return storable(self._transport.said.decode(errors="replace")).strip()

    async def open(self) -> None:
        """Open it. Raises: whatever the library raises."""
        self._life = asyncio.create_task(self._live())
        opened = asyncio.create_task(self._open.wait())
        try:
            await asyncio.wait([self._life, opened], return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        if self._life.done():
            self._life.result()
            raise ServerDown

    def has_started(self) -> None:
        """Note that from now on users' words may be in what it says."""
        if isinstance(self._transport, StdioTransport):
            self._transport.is_starting = False
            self._transport.said = b""

    async def _live(self) -> None:
        async with self.toolset:
            self._open.set()
            await self._stop.wait()

    async def tools(self) -> list[McpTool]:
        """List the tools, MAX_LISTED at most, each name once. Raises: what the library raises."""
        found: dict[str, McpTool] = {}
        asked: set[str | None] = set()
        cursor: str | None = None
        while cursor not in asked and len(asked) < MAX_PAGES and len(found) <= MAX_LISTED:
            asked.add(cursor)  # the last page has none, which the first one was asked with
            page = await self.toolset.client.list_tools_mcp(cursor=cursor)
            for tool in page.tools:
                if tool.name not in found:
                    told = McpTool(tool.name, tool.description or "", tool.input_schema)
                    found[tool.name] = self._fitted(told)
            cursor = page.next_cursor
        tools = list(found.values())
        if cursor not in asked or len(tools) > MAX_LISTED:
            reason = f"it and those behind it: the server has more than {MAX_LISTED} tools"
            last = tools[MAX_LISTED].name if len(tools) > MAX_LISTED else ""
            self._complain(LeftOut(last, reason))
        return tools[:MAX_LISTED]

    def _fitted(self, tool: McpTool) -> McpTool:
        schema, arguments, changes = fitted(tool.schema)
        for change in changes:
            self._complain(LeftOut(shown(tool.name), change))
        return tool._replace(schema=schema, arguments=arguments)

    async def close(self) -> None:
        """End it, within bounds of time."""
        self.is_broken = True
        self._stop.set()
        if self._life is None:
            return
        done, _ = await asyncio.wait([self._life], timeout=CLOSE_S)
        if not done:
            self._life.cancel()
            await asyncio.wait([self._life], timeout=CLOSE_S)
        if self._life.done() and not self._life.cancelled():
            with suppress(Exception):
                self._life.exception()


def _transport(name: str, table: McpServer, complain: Complain) -> StdioTransport | HttpTransport:
    if table.command is not None:
        return StdioTransport(name, table.command, plain(table.env), table.cwd, complain)
    headers = plain(table.headers)
    return HttpTransport(table.url or "", headers, table.timeout_s + SILENCE_S, complain)


def plain(values: Mapping[str, SecretStr]) -> dict[str, str]:
    """Return values to be handed over."""
    return {name: value.get_secret_value() for name, value in values.items()}


async def _say_nothing(_: object) -> None:
    """Take what a server wants to have logged: it may repeat what was said."""


async def _note_nothing(*_: object) -> None:
    """Take how far a call has come."""
