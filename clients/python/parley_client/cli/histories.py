"""The commands that add messages to a conversation, or copy it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from parley_client.cli.failures import exit_codes
from parley_client.cli.json_lines import messages_in
from parley_client.cli.options import of_a_server
from parley_client.cli.parameters import Conversation, Json
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.conversation_calls import CHANGE_TIMEOUT_S, Said

ROLES = ("user", "assistant", "system")


@of_a_server
def append(
    server: Server,
    conversation: Conversation,
    messages: Annotated[
        list[str] | None,
        Argument(
            metavar="ROLE=TEXT",
            help="Messages, in order; a role is user, assistant or system.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        Option(
            "--file",
            help="Messages as JSON lines instead, as `parley history --json` prints them; - reads "
            "standard input.",
            show_default=False,
        ),
    ] = None,
    creates: Annotated[
        bool, Option("--create", help="Create the conversation if it does not exist.")
    ] = False,
    expected: Annotated[
        int | None,
        Option(
            "--after",
            min=0,
            help="Add nothing unless this is the conversation's last message; 0: it has none.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, Option("--wait", help="If the conversation is busy, wait for its turn to end.")
    ] = False,
    request_id: Annotated[
        str,
        Option(
            "--request-id",
            help="Repeat the call of this id instead of adding messages again.",
            show_default=False,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Add messages to a conversation. No agent runs; the next turn sees them."""
    screen = Screen()
    if bool(messages) == bool(file):
        raise typer.BadParameter("give messages as ROLE=TEXT, or a --file with JSON lines")
    said = [_said(text) for text in messages or ()]
    with exit_codes(screen, server.address), server.client() as client:
        added = client.append_messages(
            conversation,
            _read(file) if file else said,
            request_id=request_id or None,
            allow_missing=creates,
            expected_sequence=expected,
            on_busy="wait" if wait else "reject",
            timeout_s=server.timeout_s or CHANGE_TIMEOUT_S,
        )
        if as_json:
            screen.print_json(added)
        elif not screen.is_terminal:
            ends = (added.conversation_id, str(added.first_sequence), str(added.last_sequence))
            screen.print_line("\t".join(ends))
        elif added.first_sequence == added.last_sequence:
            screen.hint(f"Added message {added.first_sequence}.")
        else:
            screen.hint(f"Added messages {added.first_sequence} to {added.last_sequence}.")


@of_a_server
def fork(
    server: Server,
    conversation: Conversation,
    up_to: Annotated[
        int,
        Option(
            "--up-to",
            min=0,
            help="The last message to copy, with which a turn has to end.",
            show_default="all up to the newest turn that has ended",
        ),
    ] = 0,
    new_id: Annotated[
        str,
        Option("--id", metavar="UUID", help="The id that the copy is to have.", show_default=False),
    ] = "",
    request_id: Annotated[
        str,
        Option(
            "--request-id",
            help="Repeat the call of this id instead of making another copy.",
            show_default=False,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Copy a conversation, or its beginning, into a new one and print its id."""
    screen = Screen()
    with exit_codes(screen, server.address), server.client() as client:
        made = client.fork_conversation(
            conversation,
            up_to_sequence=up_to,
            new_conversation_id=new_id or None,
            request_id=request_id or None,
            timeout_s=server.timeout_s or CHANGE_TIMEOUT_S,
        )
        if as_json:
            screen.print_json(made)
            return
        screen.print_line(made.conversation.conversation_id)
        screen.hint(f"Continue with: {server.again}{made.conversation.conversation_id}")


def _said(text: str) -> Said:
    """Return a message from ROLE=TEXT. Raises: BadParameter."""
    role, equals, content = text.partition("=")
    if not equals or role not in ROLES:
        raise typer.BadParameter(
            f"a message is written ROLE=TEXT, with one of {', '.join(ROLES)}, which {text!r} is not"
        )
    return role, content


def _read(file: Path) -> list[Said]:
    """Return the messages of a file. Raises: WrongFile. OSError."""
    if str(file) == "-":
        return list(messages_in(sys.stdin.buffer))
    with file.open("rb") as lines:
        return list(messages_in(lines))
