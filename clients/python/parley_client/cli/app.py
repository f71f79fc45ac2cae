"""The commands and their options."""

import io
import itertools
import os
import sys
from contextlib import closing
from typing import Annotated

import typer
from typer import Argument, Option

from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, new_request_id
from parley_client.channels import DEFAULT_ADDRESS
from parley_client.cli.answers import Question, ask
from parley_client.cli.failures import INTERRUPTED, exit_codes
from parley_client.cli.loop import Loop
from parley_client.cli.options import (
    Address,
    CaFile,
    CertFile,
    GoOn,
    Json,
    KeyFile,
    Plaintext,
    Timeout,
    TokenPath,
    TokenText,
    client_of,
    go_on_with,
    token_of,
)
from parley_client.cli.screen import Screen
from parley_client.cli.watching import Watching

MAX_PAGE_SIZE = 1000

app = typer.Typer(
    help="Talk to the agent behind a Parley server, and look at what was said.",
    epilog=(
        "Exit codes: 1 other, 2 wrong request, 3 no valid token, 4 not found, 5 busy, "
        "6 unavailable or too slow, 130 Ctrl-C."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows a "?"
    app(prog_name="parley")


@app.command()
def chat(
    context: typer.Context,
    message: Annotated[
        str | None,
        Argument(help="What to say; - reads standard input. Without it: a conversation."),
    ] = None,
    conversation: Annotated[
        str, Option("--conversation", "-c", help="The one to go on with.", show_default=False)
    ] = "",
    agent: Annotated[
        str, Option("--agent", help="A configured agent's name.", show_default=False)
    ] = "",
    request_id: Annotated[
        str,
        Option("--request-id", help="Repeats a turn instead of making one.", show_default=False),
    ] = "",
    wait: Annotated[
        bool, Option("--wait", help="While the conversation is busy, wait for its turn to end.")
    ] = False,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: TokenText = "",
    token_file: TokenPath = None,
    plaintext: Plaintext = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    timeout: Timeout = None,
    go_on: GoOn = "",
) -> None:
    """Say something and print the answer as it comes, or talk until Ctrl-D.

    Ctrl-C stops an answer and keeps what was said; pressed again, it does not wait for that.
    """
    screen = Screen()
    is_loop = message is None and sys.stdin.isatty()
    if is_loop and (as_json or request_id):
        raise typer.BadParameter("--json and --request-id need a message")
    timeout_s = timeout or CHAT_TIMEOUT_S
    caller = token_of(context, token, token_file)
    again = go_on_with(context, go_on)
    with (
        exit_codes(screen, address),
        client_of(address, caller, plaintext, ca_file, cert_file, key_file) as client,
    ):
        if is_loop:
            Loop(
                client,
                screen,
                conversation_id=conversation,
                agent=agent,
                timeout_s=timeout_s,
                address=address,
                go_on_with=again,
            ).run()
            return
        question = Question(
            _message(message),
            conversation,
            request_id or new_request_id(),
            agent,
            waits=wait,
        )
        answered = ask(client, screen, question, timeout_s=timeout_s, is_shown=not as_json)
        if as_json:
            screen.json(answered.response)
        else:
            screen.hint(f"Go on with: {again}{answered.response.conversation_id}")
        if answered.was_interrupted:
            raise typer.Exit(INTERRUPTED)


@app.command()
def watch(
    context: typer.Context,
    conversation: Annotated[str, Argument(help="The conversation's id.")],
    events: Annotated[
        bool, Option("--events", help="Also show an answer as it comes, if it is streamed.")
    ] = False,
    after: Annotated[
        int, Option("--after", min=0, help="Begin behind this message, by its number.")
    ] = 0,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: TokenText = "",
    token_file: TokenPath = None,
    plaintext: Plaintext = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
) -> None:
    """Print a conversation's messages, and go on as they come, until Ctrl-C."""
    screen = Screen()
    caller = token_of(context, token, token_file)
    watching = Watching(screen)
    with (
        exit_codes(screen, address),
        client_of(address, caller, plaintext, ca_file, cert_file, key_file) as client,
    ):
        updates = client.watch(
            conversation, after_sequence=after, include_events=events, on_retry=watching.lost
        )
        show = screen.json if as_json else watching.take
        try:
            with closing(updates):
                for update in updates:
                    show(update)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


@app.command()
def history(
    context: typer.Context,
    conversation: Annotated[str, Argument(help="The conversation's id.")],
    newest_first: Annotated[bool, Option("--newest-first", help="Begin at the end.")] = False,
    limit: Annotated[
        int | None, Option("--limit", "-n", min=1, help="How many at most.", show_default="all")
    ] = None,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: TokenText = "",
    token_file: TokenPath = None,
    plaintext: Plaintext = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    timeout: Timeout = None,
) -> None:
    """Print a conversation's messages."""
    screen = Screen()
    caller = token_of(context, token, token_file)
    with (
        exit_codes(screen, address),
        client_of(address, caller, plaintext, ca_file, cert_file, key_file) as client,
    ):
        messages = client.history(
            conversation,
            order="newest_first" if newest_first else "oldest_first",
            page_size=min(limit or MAX_PAGE_SIZE, MAX_PAGE_SIZE),
            timeout_s=timeout or READ_TIMEOUT_S,
        )
        show = screen.json if as_json else screen.message
        for message in itertools.islice(messages, limit):
            show(message)


@app.command("list")
def list_conversations(
    context: typer.Context,
    limit: Annotated[int, Option("--limit", "-n", min=1, help="How many at most.")] = 50,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: TokenText = "",
    token_file: TokenPath = None,
    plaintext: Plaintext = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    timeout: Timeout = None,
) -> None:
    """Print your conversations, the most recently active first."""
    screen = Screen()
    caller = token_of(context, token, token_file)
    with (
        exit_codes(screen, address),
        client_of(address, caller, plaintext, ca_file, cert_file, key_file) as client,
    ):
        conversations = itertools.islice(
            client.conversations(
                page_size=min(limit, MAX_PAGE_SIZE), timeout_s=timeout or READ_TIMEOUT_S
            ),
            limit,
        )
        if as_json:
            for conversation in conversations:
                screen.json(conversation)
        else:
            screen.conversations(conversations)


def _message(argument: str | None) -> str:
    """Return what to say: the argument, or standard input without its last line break.

    Raises: BadParameter: it is not UTF-8.
    """
    is_piped = argument is None or argument == "-"
    given = sys.stdin.buffer.read() if is_piped else os.fsencode(argument or "")
    try:
        said = given.decode("utf-8")
    except UnicodeError:
        raise typer.BadParameter("the message is not UTF-8") from None
    return said.removesuffix("\n") if is_piped else said
