"""A user's agent whose tools wait for the caller: `python:support.approving_module:agent`.

The message says what its model asks for, response by response: "mine+pay look" is a response with
two calls, then one with one call, then "Done." with what came of them. A word like "!within-pay"
has the worker killed (-9) there, once: needs the folder $NOTES.

    look            runs at once
    pay             needs approval, always
    spend           needs approval: it says so itself
    send            needs approval, and must not run twice
    order           is run elsewhere: it says so itself
    wrong           is the caller's, with arguments that are no object
    anything else   is the caller's

With the word "!thinks", each response has a thought that its provider wants back.
Each tool that runs writes a line into $NOTES/notes, if that is set: its name, and its call's key.
"""

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, ApprovalRequired, CallDeferred, RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel


def message_of(messages: list[ModelMessage]) -> str:
    parts = [part for m in messages if isinstance(m, ModelRequest) for part in m.parts]
    return next(str(part.content) for part in parts[::-1] if isinstance(part, UserPromptPart))


def die(point: str, messages: list[ModelMessage]) -> None:
    """Be killed where the message says so: once."""
    message = message_of(messages)
    if f"!{point}" not in message.split():
        return
    try:
        (Path(os.environ["NOTES"]) / message.replace(" ", "_")).mkdir()
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def results(messages: list[ModelMessage]) -> list[ToolReturnPart]:
    """Return what came of the calls since the newest message."""
    found: list[ToolReturnPart] = []
    for part in (part for m in messages if isinstance(m, ModelRequest) for part in m.parts):
        if isinstance(part, UserPromptPart):
            found = []
        elif isinstance(part, ToolReturnPart):
            found.append(part)
    return found


async def speak(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    steps = [word.split("+") for word in message_of(messages).split() if not word.startswith("!")]
    told = results(messages)
    done = len({part.tool_call_id.split("-")[0] for part in told})
    die(f"told-{done}", messages)
    if "!thinks" in message_of(messages).split():
        yield {-1: DeltaThinkingPart(content="Hm.", signature=f"signature {done + 1}")}
    if done == len(steps):
        yield "Done: " + ", ".join(part.model_response_str(wrap_if_error=False) for part in told)
        return
    yield f"Step {done + 1}. "
    yield {
        n: DeltaToolCall(
            name, "[]" if name == "wrong" else json.dumps({"n": n}), tool_call_id=f"c{done + 1}-{n}"
        )
        for n, name in enumerate(steps[done])
    }
    die(f"asked-{done + 1}", messages)


agent = Agent(FunctionModel(stream_function=speak))


def act(ctx: RunContext[Any], name: str) -> str:
    key = (ctx.metadata or {})["call_key"]
    die(f"begun-{name}", ctx.messages)
    if folder := os.environ.get("NOTES"):
        with (Path(folder) / "notes").open("a") as notes:
            notes.write(f"{name} {key}\n")
    die(f"within-{name}", ctx.messages)
    return f"{name}: done"


@agent.tool
async def look(ctx: RunContext[Any], n: int) -> str:
    """Look at something."""
    return act(ctx, "look")


@agent.tool(requires_approval=True)
async def pay(ctx: RunContext[Any], n: int) -> str:
    """Pay something."""
    return act(ctx, "pay")


@agent.tool
async def spend(ctx: RunContext[Any], n: int) -> str:
    """Spend something."""
    if not ctx.tool_call_approved:
        raise ApprovalRequired
    return act(ctx, "spend")


@agent.tool(requires_approval=True, metadata={"once": True})
async def send(ctx: RunContext[Any], n: int) -> str:
    """Send something."""
    return act(ctx, "send")


@agent.tool_plain
async def order(n: int) -> str:
    """Order something abroad."""
    raise CallDeferred
