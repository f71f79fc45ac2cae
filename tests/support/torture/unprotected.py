"""`python -m support.torture.unprotected NAMES serve`: a worker without some of its protections.

What is taken out is in `REMOVALS`, by name; several are joined by commas. The worker is otherwise
as it is: its code is loaded, changed in memory, and run. Nothing in the server knows of this.
"""

import importlib
import re
import sys
from collections.abc import Callable

from parley_server.storage.driver.connection import Statement
from parley_server.storage.statements import sql


def rewrite(name: str, pattern: str, replacement: str) -> None:
    """Rewrite a statement.

    Raises: AssertionError: there is nothing to rewrite, so nothing would be removed.
    """
    old: Statement = getattr(sql, name)
    text, count = re.subn(pattern, replacement, old.text)
    assert count, f"{name} has nothing like {pattern}: {old.text}"
    setattr(sql, name, Statement(text, old.names, name=old.name))


def _without_fence() -> None:
    """Let an attempt write whose lease another one has taken."""
    for name in ("FINISH", "FINISH_WITH_EVENTS", "FINISH_STARTED", "RENEW"):
        rewrite(name, r"(?:held|conversation)\.fence = (\$\d+::bigint)", r"\1 IS NOT NULL")


REMOVALS: dict[str, Callable[[], None]] = {"fence": _without_fence}
"""By name, what takes a protection away.

A module `support.torture.removals_X` may add some; they are asked for as `X.NAME`.
"""


def remove(name: str) -> None:
    """Take a protection out of this process."""
    module, _, rest = name.rpartition(".")
    if module:
        removals = importlib.import_module(f"support.torture.removals_{module}").REMOVALS
        removals[rest]()
    else:
        REMOVALS[name]()


def main() -> None:
    for name in sys.argv.pop(1).split(","):
        remove(name)
    from parley_server.__main__ import main as serve

    serve()


if __name__ == "__main__":
    main()
