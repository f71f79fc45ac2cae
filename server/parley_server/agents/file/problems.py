"""What is wrong with an agents file."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from parley_server.agents.errors import BadAgent
from parley_server.agents.file.lines import KeyPath

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Wrong(NamedTuple):
    """Something that is wrong at a key."""

    path: KeyPath
    text: str
    """What is wrong, and what would be right. It holds no value of the file: it may be a secret."""


class Problem(NamedTuple):
    """The same, with where it is."""

    file: str
    line: int | None
    """From 1. None: it is the file as a whole."""
    path: KeyPath
    text: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, dotted(self.path), self.text) if part)


class BadAgentsFile(BadAgent):
    """An agents file cannot be used. The message has a line for each problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = sorted(set(problems), key=lambda p: (p.line or 0, p))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(path: KeyPath) -> str:
    """Return a path as TOML writes it; of a list: with the number of the value, from 1."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step + 1}]"
            continue
        name = step if _BARE.fullmatch(step) else f'"{step}"'
        text += f".{name}" if text else name
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what would be right in place of a name that is not known."""
    names = sorted(known)
    near = get_close_matches(name, names, 1, 0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"use one of {', '.join(names)}" if names else "there are none"
