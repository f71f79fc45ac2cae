"""The shop's stock: an MCP server with two tools, over its standard input and output.

The agents file starts it: `command = ["python", "stock_server.py"]`. It counts in memory, so that
it needs nothing else; each worker that starts one has its own. Yours asks the shop's database.
"""

from typing import Any

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("stock", log_level="WARNING")
stock = {"pens": 40, "lamps": 3, "notebooks": 12}
taken: dict[str, str] = {}
"""What was answered for each call key: yours is a table with a unique index on the key."""


@server.tool()
def count(article: str) -> str:
    """Say how many of an article there are."""
    if article not in stock:
        return f"There are no {article}, only {', '.join(stock)}."
    return f"There are {stock[article]} {article}."


@server.tool()
def take(article: str, number: int, ctx: Context[Any]) -> str:
    """Take so many of an article out of the stock."""
    # A call that was cut short is made again under the same key. It takes nothing twice.
    said: dict[str, Any] = {**(ctx.request_context.meta or {})}
    key = said["parley/call_key"]
    if key not in taken:
        if not 0 < number <= stock.get(article, 0):
            return f"You cannot take {number}. {count(article)}"
        stock[article] -= number
        taken[key] = f"You have {number} {article}; {stock[article]} are left."
    return taken[key]


if __name__ == "__main__":
    server.run()
