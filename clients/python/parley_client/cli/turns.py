"""The commands for turns without a caller: one starts them, one tells when they end."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.caller_tools import waits
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, new_request_id
from parley_client.cli.answers import Question, follow
from parley_client.cli.cursors import CursorFile
from parley_client.cli.failures import INTERRUPTED, WAITS, exit_codes
from parley_client.cli.options import of_a_server
from parley_client.cli.parameters import (
    Agent,
    Json,
    Plain,
    RequestId,
    ToContinue,
    labels_from,
    message_from,
)
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.cli.waiting import Waiting, say_how_to_go_on
from parley_client.cli.watching import FeedLines
from parley_client.cli.words import state_of
from parley_client.sync_client import ParleyClient


@of_a_server
def start(
    server: Server,
    message: Annotated[
        str, Argument(help="The message; - reads standard input.", show_default=False)
    ] = "-",
    conversation: ToContinue = "",
    agent: Agent = "",
    request_id: RequestId = "",
    creates: Annotated[
        bool, Option("--create", help="Create the conversation if it does not exist.")
    ] = False,
    expected: Annotated[
        int | None,
        Option(
            "--after",
            min=0,
            help="When it begins, the turn fails unless this is the conversation's last message; "
            "0: it has none.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        Option(
            "--label",
            metavar="KEY=VALUE",
            help="A label of the new conversation. May be given several times.",
        ),
    ] = None,
    wait: Annotated[
        bool, Option("--wait", help="Print the answer as it comes. Ctrl-C leaves the turn alone.")
    ] = False,
    as_json: Json = False,
    plain: Plain = False,
) -> None:
    """Start a turn that runs without you, and print its conversation's id and its own."""
    screen = Screen(plain=plain)
    wanted_labels = labels_from(labels)
    if conversation and wanted_labels:
        raise typer.BadParameter("--label needs a new conversation: leave out --conversation")
    if creates and not conversation:
        raise typer.BadParameter("--create needs --conversation, the id to create")
    text, key = message_from(message), request_id or new_request_id()
    timeout_s = server.timeout_s or READ_TIMEOUT_S
    with exit_codes(screen, server.address), server.client() as client:
        if wanted_labels:
            created = client.create_conversation(
                request_id=key, labels=wanted_labels, timeout_s=timeout_s
            )
            conversation = created.conversation.conversation_id
        started = client.start_turn(
            text,
            conversation_id=conversation,
            request_id=key,
            allow_missing=creates,
            expected_sequence=expected,
            agent=agent,
            timeout_s=timeout_s,
        )
        if wait:
            question = Question(text, conversation, key, agent)
            _wait(client, screen, question, started.turn, server, as_json=as_json)
        elif as_json:
            screen.print_json(started)
        else:
            _show(screen, started)
        if not as_json:
            screen.hint(f"Continue with: {server.again}{started.turn.conversation_id}")


@of_a_server
def feed(
    server: Server,
    after: Annotated[
        str,
        Option(
            "--after",
            metavar="CURSOR",
            help="Start behind this cursor, which --json prints.",
            show_default="the oldest turn that is kept",
        ),
    ] = "",
    cursor_file: Annotated[
        Path | None,
        Option(
            "--cursor-file",
            dir_okay=False,
            help="Start behind the cursor in this file, and store there how far you have come.",
            show_default=False,
        ),
    ] = None,
    only_new: Annotated[
        bool, Option("--only-new", help="Without a cursor, print only what ends from now on.")
    ] = False,
    labels: Annotated[
        list[str] | None,
        Option(
            "--label",
            metavar="KEY=VALUE",
            help="Only turns of conversations with this label. May be given several times.",
        ),
    ] = None,
    all_owners: Annotated[
        bool,
        Option(
            "--all-owners",
            help="The turns of all users; the token has to name the scope parley.observe.",
        ),
    ] = False,
    once: Annotated[
        bool, Option("--once", help="End when everything that has ended is printed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print each turn that ends: those that are kept, then new ones as they end, until Ctrl-C.

    A turn is printed before its cursor is stored: after a crash it may be printed again.
    """
    screen = Screen()
    if after and cursor_file:
        raise typer.BadParameter("--after excludes --cursor-file, which has the cursor in it")
    if str(cursor_file) == "-":
        raise typer.BadParameter("--cursor-file needs a file: it is read, then written")
    wanted_labels = labels_from(labels)
    file = CursorFile(cursor_file) if cursor_file else None
    lines = FeedLines(screen, has_users=all_owners, goes_on=not once)
    show = screen.print_json if as_json else lines.take
    with exit_codes(screen, server.address), server.client() as client:
        stored = file.read() if file else after or None
        updates = client.watch_turns(
            after_cursor=stored or "",
            only_new=only_new and stored is None,
            labels=wanted_labels,
            all_owners=all_owners,
            on_retry=lines.note_loss,
        )
        try:
            with closing(updates):
                for update in updates:
                    show(update)
                    if file:
                        file.write(update.cursor)
                    if once and update.HasField("progress"):
                        break
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def _wait(
    client: ParleyClient,
    screen: Screen,
    question: Question,
    turn: parts.Turn,
    server: Server,
    *,
    as_json: bool,
) -> None:
    """Show the answer of a turn that was started."""
    try:
        timeout_s = server.timeout_s or CHAT_TIMEOUT_S
        answer = follow(client, screen, question, timeout_s=timeout_s, is_shown=not as_json)
    except KeyboardInterrupt:
        screen.complain(
            "interrupted; the turn goes on",
            f"Its answer: {server.command('history', turn.conversation_id)}",
        )
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        screen.print_json(answer)
    if waits(answer):
        waiting = Waiting(request_id=question.request_id)
        say_how_to_go_on(screen, waiting, answer, server.command)
        raise typer.Exit(WAITS)


def _show(screen: Screen, started: pb.StartTurnResponse) -> None:
    turn = started.turn
    state = state_of(turn)
    if not screen.is_terminal:
        screen.print_line("\t".join((turn.conversation_id, turn.turn_id, state)))
        return
    screen.print_line(f"conversation  {turn.conversation_id}")
    screen.print_line(f"turn          {turn.turn_id}")
    screen.hint(f"It was started before, and is {state}." if started.replayed else "It is queued.")
