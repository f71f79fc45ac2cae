"""The server's side of the shop: an agent with a tool that needs approval, `charge`.

    PYTHONPATH=examples PARLEY_AGENT=python:shop_agent:agent parley-server serve

So that it runs without a key, its model is a script: to a message such as "Buy 2 pen" it asks for
the price, charges the customer, and orders. `price` and `order` are tools of the caller; see
shop-go. In your own agent, a real model stands in its place: `Agent("openai:gpt-5-mini")`.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel


async def script(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
    """Do what a model would: one tool after another, then an answer."""
    message = ""
    results: dict[str, str] = {}
    for part in (part for m in messages if isinstance(m, ModelRequest) for part in m.parts):
        if isinstance(part, UserPromptPart):
            message, results = str(part.content), {}  # the newest message counts
        elif isinstance(part, ToolReturnPart):
            results[part.tool_name] = part.model_response_str(wrap_if_error=False)
    match message.split():
        case ["Buy", number, article] if number.isdigit():
            count = int(number)
        case _:
            yield "Say what you want, such as: Buy 2 pen"
            return
    if "price" not in results:
        yield asks("price", article=article)
    elif not results["price"].isdigit():
        yield results["price"]  # there is no such article
    elif "charge" not in results:
        yield asks("charge", cents=count * int(results["price"]))
    elif not results["charge"].startswith("charged"):
        yield f"You are not charged: {results['charge']}"
    elif "order" not in results:
        yield asks("order", article=article, count=count)
    else:
        yield f"{results['order']}, {results['charge']}."


def asks(tool: str, **arguments: Any) -> dict[int, DeltaToolCall]:
    """Return a call of a tool."""
    return {0: DeltaToolCall(tool, json.dumps(arguments))}


agent = Agent(FunctionModel(stream_function=script))


@agent.tool(requires_approval=True)
def charge(ctx: RunContext, cents: int) -> str:
    """Charge the customer."""
    # A line for each time that it runs. A worker that dies in here leaves a call that runs again,
    # under the same key: give it to your payment service as its idempotency key.
    with Path(os.environ.get("SHOP_CHARGES", "charges.txt")).open("a") as charges:
        charges.write(f"{(ctx.metadata or {})['call_key']} {cents}\n")
    return f"charged {cents} cents"
