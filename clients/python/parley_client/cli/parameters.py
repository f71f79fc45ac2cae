"""Parameters that several commands have."""

import os
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from typer import Argument, Option

from parley_client.cli.completion import complete_agent, complete_conversation

Conversation: TypeAlias = Annotated[
    str, Argument(help="The conversation's id.", autocompletion=complete_conversation)
]
ToContinue: TypeAlias = Annotated[
    str,
    Option(
        "--conversation",
        "-c",
        help="The conversation to continue.",
        show_default=False,
        autocompletion=complete_conversation,
    ),
]
Agent: TypeAlias = Annotated[
    str,
    Option(
        "--agent",
        help="One of `parley agents`.",
        show_default="the conversation's, or the server's",
        autocompletion=complete_agent,
    ),
]
# Its parameters have another name than `agent`: a profile's agent is for messages alone.
OwnAgent: TypeAlias = Annotated[
    str | None,
    Option(
        "--agent",
        help="The agent that answers where a message names none, one of `parley agents`; empty: "
        "the server's default agent.",
        show_default=False,
        autocompletion=complete_agent,
    ),
]
RequestId: TypeAlias = Annotated[
    str,
    Option(
        "--request-id", help="Repeat the turn of this id instead of making one.", show_default=False
    ),
]
Wait: TypeAlias = Annotated[
    bool, Option("--wait", help="If the conversation is busy, wait for its turn to end.")
]
Plain: TypeAlias = Annotated[
    bool,
    Option("--plain", envvar="PARLEY_PLAIN", help="Show text as it was written, not as Markdown."),
]
Pages: TypeAlias = Annotated[
    bool, Option("--pager/--no-pager", help="Show output longer than the screen with $PAGER.")
]
Json: TypeAlias = Annotated[bool, Option("--json", help="Print JSON, one object a line.")]


def message_from(argument: str | None) -> str:
    """Return a message: the argument, or standard input without its last line break.

    Args:
        argument: as given. None or "-": standard input has the message.
    Raises: BadParameter: the message is not UTF-8.
    """
    is_piped = argument is None or argument == "-"
    given = sys.stdin.buffer.read() if is_piped else os.fsencode(argument or "")
    try:
        text = given.decode("utf-8")
    except UnicodeError:
        raise typer.BadParameter("the message is not UTF-8") from None
    return text.removesuffix("\n") if is_piped else text


def contents_of(file: Path) -> bytes:
    """Return what is in a file; - is standard input. Raises: OSError."""
    return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()


def labels_from(given: list[str] | None) -> dict[str, str]:
    """Return labels from their text.

    Args:
        given: KEY=VALUE each. None: none.
    Raises: BadParameter: one is not written like that, or a key is given twice.
    """
    labels: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"a label is written KEY=VALUE, which {text!r} is not")
        if key in labels:
            raise typer.BadParameter(f"the label {key} is given twice")
        labels[key] = value
    return labels
