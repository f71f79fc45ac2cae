"""Completes words in a shell: profiles, and conversations and agents if the server answers soon.

A press of Tab waits a second at most. After that, and after any error, there are no choices.
"""

import os
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Thread

import typer
from rich.markup import escape

from parley_client.cli import profiles
from parley_client.cli.server import server_from
from parley_client.cli.text import ago_of, one_line

LONGEST_S = 1.0
_HOW_MANY = 50
_WIDEST = 1_000
"""More columns than a description takes."""
_NO_BACKSLASH = "\N{SET MINUS}"

Choices = list[tuple[str, str]]
"""The words to choose from, each with a description."""


def complete_profile(incomplete: str) -> Choices:
    """Return the profiles whose names begin like this."""
    return _find_in_time(
        lambda: [
            (name, profile.get("address", ""))
            for name, profile in profiles.read().by_name.items()
            if name.startswith(incomplete)
        ]
    )


def complete_conversation(context: typer.Context, incomplete: str) -> Choices:
    """Return the newest conversations whose ids begin like this, the most recently active first."""

    def list_newest() -> Choices:
        with server_from(context).client() as client:
            page = client.conversations_page(page_size=_HOW_MANY, timeout_s=LONGEST_S)
            return [
                (each.conversation_id, f"{ago_of(each.update_time)}: {one_line(each.title, 50)}")
                for each in page.conversations
                if each.conversation_id.startswith(incomplete)
            ]

    return _find_in_time(list_newest)


def complete_agent(context: typer.Context, incomplete: str) -> Choices:
    """Return the agents whose names begin like this."""

    def list_them() -> Choices:
        with server_from(context).client() as client:
            return [
                (each.name, one_line(each.description, 50))
                for each in client.list_agents(timeout_s=LONGEST_S).agents
                if each.name.startswith(incomplete)
            ]

    return _find_in_time(list_them)


def _is_harmless(word: str) -> bool:
    """Return whether a word can be given to a shell: all ids and names of a server can."""
    return word.isprintable() and "\\" not in word


def _as_text(description: str) -> str:
    """Return a description that neither Typer, which looks for markup, nor a shell obeys.

    Typer gives zsh a text to evaluate: it writes a backslash before each dollar and backquote, but
    leaves the text's own backslashes, which would undo that.
    """
    return escape(description.replace("\\", _NO_BACKSLASH))


def _find_in_time(find: Callable[[], Iterable[tuple[str, str]]]) -> Choices:
    # Typer has Rich draw descriptions, which would break lines where the screen ends.
    os.environ["COLUMNS"] = str(_WIDEST)
    found: SimpleQueue[Choices] = SimpleQueue()

    def look() -> None:
        try:
            choices = [(word, _as_text(description)) for word, description in find()]
            found.put([choice for choice in choices if _is_harmless(choice[0])])
        except Exception:  # a completion has no place to show an error
            found.put([])

    Thread(target=look, daemon=True).start()
    try:
        return found.get(timeout=LONGEST_S)
    except Empty:
        return []
