"""Protections of owners and what is theirs, which experiments take out of their workers, by name."""

from collections.abc import Callable

from support.torture.unprotected import rewrite


def _without_hiding() -> None:
    """Let an erasure remove conversations that every other call still finds."""
    rewrite("HIDE_CONVERSATIONS", r"delete_time = CURRENT_TIMESTAMP", "delete_time = NULL")


REMOVALS: dict[str, Callable[[], None]] = {"hiding": _without_hiding}
