"""A file that is no TOML: in which lines, and what would be right."""

import re
import tomllib
from collections.abc import Iterator

from parley_server.agents.file.lines import Lines
from parley_server.agents.file.problems import Problem

MAX_FAULTS = 20
"""How many faults are told at once."""

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_UNQUOTED = re.compile(r"\s*([\w.\"-]+)\s*=\s*(?!true\b|false\b|inf\b|nan\b)[A-Za-z_$/~.]")
_CAPITAL = re.compile(r"\s*([\w.\"-]+)\s*=\s*(True|False)\b")
_COLON = re.compile(r"\s*([\w.\"-]+)\s*:\s")
_NOTHING = re.compile(r"\s*([\w.\"-]+)\s*=\s*(#.*)?$")
_OPEN = re.compile(r"\s*\[[^\]]*$")
_NO_VALUE = re.compile(r"\s*[\w.\"-]+\s*$")


def faults(name: str, text: str) -> list[Problem]:
    """Return what is wrong with the syntax of a file. Empty: nothing."""
    found = list(_faults(name, text))
    if not found:
        return []
    twice = Lines(text).twice
    return [
        Problem(name, t.line, t.path, f"is set twice, first in line {t.first_line}: remove one")
        for t in twice
    ] or found


def _faults(name: str, text: str) -> Iterator[Problem]:
    """Yield one fault after another, each with the lines of the earlier ones left out."""
    lines = text.split("\n")
    for number in range(MAX_FAULTS):
        try:
            tomllib.loads("\n".join(lines))
        except tomllib.TOMLDecodeError as error:
            what = str(error)
        else:
            return
        place = _PLACE.search(what)
        what = _PLACE.sub("", what)
        if number > 0 and what.startswith("Cannot "):
            return  # it follows from what was left out
        line = int(place[1]) if place and place[1] else Lines("\n".join(lines)).unread
        if line is None or line > len(lines):
            line = len(lines)
        yield Problem(name, line, (), f"is not valid TOML ({what}): {_remedy(lines[line - 1])}")
        if place is None or place[1] is None:
            return  # something is open up to the end, and all the rest is inside of it
        lines[line - 1] = ""


def _remedy(line: str) -> str:
    """Return what would be right, without any value: it may be a secret."""
    if found := _CAPITAL.match(line):
        return f"write {found[1]} = {found[2].lower()}"
    if found := _UNQUOTED.match(line):
        return f'put text in quotes: {found[1]} = "…"'
    if found := _NOTHING.match(line):
        return f'give it a value: {found[1]} = "…"'
    if found := _COLON.match(line):
        return f'write = between key and value: {found[1]} = "…"'
    if line.count('"') % 2 or line.count("'") % 2:
        return "close the quotes; a text of several lines begins and ends with three"
    if _OPEN.match(line):
        return "close the bracket: [agents.shop]"
    if "\\" in line:
        return "write a text with backslashes in single quotes"
    if _NO_VALUE.match(line):
        return 'a line is a [table] or key = "…"'
    return "see https://toml.io"
