"""What `parley-server agents` does: check an agents file, list its agents, ask one of them."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from parley_server.agents.file.building import Lineup, line_up
from parley_server.agents.file.definitions import AgentsFile, AgentTable
from parley_server.agents.file.problems import nearest
from parley_server.agents.file.reading import ReadFile, read_agents_file
from parley_server.agents.local_model import Endpoint, LocalModel, find_model
from parley_server.config import BadSettings, Settings
from parley_server.core.attempts.roster import NamedAgent
from parley_server.core.attempts.transcript import Transcript
from parley_server.core.errors import AgentError
from parley_server.core.model import (
    AgentRun,
    Answer,
    Context,
    Owner,
    Role,
    Text,
    Window,
    WindowMessage,
)
from parley_server.process.agents import close_lineup, defaults_of, surroundings_of

LOCAL = "local"
NOT_RUNNING = ("http://127.0.0.1:1", "none")
"""Stands for the local model where it is not asked."""
PIPE_COLUMNS = 200
NOTHING = "-"

Say = Callable[[str], None]


def schema() -> str:
    """Return the JSON schema of agents files, for editors."""
    found = AgentsFile.model_json_schema()
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Parley's agents file",
        "description": found.pop("description", ""),
    }
    found.pop("title", None)
    for table in (found, *found["$defs"].values()):
        for key in table["properties"].values():
            if "patternProperties" in key:  # other names are none
                key["additionalProperties"] = False
    return json.dumps({**head, **found}, indent=2, ensure_ascii=False)


def show(settings: Settings, path: Path) -> None:
    """Check a file as a start does, and print its agents as a table.

    Raises: BadSettings, BadAgent: names everything that is wrong.
    """
    file = read_agents_file(path, os.environ)
    agents, default = file.definitions.agents, file.definitions.default
    if any(table.model == LOCAL for table in agents.values()):
        find_model()
    asyncio.run(close_lineup(_made(settings, file, NOT_RUNNING)))
    columns = Table("name", "model", "tools", "limits", "description", box=None, pad_edge=False)
    for name, table in agents.items():
        mark = f"{name} (default)" if name == (default or name) else name
        cells = (mark, table.model, _tools(table), _limits(table), table.description)
        columns.add_row(*(RichText(cell) for cell in cells))
    is_terminal = sys.stdout.isatty()
    Console(width=None if is_terminal else PIPE_COLUMNS).print(columns)


def _made(settings: Settings, file: ReadFile, local: Endpoint) -> Lineup:
    """Make the agents of a file. Raises: BadSettings, BadAgentsFile."""
    around = replace(surroundings_of(settings), local=local)
    return line_up(file, defaults_of(settings), around)


def _tools(table: AgentTable) -> str:
    rules = []
    for name, rule in table.tools.items():
        said = [
            text
            for text, holds in (
                ("run by the caller", rule.run_by == "caller"),
                ("approval", rule.approval),
                ("once", rule.once),
            )
            if holds
        ]
        rules.append(f"{name} ({', '.join(said)})" if said else name)
    return ", ".join([*(f"mcp {name}" for name in table.mcp), *rules]) or NOTHING


def _limits(table: AgentTable) -> str:
    limits = table.limits
    numbers = (
        (limits.seconds, "s"),
        (limits.reply_bytes, "bytes"),
        (limits.tool_calls, "tool calls"),
        (limits.output_tokens, "output tokens"),
        (limits.tokens_a_day, "tokens a day"),
    )
    return ", ".join(f"{n:,g} {unit}" for n, unit in numbers if n is not None) or NOTHING


def ask(settings: Settings, path: Path, name: str, message: str, *, say: Say) -> None:
    """Ask one agent of a file, and print its answer as it comes.

    Raises: BadSettings, BadAgent: the file is wrong, there is no such agent, or it fails.
    """
    file = read_agents_file(path, os.environ)
    agents = file.definitions.agents
    if name not in agents:
        raise BadSettings(f"{path} has no agent {name}: {nearest(name, agents)}")
    alone = file.definitions.model_copy(update={"agents": {name: agents[name]}, "default": name})
    with ExitStack() as started:
        local = NOT_RUNNING
        if agents[name].model == LOCAL:
            model = LocalModel(say=say)
            started.callback(model.stop)
            local = model.start()
        lineup = _made(settings, file._replace(definitions=alone), local)
        asyncio.run(_ask(lineup, message, settings.chat_timeout_s, say))


async def _ask(lineup: Lineup, message: str, most_s: float, say: Say) -> None:
    named = lineup.named[0]
    timeout_s = min(named.limits.seconds or most_s, most_s)
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _answer(named, message, timeout_s)
    except TimeoutError:
        raise BadSettings(f"{named.name} did not answer within {timeout_s:g} s") from None
    except AgentError as error:
        raise BadSettings(f"{named.name} did not answer: {error}") from None
    finally:
        await close_lineup(lineup)
    say(_told(answer))


async def _answer(named: NamedAgent, message: str, timeout_s: float) -> Answer:
    window = Window([WindowMessage(1, Role.USER, message)], Context(1, 1, 0))
    run = AgentRun(
        owner=Owner.of("", "operator"),
        conversation_id=uuid.uuid4(),
        turn_id=uuid.uuid4(),
        attempt=1,
        window=window,
        instructions=named.window.told(""),
        time_left_s=timeout_s,
        limits=named.limits,
    )
    transcript = Transcript.limited(named.agent.model, named.limits)
    async with aclosing(named.agent.run(run)) as events:
        async for event in events:
            taken = transcript.add(event)
            if isinstance(taken, Text):
                typer.echo(_shown(taken.text), nl=False)
            if transcript.is_closed:
                break
    typer.echo()
    return transcript.answer()


def _told(answer: Answer) -> str:
    """Return what is to be said of an answer beside its text."""
    parts = [answer.model, answer.finish_reason.name, *_calls(answer)]
    if answer.usage is not None:
        parts.append(f"{answer.usage.input_tokens} + {answer.usage.output_tokens} tokens")
    return ", ".join(part for part in parts if part)


def _calls(answer: Answer) -> Iterable[str]:
    for call in answer.tool_calls:
        yield f"{call.name} failed" if call.is_error else f"called {call.name}"


def _shown(text: str) -> str:
    """Return a text without what a terminal would take for commands."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
