"""The commands for a conversation itself, not for what is said in it."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from typer import Argument, Option

from parley.v1 import conversation_pb2 as parts
from parley_client.calls import READ_TIMEOUT_S
from parley_client.cli.completion import complete_conversation
from parley_client.cli.failures import exit_codes, row_of, sentences
from parley_client.cli.options import of_a_server
from parley_client.cli.parameters import (
    Conversation,
    Json,
    OwnAgent,
    contents_of,
    labels_from,
)
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.cli.tables import show_conversation
from parley_client.cli.text import moment_of, one_line
from parley_client.errors import ConversationNotFound, RevisionMismatch
from parley_client.sync_client import ParleyClient

MAX_TRIES = 5
"""How often `label` reads and changes a conversation that others change at the same time."""
_TWO_INSTRUCTIONS = "--instructions excludes --instructions-file"

InstructionsFile: TypeAlias = Annotated[
    Path | None,
    Option(
        "--instructions-file",
        help="A file with what the agent is told in it; - reads standard input.",
        show_default=False,
    ),
]


@of_a_server
def create(
    server: Server,
    title: Annotated[
        str, Option("--title", help="A title for lists.", show_default="the first message")
    ] = "",
    labels: Annotated[
        list[str] | None,
        Option("--label", metavar="KEY=VALUE", help="A label. May be given several times."),
    ] = None,
    instructions: Annotated[
        str,
        Option("--instructions", help="What the agent is told in it.", show_default=False),
    ] = "",
    instructions_file: InstructionsFile = None,
    own_agent: OwnAgent = None,
    conversation_id: Annotated[
        str, Option("--id", metavar="UUID", help="The id that it is to have.", show_default=False)
    ] = "",
    request_id: Annotated[
        str,
        Option(
            "--request-id",
            help="Repeat the call of this id instead of creating another one.",
            show_default=False,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Create an empty conversation and print its id."""
    screen = Screen()
    if instructions and instructions_file:
        raise typer.BadParameter(_TWO_INSTRUCTIONS)
    wanted_labels = labels_from(labels)
    with exit_codes(screen, server.address), server.client() as client:
        created = client.create_conversation(
            conversation_id=conversation_id,
            request_id=request_id,
            title=title,
            labels=wanted_labels,
            instructions=_text_of(instructions_file) if instructions_file else instructions,
            agent=own_agent,
            timeout_s=server.timeout_s or READ_TIMEOUT_S,
        )
        if as_json:
            screen.print_json(created)
            return
        screen.print_line(created.conversation.conversation_id)
        screen.hint(f"Continue with: {server.again}{created.conversation.conversation_id}")


@of_a_server
def show(server: Server, conversation: Conversation, as_json: Json = False) -> None:
    """Print what is known of a conversation: its title, labels, instructions and times."""
    screen = Screen()
    with exit_codes(screen, server.address), server.client() as client:
        found = client.conversation(conversation, timeout_s=server.timeout_s or READ_TIMEOUT_S)
        if as_json:
            screen.print_json(found)
        else:
            show_conversation(screen, found)


@of_a_server
def update(
    server: Server,
    conversation: Conversation,
    title: Annotated[str | None, Option("--title", help="The new title; may be empty.")] = None,
    instructions: Annotated[
        str | None,
        Option("--instructions", help="What the agent is told in it from now on; may be empty."),
    ] = None,
    instructions_file: InstructionsFile = None,
    own_agent: OwnAgent = None,
    as_json: Json = False,
) -> None:
    """Change a conversation's title, instructions or agent, and leave the rest as it is."""
    screen = Screen()
    if instructions is not None and instructions_file:
        raise typer.BadParameter(_TWO_INSTRUCTIONS)
    if all(each is None for each in (title, instructions, instructions_file, own_agent)):
        raise typer.BadParameter("give what to change: --title, --instructions or --agent")
    with exit_codes(screen, server.address), server.client() as client:
        changed = client.update_conversation(
            conversation,
            title=title,
            instructions=_text_of(instructions_file) if instructions_file else instructions,
            agent=own_agent,
            timeout_s=server.timeout_s or READ_TIMEOUT_S,
        )
        if as_json:
            screen.print_json(changed)
        else:
            screen.hint("Changed.")


@of_a_server
def rename(
    server: Server,
    conversation: Conversation,
    title: Annotated[str, Argument(help="The new title.", show_default=False)],
) -> None:
    """Change a conversation's title."""
    screen = Screen()
    with exit_codes(screen, server.address), server.client() as client:
        client.update_conversation(
            conversation, title=title, timeout_s=server.timeout_s or READ_TIMEOUT_S
        )
        screen.hint("Renamed.")


@of_a_server
def label(
    server: Server,
    conversation: Conversation,
    labels: Annotated[
        list[str] | None,
        Argument(metavar="KEY=VALUE", help="Labels to set.", show_default=False),
    ] = None,
    remove: Annotated[
        list[str] | None,
        Option("--remove", metavar="KEY", help="A label to remove. May be given several times."),
    ] = None,
) -> None:
    """Set or remove labels of a conversation, and leave its other labels as they are."""
    screen = Screen()
    added, removed = labels_from(labels), set(remove or ())
    if not added and not removed:
        raise typer.BadParameter("give labels to set as KEY=VALUE, or --remove KEY")
    if both := sorted(added.keys() & removed):
        raise typer.BadParameter(f"the label {both[0]} is to be set and removed: give one of them")
    with exit_codes(screen, server.address), server.client() as client:
        timeout_s = server.timeout_s or READ_TIMEOUT_S
        changed = _change_labels(client, conversation, added, removed, timeout_s)
        shown = ", ".join(f"{key}={value}" for key, value in sorted(changed.labels.items()))
        screen.hint(f"Labels: {shown}" if shown else "No labels.")


@of_a_server
def delete(
    server: Server,
    conversations: Annotated[
        list[str],
        Argument(help="The conversations' ids.", autocompletion=complete_conversation),
    ],
    yes: Annotated[bool, Option("--yes", help="Do not ask. Required without a terminal.")] = False,
) -> None:
    """Delete conversations with everything that was said in them."""
    screen = Screen()
    if not yes and not screen.can_ask:
        raise typer.BadParameter(
            "there is no terminal to ask on: use --yes to delete without a question"
        )
    timeout_s = server.timeout_s or READ_TIMEOUT_S
    with exit_codes(screen, server.address), server.client() as client:
        missing: ConversationNotFound | None = None
        for conversation_id in conversations:
            try:
                if yes or _is_agreed(client, screen, conversation_id, timeout_s):
                    again = server.command("undelete", conversation_id)
                    _delete(client, screen, conversation_id, timeout_s, again)
            except ConversationNotFound as error:  # the others are deleted all the same
                screen.complain(*sentences(error, server.address))
                missing = error
        if missing is not None:
            raise typer.Exit(row_of(missing).exit_code)


@of_a_server
def undelete(
    server: Server,
    conversation: Annotated[str, Argument(help="The conversation's id.")],  # no list has it
) -> None:
    """Bring a deleted conversation back."""
    screen = Screen()
    with exit_codes(screen, server.address), server.client() as client:
        found = client.undelete_conversation(
            conversation, timeout_s=server.timeout_s or READ_TIMEOUT_S
        )
        screen.hint(f"Brought back: {one_line(found.title) or found.conversation_id}")


def _text_of(file: Path) -> str:
    """Return a file's text without its last line break.

    Raises: BadParameter: it cannot be read, or is not UTF-8.
    """
    try:
        return contents_of(file).decode("utf-8-sig").removesuffix("\n")
    except OSError as error:
        raise typer.BadParameter(str(error)) from None
    except UnicodeError:
        raise typer.BadParameter(f"{file} is not UTF-8") from None


def _change_labels(
    client: ParleyClient,
    conversation_id: str,
    added: dict[str, str],
    removed: set[str],
    timeout_s: float,
) -> parts.Conversation:
    """Change some labels, without undoing what others change at the same time.

    Raises: RevisionMismatch: others change the conversation again and again. Other ParleyErrors.
    """
    for tries_left in reversed(range(MAX_TRIES)):
        found = client.conversation(conversation_id, timeout_s=timeout_s)
        kept = {key: value for key, value in found.labels.items() if key not in removed}
        wanted = kept | added
        if wanted == dict(found.labels):
            break
        try:
            return client.update_conversation(
                conversation_id,
                labels=wanted,
                expected_revision=found.revision,
                timeout_s=timeout_s,
            )
        except RevisionMismatch:
            if not tries_left:
                raise
    return found


def _is_agreed(
    client: ParleyClient, screen: Screen, conversation_id: str, timeout_s: float
) -> bool:
    """Ask whether a conversation is to be deleted, by its title."""
    found = client.conversation(conversation_id, timeout_s=timeout_s)
    named = f'"{one_line(found.title)}", ' if found.title else ""
    counted = f"{found.last_sequence} message{'' if found.last_sequence == 1 else 's'}"
    is_agreed = screen.ask(f"Delete {named}{counted}, {found.conversation_id}?")
    if not is_agreed:
        screen.hint("Not deleted.")
    return is_agreed


def _delete(
    client: ParleyClient, screen: Screen, conversation_id: str, timeout_s: float, again: str
) -> None:
    """Delete a conversation and say until when, and by which command, it can be brought back."""
    deleted = client.delete_conversation(conversation_id, timeout_s=timeout_s)
    until = ""
    if deleted.HasField("purge_time"):
        until = moment_of(deleted.purge_time).isoformat(timespec="seconds")
    if screen.is_terminal:
        how = f" Until {until}, `{again}` brings it back." if until else ""
        screen.hint(f"Deleted.{how}")
    else:
        screen.print_line(f"{conversation_id}\t{until}")
