"""Protections of owners and of what is theirs that experiments take out of workers, by name."""

import re
from collections.abc import Callable

from parley_server.storage.driver.connection import Statement
from parley_server.storage.statements import sql
from support.torture.unprotected import rewrite

COUNTING = {"CLAIM_NEW", "CREATE", "CREATE_CONVERSATION", "QUEUE_HEAD"}
"""They count the conversations of one id, or read one row of those that both owners have: without
the owner they go on whatever they find (decision 0022)."""
MOST = 60
"""So many statements have an owner to forget, at least."""


def _without_hiding() -> None:
    """Let an erasure remove conversations that every other call still finds."""
    rewrite("HIDE_CONVERSATIONS", r"delete_time = CURRENT_TIMESTAMP", "delete_time = NULL")


def _without_predicates() -> None:
    """Have every part of every statement forget whose rows it is to find."""
    count = 0
    for name, whole in list(vars(sql).items()):
        if isinstance(whole, Statement) and name not in COUNTING:
            text = re.sub(r"\w+\.owner_id = (\$\d+::uuid)", r"\1 IS NOT NULL", whole.text)
            if text != whole.text:
                count += 1
                setattr(sql, name, Statement(text, whole.names, name=whole.name))
    assert count > MOST, count


REMOVALS: dict[str, Callable[[], None]] = {
    "hiding": _without_hiding,
    "predicates": _without_predicates,
}
