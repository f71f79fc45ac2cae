"""Protections of turns that experiments take out of their workers, by name."""

from collections.abc import Callable

from support.torture.unprotected import rewrite


def _without_order() -> None:
    """Begin the newest turn of a queue first."""
    rewrite("BEGIN", r"(ORDER BY\s+turn_queue\.position)(\s+LIMIT 1\n\), held)", r"\1 DESC\2")


def _without_a_look_at_queues() -> None:
    """Look no more at the queue of a turn that is under way: its worker will."""
    rewrite("BEGIN", r"(\$\d+::interval) AS lease_end", r"1000 * \1 AS lease_end")


def _without_one_resume() -> None:
    """Resume a turn whatever was given to it before, and whoever runs it by now."""
    rewrite(
        "RESUME",
        r"turn_wait\.digests = (\$\d+::text)\s+AND held\.fence = (\$\d+::bigint)",
        r"\1 IS NOT NULL AND \2 IS NOT NULL",
    )


REMOVALS: dict[str, Callable[[], None]] = {
    "order": _without_order,
    "queues": _without_a_look_at_queues,
    "resume": _without_one_resume,
}
