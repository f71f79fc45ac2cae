"""`python -m support.torture.unprotected NAMES serve`: a worker without some of its protections.

What is taken out is in `REMOVALS`, by name; several are joined by commas. The worker is otherwise
as it is: its code is loaded, changed in memory, and run. Nothing in the server knows of this.
"""

import importlib
import math
import re
import sys
from collections.abc import Callable

from parley_server.storage.driver.connecting import Connecting
from parley_server.storage.driver.connection import Connection, Statement
from parley_server.storage.schema import reaching
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
    is_it = r"(?:held|conversation)\.open_turn_id = (turn\.id|\$\d+::uuid)"
    for name in ("FINISH", "FINISH_WITH_EVENTS", "FINISH_STARTED", "RENEW", "STORE_STEP"):
        rewrite(name, r"(?:held|conversation)\.fence = (\$\d+::bigint)", r"\1 IS NOT NULL")
        rewrite(name, is_it, r"\1 IS NOT NULL")


def _without_free() -> None:
    """Let a claim take a conversation whose turn is open."""
    lease = r"held\.lease_expires_at <= CURRENT_TIMESTAMP"
    rewrite("CLAIM", rf"held\.open_turn_id IS NULL(?: OR {lease})?", "TRUE")


def _without_unique() -> None:
    """Let a claim open another turn of a request id. The constraint goes in the database."""
    for name in ("CLAIM_NEW", "CLAIM"):
        rewrite(name, r"ON CONFLICT \(owner_id, request_id\) DO NOTHING", "")


def _without_commit_check() -> None:
    """Let a worker use a database that answers before a commit is on the disk."""
    reaching.SAFE["synchronous_commit"].add("off")


def _without_answer_limit() -> None:
    """Wait for an answer for as long as the connection seems to be there."""
    look_around = Connecting._look_around  # noqa: SLF001 - taken apart on purpose

    async def look_around_at_leisure(self: Connecting, connection: Connection) -> None:
        await look_around(self, connection)
        connection.answer_limit_s = math.inf

    Connecting._look_around = look_around_at_leisure  # type: ignore[method-assign]  # noqa: SLF001


REMOVALS: dict[str, Callable[[], None]] = {
    "fence": _without_fence,
    "free": _without_free,
    "unique": _without_unique,
    "commit_check": _without_commit_check,
    "answer_limit": _without_answer_limit,
}
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
