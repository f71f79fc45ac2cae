"""The commands and their options."""

import io
import itertools
import os
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import grpc
import typer
from typer import Argument, Option

from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S
from parley_client.channels import DEFAULT_ADDRESS, Credentials
from parley_client.cli.failures import exit_codes
from parley_client.cli.loop import Loop
from parley_client.cli.screen import Screen
from parley_client.sync_client import ParleyClient
from parley_client.tokens import Token, TokenFile

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

Address: TypeAlias = Annotated[
    str, Option("--address", envvar="PARLEY_ADDRESS", help="The server, host:port.")
]
TokenText: TypeAlias = Annotated[
    str, Option("--token", envvar="PARLEY_TOKEN", help="The bearer token.", show_default=False)
]
TokenPath: TypeAlias = Annotated[
    Path | None,
    Option(
        "--token-file",
        envvar="PARLEY_TOKEN_FILE",
        help="A file with the token, read again when it changes.",
        exists=True,
        dir_okay=False,
    ),
]
Plaintext: TypeAlias = Annotated[
    bool,
    Option(
        "--plaintext",
        envvar="PARLEY_PLAINTEXT",
        help="No TLS. It is the default for a server on this machine only.",
    ),
]
CaFile: TypeAlias = Annotated[
    Path | None,
    Option(
        "--ca-file",
        envvar="PARLEY_CA_FILE",
        help="Certificates to trust instead of the system's, PEM.",
        exists=True,
        dir_okay=False,
    ),
]
Timeout: TypeAlias = Annotated[
    float | None,
    Option("--timeout", min=0.001, help="How long to wait, in seconds.", show_default=False),
]
Json: TypeAlias = Annotated[bool, Option("--json", help="JSON, one object a line.")]


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
    timeout: Timeout = None,
) -> None:
    """Say something and print the answer, or talk until Ctrl-D."""
    screen = Screen()
    is_loop = message is None and sys.stdin.isatty()
    if is_loop and (as_json or request_id):
        raise typer.BadParameter("--json and --request-id need a message")
    timeout_s = timeout or CHAT_TIMEOUT_S
    caller = _token(context, token, token_file)
    with exit_codes(screen, address), _client(address, caller, plaintext, ca_file) as client:
        if is_loop:
            Loop(
                client,
                screen,
                conversation_id=conversation,
                agent=agent,
                timeout_s=timeout_s,
                address=address,
            ).run()
            return
        said = _message(message)
        with screen.waiting():
            answer = client.chat(
                said,
                conversation_id=conversation,
                request_id=request_id,
                on_busy="wait" if wait else "reject",
                agent=agent,
                timeout_s=timeout_s,
            )
        if as_json:
            screen.json(answer)
            return
        screen.answer(answer)
        screen.hint(f"Go on with: parley chat --conversation {answer.conversation_id}")


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
    timeout: Timeout = None,
) -> None:
    """Print a conversation's messages."""
    screen = Screen()
    caller = _token(context, token, token_file)
    with exit_codes(screen, address), _client(address, caller, plaintext, ca_file) as client:
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
    timeout: Timeout = None,
) -> None:
    """Print your conversations, the most recently active first."""
    screen = Screen()
    caller = _token(context, token, token_file)
    with exit_codes(screen, address), _client(address, caller, plaintext, ca_file) as client:
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


def _token(context: typer.Context, token: str, token_file: Path | None) -> Token | None:
    """Return where the token comes from; an option goes before the environment.

    Raises: BadParameter: both are given in the same way.
    """
    if token and token_file:
        sources = {context.get_parameter_source(name) for name in ("token", "token_file")}
        if len(sources) == 1:
            raise typer.BadParameter("there is a token and a token file: which is it to be?")
        is_option = str(context.get_parameter_source("token_file")).endswith("COMMANDLINE")
        return TokenFile(token_file) if is_option else token
    return TokenFile(token_file) if token_file else token


def _client(
    address: str, token: Token | None, plaintext: bool, ca_file: Path | None
) -> ParleyClient:
    """Return the client.

    Raises: BadParameter: both are given. OSError: the certificates cannot be read.
    """
    credentials: Credentials = "plaintext" if plaintext else None
    if ca_file is not None:
        if plaintext:
            raise typer.BadParameter("--plaintext and --ca-file exclude each other")
        credentials = grpc.ssl_channel_credentials(ca_file.read_bytes())
    return ParleyClient(address, token=token, credentials=credentials)


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
