"""A server of the `mcp` package: `python -m support.mcp_servers.tools [PORT]`.

Without a port it speaks over its standard input and output. MCP_NOTES names a folder: `note` and
`once` leave there what they were called with; `die` ends the process as often as DIE_TIMES says.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("tools of a test", log_level="CRITICAL")
NOTES = Path(os.environ.get("MCP_NOTES", "."))
sys.stderr.write(os.environ.get("MCP_SAYS", ""))
sys.stderr.flush()


@server.tool()
def where() -> str:
    """Say in which process it runs."""
    return str(os.getpid())


@server.tool()
def environment() -> str:
    """Say all variables that it was given."""
    return json.dumps(dict(os.environ))


@server.tool()
def large(size: int) -> str:
    """Return so many bytes."""
    return "x" * size


@server.tool()
async def work(text: str) -> str:
    """Do what the words of support.agent_limits ask of a tool."""
    match text.split():
        case ["hang"]:
            await asyncio.Event().wait()
        case ["result", size]:
            return "y" * int(size)
    return "worked"


@server.tool()
def fail(text: str) -> str:
    """Fail with this text."""
    raise ToolError(text)


@server.tool()
def picture() -> Image:
    """Return an image."""
    return Image(data=b"\x89PNG" + b"0" * 1000, format="png")


@server.tool()
def note(text: str, ctx: Context) -> str:
    """Leave a note, with what the call says of itself."""
    meta = dict(ctx.request_context.meta or {})
    headers = dict(ctx.headers or {})
    with (NOTES / "notes").open("a") as notes:
        notes.write(json.dumps({"text": text, "meta": meta, "headers": headers}) + "\n")
    return f"noted {text}"


@server.tool()
async def die(text: str) -> str:
    """End the process, once; after that, say so."""
    gone = NOTES / f"gone-{text}"
    if gone.exists():
        return f"survived {text}"
    gone.touch()
    os._exit(1)


@server.tool()
async def hang() -> str:
    """Never come to an end."""
    (NOTES / "hangs").touch()
    await asyncio.Event().wait()
    return "never"


@server.tool()
def loud(size: int) -> str:
    """Write so much to the standard error."""
    sys.stderr.write("e" * size)
    sys.stderr.flush()
    return "said"


@server.tool()
async def learn(name: str, ctx: Context) -> str:
    """Have one tool more from now on, and say so."""

    def new() -> str:
        return f"I am {name}."

    server.add_tool(new, name=name, description="A new one.")
    await ctx.session.send_tool_list_changed()
    return "learned"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]), max_sessions=None)
    else:
        server.run()
