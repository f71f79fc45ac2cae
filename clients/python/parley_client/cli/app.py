"""The commands."""

import importlib.metadata
import io
import itertools
import os
import sys
from contextlib import closing
from typing import Annotated

import typer
from typer import Argument, Option

from parley_client.caller_tools import waits
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, new_request_id
from parley_client.cli import agents, histories, owner, rehearsing, resuming, transfers, turns
from parley_client.cli import conversations as of_conversations
from parley_client.cli import profiles as config
from parley_client.cli.answers import Question
from parley_client.cli.commands import Commands, CurrentConversation
from parley_client.cli.failures import INTERRUPTED, WAITS, exit_codes
from parley_client.cli.killing import end_on_signals
from parley_client.cli.options import of_a_server
from parley_client.cli.pager import paged
from parley_client.cli.parameters import (
    Agent,
    Conversation,
    Json,
    Pages,
    Plain,
    RequestId,
    ToContinue,
    Wait,
    labels_from,
    message_from,
)
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.cli.tables import show_conversations, show_profiles
from parley_client.cli.waiting import Waiting, ask_and_decide, say_how_to_go_on
from parley_client.cli.watching import Watching

MAX_PAGE_SIZE = 1000

app = typer.Typer(
    help="Talk to the agent behind a Parley server, and read and manage your conversations.",
    epilog=(
        "Exit codes: 1 other errors, 2 invalid request, 3 no valid token, 4 not found, 5 busy, "
        "6 unavailable or too slow, 7 the turn waits for its caller, 130 Ctrl-C."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command."""
    _open_closed_streams()
    end_on_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows a "?"
    try:
        app(prog_name="parley")
    except OSError as error:  # outside of any call, such as a full disk under --version
        sys.exit(f"parley: {error}")


def _open_closed_streams() -> None:
    """Let streams that the caller has closed lead nowhere.

    Otherwise errors would go to standard output, and gRPC's connections would get their numbers.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - open until the end
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _say_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"parley {importlib.metadata.version('parley')}")
        raise typer.Exit


@app.callback()
def of_any_command(
    version: Annotated[
        bool,
        Option(
            "--version", is_eager=True, callback=_say_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Take what stands before a command."""


@app.command()
@of_a_server
def chat(
    server: Server,
    message: Annotated[
        str | None,
        Argument(help="The message; - reads standard input. Without one: a conversation."),
    ] = None,
    conversation: ToContinue = "",
    agent: Agent = "",
    request_id: RequestId = "",
    wait: Wait = False,
    as_json: Json = False,
    plain: Plain = False,
    pages: Pages = True,
    input_history: Annotated[
        bool,
        Option(
            "--input-history/--no-input-history",
            envvar="PARLEY_INPUT_HISTORY",
            help="Remember what you write, for the arrow keys, in a file only you can read.",
        ),
    ] = True,
    go_on: Annotated[  # noqa: ARG001 - server_from reads it from the context
        str,
        # Set by what starts this command, such as `make chat`: how to start it again.
        Option("--go-on-with", envvar="PARLEY_GO_ON_WITH", hidden=True),
    ] = "",
) -> None:
    """Talk until Ctrl-D, or send one message and print the answer as it comes.

    Ctrl-C stops an answer and keeps its text so far; a second Ctrl-C does not wait for that.
    """
    screen = Screen(plain=plain)
    is_loop = message is None and sys.stdin.isatty()
    if is_loop and (as_json or request_id):
        raise typer.BadParameter("--json and --request-id need a message")
    if not is_loop:
        question = _read_question(message, conversation, request_id, agent, waits=wait)
        _ask_once(screen, server, question, as_json=as_json, asks=True)
        return
    from parley_client.cli.loop import Loop  # its line editor is a third of what there is to load

    with exit_codes(screen, server.address), server.client() as client:
        current = CurrentConversation(conversation) if conversation else CurrentConversation.new()
        Loop(
            client,
            screen,
            current,
            Commands(client, screen, current, plain=plain, pages=pages),
            agent=agent,
            timeout_s=server.timeout_s or CHAT_TIMEOUT_S,
            address=server.address,
            go_on_with=server.again,
            command=server.command,
            remembers=input_history,
        ).run()


@app.command("ask")
@of_a_server
def ask_once(
    server: Server,
    question: Annotated[
        str, Argument(help="The question; - reads standard input.", show_default=False)
    ] = "-",
    conversation: ToContinue = "",
    agent: Agent = "",
    request_id: RequestId = "",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Ask one question and print only the answer, as it was written: for scripts."""
    screen = Screen(is_quiet=True)
    asked = _read_question(question, conversation, request_id, agent, waits=wait)
    _ask_once(screen, server, asked, as_json=as_json, asks=False)


@app.command()
@of_a_server
def watch(
    server: Server,
    conversation: Conversation,
    events: Annotated[
        bool, Option("--events", help="Also show answers as they come, if they are streamed.")
    ] = False,
    after: Annotated[
        int, Option("--after", min=0, help="Start after the message of this number.")
    ] = 0,
    as_json: Json = False,
    plain: Plain = False,
) -> None:
    """Print a conversation's messages, then new ones as they come, until Ctrl-C."""
    screen = Screen(plain=plain)
    watching = Watching(screen)
    with exit_codes(screen, server.address), server.client() as client:
        updates = client.watch(
            conversation, after_sequence=after, include_events=events, on_retry=watching.note_loss
        )
        show = screen.print_json if as_json else watching.take
        try:
            with closing(updates):
                for update in updates:
                    show(update)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


@app.command()
@of_a_server
def history(
    server: Server,
    conversation: Conversation,
    newest_first: Annotated[bool, Option("--newest-first", help="Start at the end.")] = False,
    limit: Annotated[
        int | None,
        Option("--limit", "-n", min=1, help="The most messages to print.", show_default="all"),
    ] = None,
    as_json: Json = False,
    plain: Plain = False,
    pages: Pages = True,
) -> None:
    """Print a conversation's messages."""
    with exit_codes(Screen(), server.address), server.client() as client:
        messages = client.history(
            conversation,
            order="newest_first" if newest_first else "oldest_first",
            page_size=min(limit or MAX_PAGE_SIZE, MAX_PAGE_SIZE),
            timeout_s=server.timeout_s or READ_TIMEOUT_S,
        )
        with paged(is_wanted=pages and not as_json) as out:
            screen = Screen(out, plain=plain)
            show = screen.print_json if as_json else screen.show_message
            for message in itertools.islice(messages, limit):
                show(message)


@app.command("list")
@of_a_server
def list_conversations(
    server: Server,
    limit: Annotated[
        int, Option("--limit", "-n", min=1, help="The most conversations to print.")
    ] = 50,
    labels: Annotated[
        list[str] | None,
        Option(
            "--label",
            metavar="KEY=VALUE",
            help="Only conversations with this label. May be given several times.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print your conversations, the most recently active first."""
    screen = Screen()
    wanted_labels = labels_from(labels)
    with exit_codes(screen, server.address), server.client() as client:
        conversations = itertools.islice(
            client.conversations(
                labels=wanted_labels,
                page_size=min(limit, MAX_PAGE_SIZE),
                timeout_s=server.timeout_s or READ_TIMEOUT_S,
            ),
            limit,
        )
        if as_json:
            for conversation in conversations:
                screen.print_json(conversation)
        else:
            show_conversations(screen, conversations)


for command in (
    of_conversations.create,
    of_conversations.show,
    of_conversations.update,
    of_conversations.rename,
    of_conversations.label,
    of_conversations.delete,
    of_conversations.undelete,
    histories.append,
    histories.fork,
    transfers.export,
    turns.start,
    turns.feed,
    resuming.resume,
    agents.agents,
    agents.explain,
    rehearsing.rehearse,
):
    app.command()(command)
app.command("import")(transfers.import_)
app.command()(owner.usage)
app.command()(owner.erase)


@app.command()
def profiles(as_json: Json = False) -> None:
    """Print the profiles of your config file: servers by name, for --profile."""
    screen = Screen()
    try:
        show_profiles(screen, config.read(), as_json=as_json)
    except config.ConfigError as error:
        screen.complain(str(error))
        raise typer.Exit(2) from None


def _ask_once(
    screen: Screen, server: Server, question: Question, *, as_json: bool, asks: bool
) -> None:
    timeout_s = server.timeout_s or CHAT_TIMEOUT_S
    with exit_codes(screen, server.address), server.client() as client:
        answered = ask_and_decide(
            client,
            screen,
            question,
            timeout_s=timeout_s,
            is_shown=not as_json,
            can_ask=asks and not as_json,
        )
        if as_json:
            screen.print_json(answered.response)
        else:
            screen.hint(f"Continue with: {server.again}{answered.response.conversation_id}")
        if answered.was_interrupted:
            raise typer.Exit(INTERRUPTED)
        if waits(answered.response):
            turn = Waiting(request_id=question.request_id)
            say_how_to_go_on(screen, turn, answered.response, server.command)
            raise typer.Exit(WAITS)


def _read_question(
    argument: str | None, conversation_id: str, request_id: str, agent: str, *, waits: bool
) -> Question:
    """Return the question. Raises: BadParameter: the message is not UTF-8."""
    message = message_from(argument)
    return Question(message, conversation_id, request_id or new_request_id(), agent, waits=waits)
