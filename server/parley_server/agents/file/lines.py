"""In which line of a TOML file each key stands.

The library that reads TOML tells positions of errors in its syntax alone. So the file is taken
apart into its statements: a statement is as few lines as can be read by themselves.
"""

import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_ENDS = ('"""', "'''", "]", "}")
"""One of them is in the last line of each statement of several lines."""


class Twice(NamedTuple):
    """A key, or a table, that is there a second time."""

    path: KeyPath
    line: int
    first_line: int


class Lines:
    """Lines of keys and tables, from 1."""

    def __init__(self, text: str) -> None:
        """Find all keys, up to the first statement that cannot be read."""
        self.twice: list[Twice] = []
        self.unread: int | None = None
        """The line of the first statement that cannot be read. None: there is none."""
        self._lines: dict[KeyPath, int] = {(): 1}
        self._statements: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}
        self._table: KeyPath = ()
        for line, said, is_header in self._read(text):
            self._take(line, said, is_header=is_header)

    def of(self, path: KeyPath) -> int:
        """Return the line of a key; of one that is not there: of the innermost table around it."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _read(self, text: str) -> Iterator[tuple[int, dict[str, Any], bool]]:
        lines = text.split("\n")
        start = 0
        while start < len(lines):
            said, end = _statement(lines, start)
            if said is None:
                self.unread = start + 1
                return
            is_header = lines[start].lstrip().startswith("[")
            if said or is_header:
                yield start + 1, said, is_header
            start = end

    def _take(self, line: int, said: dict[str, Any], *, is_header: bool) -> None:
        path = _first_path(said)
        if is_header:
            self._table = path
            if path[-1:] == (0,):  # a table of an array: which one, only the whole file tells
                number = self._arrays[path[:-1]] = self._arrays.get(path[:-1], -1) + 1
                self._table = (*path[:-1], number)
                self._lines.setdefault(path[:-1], line)
            if not self._note(self._table, line):
                self._table = (*self._table, 1)  # its keys are no others that are there twice
            return
        path = (*self._table, *path)
        self._note(path, line)
        for inner in _paths(said):
            self._lines.setdefault((*self._table, *inner), line)

    def _note(self, path: KeyPath, line: int) -> bool:
        """Note a statement. Returns: whether it is the first of its path."""
        if path in self._statements:
            self.twice.append(Twice(path, line, self._statements[path]))
            return False
        self._statements[path] = line
        self._lines[path] = line
        for length in range(1, len(path)):
            self._lines.setdefault(path[:length], line)
        return True


def _statement(lines: list[str], start: int) -> tuple[dict[str, Any] | None, int]:
    """Return what the statement says that begins in a line, and the line behind it, from 0."""
    for end in range(start + 1, len(lines) + 1):
        if end > start + 1 and not any(mark in lines[end - 1] for mark in _ENDS):
            continue
        try:
            return tomllib.loads("\n".join(lines[start:end])), end
        except tomllib.TOMLDecodeError:
            continue
    return None, len(lines)


def _first_path(said: Any) -> KeyPath:
    """Return the path that a statement names: down to the first value that is no table of one."""
    path: list[str | int] = []
    while isinstance(said, dict) and len(said) == 1:
        key, said = next(iter(said.items()))
        path.append(key)
    if isinstance(said, list) and said == [{}]:
        path.append(0)
    return tuple(path)


def _paths(said: Any) -> Iterator[KeyPath]:
    """Yield the path of everything inside a value."""
    items: Any = ()
    if isinstance(said, dict):
        items = said.items()
    elif isinstance(said, list):
        items = enumerate(said)
    for key, value in items:
        yield (key,)
        for inner in _paths(value):
            yield (key, *inner)
