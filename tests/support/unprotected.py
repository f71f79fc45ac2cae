"""Protections that experiments take away, from the tests' side: statements with a part changed.

`removed(name, …)` changes them in this process, for as long as its block goes on. A worker of its
own is `python -m support.unprotected_server` (`ServerProcess(module=…)`), which is told the names by
UNPROTECTED. No switch for any of it is in the server.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from parley_server.storage.driver.connection import Statement
from parley_server.storage.statements import sql

MODULE = "support.unprotected_server"
VARIABLE = "UNPROTECTED"


@dataclass(frozen=True)
class Removal:
    """A part of some statements, and what stands in its place."""

    statements: tuple[str, ...]
    pattern: str
    replacement: str

    def made(self) -> dict[str, Statement]:
        """Return the statements without their protection, by name.

        Raises: AssertionError: one has no such part any more, so nothing would be taken away.
        """
        found = {}
        for name in self.statements:
            whole: Statement = getattr(sql, name)
            text, count = re.subn(self.pattern, self.replacement, whole.text)
            assert count, f"{name} has no {self.pattern}"
            found[name] = Statement(text, whole.names, name=whole.name)
        return found


REMOVALS = {
    "order of the queue": Removal(
        ("BEGIN",), r"(ORDER BY\s+turn_queue\.position)(\s+LIMIT 1\n\), held)", r"\1 DESC\2"
    ),
    "queues of dead workers": Removal(
        ("BEGIN",), r"(THEN CURRENT_TIMESTAMP \+ )(\$\d+::interval)", r"\1 1000 * \2"
    ),
    "one resume": Removal(
        ("RESUME",),
        r"turn_wait\.digests = (\$\d+::text)\s+AND held\.fence = (\$\d+::bigint)",
        r"\1 IS NOT NULL AND \2 IS NOT NULL",
    ),
}
"""Each is named after what it no longer keeps."""


@contextmanager
def removed(*names: str) -> Iterator[None]:
    """Run without some protections."""
    whole = dict(vars(sql))
    for name in names:
        for statement, changed in REMOVALS[name].made().items():
            setattr(sql, statement, changed)
    try:
        yield
    finally:
        for statement in (s for name in names for s in REMOVALS[name].statements):
            setattr(sql, statement, whole[statement])


def of_environment() -> tuple[str, ...]:
    """Return what a worker of its own is to be without."""
    return tuple(name for name in os.environ.get(VARIABLE, "").split(",") if name)
