"""Renders every statement for reading: `python tools/render_sql.py FOLDER`.

Each becomes FOLDER/NAME.sql: its purpose, which is its docstring, then the SQL. Named parameters
stand for the numbered ones that are sent; casts of parameters and constants are left out.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import sqlglot

from parley_server.storage import statements
from parley_server.storage.driver.connection import Statement
from parley_server.storage.statements import appending, ending, opening, reading

MODULES = (opening, appending, ending, reading)
_PARAMETER = re.compile(r"\$(\d+)(?:::(?:TIMESTAMP WITH TIME ZONE|[A-Z]+))?")

_CONSTANT = re.compile(r"('[A-Z_]*'|\b\d+)::(?:text|bigint|smallint|integer)\b", re.IGNORECASE)


def main() -> int:
    """Write the files; files of statements that are gone go with them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.sql"):
        old.unlink()
    for name, purpose in _purposes():
        path = folder / f"{name.lower()}.sql"
        path.write_text(rendered(name, purpose))
    return 0


def rendered(name: str, purpose: str) -> str:
    """Return a statement as it is read."""
    statement: Statement = getattr(statements, name)
    text = _PARAMETER.sub(lambda found: f":{statement.names[int(found[1]) - 1]}", statement.text)
    text = _CONSTANT.sub(r"\1", text)
    pretty = sqlglot.parse_one(text, read="postgres").sql(dialect="postgres", pretty=True)
    return f"-- {name}: {purpose}\n-- Rendered by `make gen`. DO NOT EDIT.\n\n{pretty};\n"


def _purposes() -> Iterator[tuple[str, str]]:
    """Yield the name and the docstring of each statement, in the order of their definitions."""
    missing = {name for name in statements.__all__ if name.isupper()}
    missing = {name for name in missing if isinstance(getattr(statements, name), Statement)}
    for module in MODULES:
        for name, purpose in _documented(module):
            if name in missing:
                missing.discard(name)
                yield name, purpose
    if missing:
        raise SystemExit(f"without a docstring: {', '.join(sorted(missing))}")


def _documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    body = ast.parse(inspect.getsource(module)).body
    for node, after in pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(after, ast.Expr):
            target, text = node.targets[0], after.value
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                yield target.id, " ".join(str(text.value).split())


if __name__ == "__main__":
    sys.exit(main())
