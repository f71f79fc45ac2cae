"""What a shell may complete: profiles, and conversations if the server says soon which there are.

Whoever presses Tab waits for no server: after a second there is nothing to choose from, and that
is also what comes of everything that goes wrong.
"""

from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Thread

import typer

from parley_client.cli import profiles
from parley_client.cli.server import server_from
from parley_client.cli.text import ago_of, one_line

LONGEST_S = 1.0
_HOW_MANY = 50

Choices = list[tuple[str, str]]
"""What may be typed, each with what it is."""


def complete_profile(incomplete: str) -> Choices:
    """Return the profiles whose names begin so."""
    return _within_reach(
        lambda: [
            (name, profile.get("address", ""))
            for name, profile in profiles.read().by_name.items()
            if name.startswith(incomplete)
        ]
    )


def complete_conversation(context: typer.Context, incomplete: str) -> Choices:
    """Return the newest conversations whose ids begin so, the most recently active first."""

    def listed() -> Choices:
        with server_from(context).client() as client:
            page = client.conversations_page(page_size=_HOW_MANY, timeout_s=LONGEST_S)
            return [
                (each.conversation_id, f"{ago_of(each.update_time)}: {one_line(each.title, 50)}")
                for each in page.conversations
                if each.conversation_id.startswith(incomplete)
            ]

    return _within_reach(listed)


def _within_reach(find: Callable[[], Iterable[tuple[str, str]]]) -> Choices:
    found: SimpleQueue[Choices] = SimpleQueue()

    def look() -> None:
        try:
            found.put(list(find()))
        except Exception:  # a shell that completes has no place for a complaint
            found.put([])

    Thread(target=look, daemon=True).start()
    try:
        return found.get(timeout=LONGEST_S)
    except Empty:
        return []
