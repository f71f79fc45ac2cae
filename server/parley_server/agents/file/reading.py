"""A file becomes definitions, or all that is wrong with it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from parley_server.agents.file.checks import check
from parley_server.agents.file.definitions import AgentsFile
from parley_server.agents.file.lines import KeyPath, Lines
from parley_server.agents.file.problems import BadAgentsFile, Problem
from parley_server.agents.file.sentences import complaints
from parley_server.agents.file.syntax import faults
from parley_server.agents.file.variables import filled

MAX_FILE_BYTES = 1024 * 1024
_PATHS = ("ca_file", "cert_file", "key_file")


class ReadFile(NamedTuple):
    """A file that was read, and that is right as far as it can be told without its agents."""

    name: str
    definitions: AgentsFile
    """With secrets and instructions filled in, and with absolute paths."""
    lines: Lines

    def problem(self, path: KeyPath, text: str) -> Problem:
        """Return what has turned out to be wrong later."""
        return Problem(self.name, self.lines.of(path), path, text)


def read_agents_file(path: Path, environment: Mapping[str, str]) -> ReadFile:
    """Read an agents file.

    Args:
        environment: where its `$VARIABLES` are.
    Raises: BadAgentsFile: names everything that is wrong, each with its line.
    """
    name = str(path)
    text = _text(path)
    if syntax := faults(name, text):
        raise BadAgentsFile(syntax)
    raw, lines = tomllib.loads(text), Lines(text)
    folder = path.absolute().parent
    wrong = list(check(raw, folder, environment))
    definitions = None
    _fill_in(raw, folder, environment)
    try:
        definitions = AgentsFile.model_validate(raw)
    except ValidationError as error:
        wrong += complaints(error)
    if wrong or definitions is None:
        raise BadAgentsFile(Problem(name, lines.of(w.path), w.path, w.text) for w in wrong)
    return ReadFile(name, definitions, lines)


def _text(path: Path) -> str:
    """Return the text of a file. Raises: BadAgentsFile."""

    def bad(text: str, line: int | None = None) -> BadAgentsFile:
        return BadAgentsFile([Problem(str(path), line, (), text)])

    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except IsADirectoryError:
        raise bad("is a folder: name the file in it") from None
    except FileNotFoundError:
        raise bad("does not exist: create it, or correct its path") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        raise bad(f"cannot be read ({why.lower()}): let the server's user read it") from None
    if len(data) > MAX_FILE_BYTES:
        raise bad("is larger than 1 MiB: put long instructions into files of their own")
    if data.startswith(b"\xef\xbb\xbf"):
        raise bad("begins with a byte order mark: save it as UTF-8 without one", 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise bad("is not UTF-8: save it as UTF-8", line) from None


def text_of(path: Path) -> str:
    """Return the text of a file with instructions. A byte order mark is no part of it.

    Raises: OSError; ValueError: it is not UTF-8.
    """
    return path.read_text(encoding="utf-8-sig").strip()


def _fill_in(raw: dict[str, Any], folder: Path, environment: Mapping[str, str]) -> None:
    """Put values in the place of variables and of the names of files. What is wrong stays."""
    for agent in _tables(raw.get("agents")):
        for key in ("api_key", "token"):
            _fill(agent, key, environment)
        _make_absolute(agent, _PATHS, folder)
        file = agent.get("instructions_file")
        if isinstance(file, str) and "instructions" not in agent:
            try:
                agent["instructions"] = text_of(folder / file)
            except (OSError, ValueError):
                continue  # `check` has told
    for server in _tables(raw.get("mcp")):
        for values in _tables({key: server.get(key) for key in ("env", "headers")}):
            for key in values:
                _fill(values, key, environment)
        _make_absolute(server, ("cwd",), folder)


def _tables(value: Any) -> list[dict[str, Any]]:
    values = value.values() if isinstance(value, dict) else ()
    return [table for table in values if isinstance(table, dict)]


def _fill(table: dict[str, Any], key: str, environment: Mapping[str, str]) -> None:
    value = table.get(key)
    if isinstance(value, str):
        table[key] = filled(value, environment).value


def _make_absolute(table: dict[str, Any], keys: tuple[str, ...], folder: Path) -> None:
    for key in keys:
        if isinstance(table.get(key), str):
            table[key] = str(folder / table[key])
