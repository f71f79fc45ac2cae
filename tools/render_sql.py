"""Renders every statement as the server sends it: `python tools/render_sql.py FOLDER`.

Each becomes FOLDER/NAME.sql: its purpose, which is its docstring; the parameters that it takes,
each with its type; then the SQL, in which casts of parameters and constants are left out.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from sqlglot.dialects.postgres import Postgres

from parley_server.storage.statements import (
    accepting,
    appending,
    ending,
    erasing,
    explaining,
    feeding,
    hiding,
    histories,
    leaving,
    listing,
    living,
    opening,
    purging,
    reading,
    retaining,
    starting,
    stepping,
    using,
    waiting,
)
from parley_server.storage.statements.parts import Compiled

MODULES = (
    opening,
    appending,
    stepping,
    ending,
    feeding,
    reading,
    listing,
    living,
    histories,
    hiding,
    purging,
    accepting,
    starting,
    leaving,
    erasing,
    retaining,
    using,
    waiting,
    explaining,
)
_CONSTANT = re.compile(r"('[A-Z_]*'|\b\d+)::(?:text|bigint|smallint|integer)\b", re.IGNORECASE)
_TIDY = (
    (re.compile(r"%\((\w+)\)s"), r":\1"),
    (re.compile(r" AS anon_\d+(?=,?$)", re.MULTILINE), ""),
    (re.compile(r" +(FOR (?:NO KEY UPDATE|KEY SHARE|UPDATE))"), r"\n  \1"),
    (re.compile(r" ON CONFLICT\("), r"\n  ON CONFLICT ("),
)
"""What sqlglot leaves on the wrong line, and names that nobody uses."""


class Dialect(Postgres):
    """Postgres', in which to_hex() is a function of its own: sqlglot takes it for HEX()."""

    class Parser(Postgres.Parser):  # type: ignore[misc, valid-type]  # sqlglot's way to a dialect
        FUNCTIONS = {  # noqa: RUF012 - it is never changed
            name: made for name, made in Postgres.Parser.FUNCTIONS.items() if name != "TO_HEX"
        }


def main() -> int:
    """Write the files; files of statements that are gone go with them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.sql"):
        old.unlink()
    for name, purpose, statement in _statements():
        (folder / f"{name.lower()}.sql").write_text(rendered(purpose, statement))
    return 0


def rendered(purpose: str, statement: Compiled) -> str:
    """Return a statement as it is read and sent."""
    text = _CONSTANT.sub(r"\1", statement.text)
    tree = Dialect().parse(text)[0]
    if tree is None:
        raise ValueError(f"no statement: {text}")
    pretty = tree.sql(dialect=Dialect, pretty=True)
    for pattern, instead in _TIDY:
        pretty = pattern.sub(instead, pretty)
    parameters = "\n".join(f"-- :{name} {type_}" for name, type_ in statement.types.items())
    return f"-- {purpose}\n-- Rendered by `make gen`. DO NOT EDIT.\n--\n{parameters}\n\n{pretty}\n"


def _statements() -> Iterator[tuple[str, str, Compiled]]:
    """Yield name, purpose and text of each statement."""
    for module in MODULES:
        documented = dict(_documented(module))
        for name, value in vars(module).items():
            if isinstance(value, Compiled):
                yield name, documented[name], value


def _documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    body = ast.parse(inspect.getsource(module)).body
    for node, after in pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(after, ast.Expr):
            target, text = node.targets[0], after.value
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                yield target.id, " ".join(str(text.value).split())


if __name__ == "__main__":
    sys.exit(main())
