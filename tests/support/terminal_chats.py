"""A person who talks with `parley chat` on a terminal."""

import asyncio
from collections.abc import Callable
from typing import Any

from support.services import Service, a_token
from support.terminals import Terminal

PROMPT = "> "
CTRL_D, ALT_ENTER, UP = "\x04", "\x1b\r", "\x1b[A"


async def talked(
    talk: Callable[[Terminal], Any],
    address: str,
    *arguments: str,
    columns: int = 120,
    rows: int = 40,
    command: str = "chat",
    **variables: str,
) -> Any:
    """Let a person talk on a terminal."""

    def sit_down() -> Any:
        variables.setdefault("PARLEY_TOKEN", a_token())
        variables.setdefault("PARLEY_ADDRESS", address)
        with Terminal(command, *arguments, columns=columns, rows=rows, **variables) as terminal:
            return talk(terminal)

    return await asyncio.to_thread(sit_down)


def say(terminal: Terminal, text: str) -> None:
    terminal.wait_for(f"\n{PROMPT}" if terminal.screen.count("\n") else PROMPT)
    terminal.send(text + "\r")


def leave(terminal: Terminal) -> None:
    terminal.wait_for(f"\n{PROMPT}")
    terminal.send(CTRL_D)
    assert 0 == terminal.ended()


def address_of(service: Service) -> str:
    return f"127.0.0.1:{service.port}"
