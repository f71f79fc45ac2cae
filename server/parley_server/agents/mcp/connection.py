"""One MCP server: reached at its first use, listed at the beginning of a turn, called.

    it cannot be reached, and never was   → ServerDown: what tools it has is unknown
    it cannot be reached any more         → its tools are those that it had; a call has an error
    it dies between calls                 → the next use reaches it again
    it dies in a call                     → the call's result says so; the next use reaches it again
    it does not end a call in time        → the call's result says so; the connection stays
    its answer to a call is no result     → the same
    its list of tools changes             → the next turn has the new one

After a failure it is left alone for a while: RETRY_S, doubled with each failure.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, INVALID_REQUEST
from pydantic_ai import ModelRetry
from pydantic_ai.exceptions import ToolFailed

from parley_server.agents.file.definitions import McpServer
from parley_server.agents.mcp.listing import MAX_DESCRIPTION_BYTES, LeftOut, McpTool
from parley_server.agents.mcp.messages import TOO_LONG, UNREADABLE
from parley_server.agents.mcp.results import Secrets, told
from parley_server.agents.mcp.session import CLOSE_S, ServerDown, Session, plain
from parley_server.core.attempts.transcript import cut, storable

log = logging.getLogger("parley.agents")

RETRY_S = (0.5, 30.0)
"""How long a server is left alone after its first failure, and at most."""
REFRESH_S = 5.0
"""How long a turn waits for a list of tools of which it could use the one before."""
MAX_WARNED = 1000
"""Of how many tools it is remembered that there was a warning."""
NOT_REACHED = "The tool's server cannot be reached."
BROKEN_OFF = "The connection to the tool's server broke off; whether the tool ran is not known."
_READING = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError)
"""What the library raises of a result that it cannot make sense of."""
_MAX_COMPLAINT_BYTES = 1024
MAX_SAID = 1024
"""How much of the end of a program's standard error is logged, in characters."""


class Connection:
    """A server and its session, if there is one. All of it happens on one event loop."""

    def __init__(self, name: str, table: McpServer) -> None:
        self.name = name
        self.table = table
        self._secrets = Secrets(plain(table.headers), plain(table.env))
        self._session: Session | None = None
        self._connecting: asyncio.Task[Session] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._known: Sequence[McpTool] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._calls = 0
        self._warned: set[LeftOut] = set()
        self._ending: set[asyncio.Task[None]] = set()

    async def listed(self) -> Sequence[McpTool]:
        """Return the server's tools, as they are now or, if it does not say, as they were.

        Raises: ServerDown: it was never reached.
        """
        try:
            before = self._session
            session = await self._reached()
            if session is before:
                if self._refreshing is None:
                    self._refreshing = asyncio.create_task(self._refresh(session))
                    self._refreshing.add_done_callback(self._forget_refreshing)
                await asyncio.shield(self._refreshing)
        except ServerDown:
            if self._known is None:
                raise
        return self._known or ()

    def _forget_refreshing(self, _: object) -> None:
        self._refreshing = None

    async def _refresh(self, session: "Session") -> None:
        """List the tools again. Raises: ServerDown: it has died and cannot be reached again."""
        try:
            async with asyncio.timeout(min(REFRESH_S, self.table.start_s)):
                self._known = await self._tools(session)
        except TimeoutError:
            # If it is busy with a call, ending it would end that as well.
            session.is_broken = session.is_broken or self._calls == 0
            log.warning("MCP tools not listed", extra={"server": self.name, "error": "timeout"})
        except Exception as error:
            session.is_broken = True
            details = {"server": self.name, "error": type(error).__name__}
            log.warning("MCP connection lost", extra=details)
            await self._reached()

    async def _tools(self, session: Session) -> list[McpTool]:
        return [
            tool._replace(
                description=cut(self._secrets.hidden(tool.description), MAX_DESCRIPTION_BYTES),
                schema=self._secrets.hidden_in(tool.schema),
            )
            for tool in await session.tools()
        ]

    async def call(
        self, tool: str, arguments: dict[str, Any], meta: Mapping[str, Any], timeout_s: float
    ) -> Any:
        """Call a tool. Returns: its result, in at most MAX_RESULT_BYTES.

        Raises: ToolFailed: it failed, or did not end in time, or the server cannot be reached.
        """
        try:
            session = await self._reached()
        except ServerDown:
            raise ToolFailed(NOT_REACHED) from None
        self._calls += 1
        try:
            async with asyncio.timeout(timeout_s) as limit:
                result = await session.toolset.direct_call_tool(
                    tool, arguments, metadata=dict(meta)
                )
            return told(result, self._secrets)
        except ToolFailed as error:  # the tool's own words
            raise ToolFailed(told(error.message, self._secrets)) from None
        except ModelRetry as error:  # an error of the protocol
            raise ToolFailed(self._refused(session, error)) from None
        except TimeoutError:
            if not limit.expired():
                raise self._broken_off(session) from None
            raise ToolFailed(f"The tool did not end within {timeout_s:g} s.") from None
        except _READING as error:
            details = {"server": self.name, "error": type(error).__name__}
            log.warning("MCP result not readable", extra=details)
            raise ToolFailed(UNREADABLE) from None
        except Exception as error:
            details = {"server": self.name, "error": type(error).__name__}
            log.warning("MCP call failed", extra=details)
            raise self._broken_off(session) from None
        finally:
            self._calls -= 1

    def _refused(self, session: "Session", error: ModelRetry) -> str:
        """Return what the model is told of an error of the protocol.

        Its text is the server's only where that is of use: the library makes others, out of what
        it had before it.
        """
        cause = error.__cause__
        code = cause.code if isinstance(cause, MCPError) else 0
        for ours in (TOO_LONG, UNREADABLE):
            if ours in error.message:
                return ours
        if code == INVALID_PARAMS:
            return cut(self._secrets.hidden(storable(error.message)), _MAX_COMPLAINT_BYTES)
        # Over HTTP, the second may mean that the session is over; a program says it of one call.
        if code == CONNECTION_CLOSED or (code == INVALID_REQUEST and self.table.url):
            session.is_broken = True
        if code == CONNECTION_CLOSED:
            return BROKEN_OFF
        return f"The tool's server refused the call (code {code})."

    def _broken_off(self, session: "Session") -> ToolFailed:
        session.is_broken = True
        return ToolFailed(BROKEN_OFF)

    async def _reached(self) -> "Session":
        """Return a session. Raises: ServerDown."""
        if self._session is not None and not self._session.is_over:
            return self._session
        if self._connecting is None:
            if time.monotonic() < self._not_before:
                raise ServerDown
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._forget_connecting)
        return await asyncio.shield(self._connecting)

    def _forget_connecting(self, connecting: "asyncio.Task[Session]") -> None:
        self._connecting = None
        if not connecting.cancelled():
            connecting.exception()  # somebody may have waited for it, or no longer

    async def _connect(self) -> "Session":
        if self._session is not None:
            self._end(self._session)
            self._session = None
        session = Session(self.name, self.table, self.warn, is_modern=self._failures % 2 == 0)
        try:
            async with asyncio.timeout(self.table.start_s):
                await session.open()
                self._known = await self._tools(session)
        except Exception as error:
            self._failures += 1
            first_s, most_s = RETRY_S
            wait_s = min(first_s * 2 ** min(self._failures - 1, 16), most_s)
            self._not_before = time.monotonic() + wait_s
            said = session.said
            self._end(session)
            details = {"server": self.name, "error": type(error).__name__, "again_in_s": wait_s}
            if said:
                details["said"] = self._secrets.hidden(said)[-MAX_SAID:]
            log.warning("MCP server not reached", extra=details)
            raise ServerDown from None
        except asyncio.CancelledError:
            self._end(session)
            raise
        self._failures = 0
        self._session = session
        session.has_started()
        log.info("MCP server reached", extra={"server": self.name, "tools": len(self._known)})
        return session

    def warn(self, complaint: LeftOut) -> None:
        """Say that a tool is left out or renamed, once."""
        if complaint in self._warned or len(self._warned) >= MAX_WARNED:
            return
        self._warned.add(complaint)
        tool, reason = map(self._secrets.hidden, complaint)
        log.warning("MCP tool", extra={"server": self.name, "tool": tool, "reason": reason})

    def _end(self, session: "Session") -> None:
        ending = asyncio.create_task(session.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End the session, and the program behind it. Calls under way fail."""
        self._not_before = float("inf")
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._session is not None:
            self._end(self._session)
            self._session = None
        if self._ending:
            await asyncio.wait(set(self._ending), timeout=2 * CLOSE_S)
