"""The options that every command has, and what they make: a client, a token, how to go on."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from typer import Option

from parley_client.channels import tls
from parley_client.sync_client import ParleyClient
from parley_client.tokens import Token, TokenFile

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
CertFile: TypeAlias = Annotated[
    Path | None,
    Option(
        "--cert-file",
        envvar="PARLEY_CERT_FILE",
        help="The certificate to show a server that asks for one, PEM. Needs --key-file.",
        exists=True,
        dir_okay=False,
    ),
]
KeyFile: TypeAlias = Annotated[
    Path | None,
    Option(
        "--key-file",
        envvar="PARLEY_KEY_FILE",
        help="The private key of --cert-file, PEM.",
        exists=True,
        dir_okay=False,
    ),
]
Timeout: TypeAlias = Annotated[
    float | None,
    Option("--timeout", min=0.001, help="How long to wait, in seconds.", show_default=False),
]
Json: TypeAlias = Annotated[bool, Option("--json", help="JSON, one object a line.")]
GoOn: TypeAlias = Annotated[
    str,
    # Whatever starts this command, such as `make chat`, says so how it is started again.
    Option("--go-on-with", envvar="PARLEY_GO_ON_WITH", hidden=True),
]

# Of the options on the command line, what going on needs again. Not the token: it is a secret.
_NEEDED_AGAIN = {
    "agent": "--agent",
    "address": "--address",
    "token_file": "--token-file",
    "plaintext": "--plaintext",
    "ca_file": "--ca-file",
    "cert_file": "--cert-file",
    "key_file": "--key-file",
    "timeout": "--timeout",
}


def token_of(context: typer.Context, token: str, token_file: Path | None) -> Token | None:
    """Return where the token comes from; an option goes before the environment.

    Raises: BadParameter: both are given in the same way.
    """
    if token and token_file:
        sources = {context.get_parameter_source(name) for name in ("token", "token_file")}
        if len(sources) == 1:
            raise typer.BadParameter("there is a token and a token file: which is it to be?")
        return TokenFile(token_file) if _is_option(context, "token_file") else token
    return TokenFile(token_file) if token_file else token


def client_of(
    address: str,
    token: Token | None,
    plaintext: bool,
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
) -> ParleyClient:
    """Return the client.

    Raises: BadParameter: options that exclude, or need, each other. OSError: a file cannot be read.
    """
    if not (ca_file or cert_file or key_file):
        return ParleyClient(address, token=token, credentials="plaintext" if plaintext else None)
    if plaintext:
        raise typer.BadParameter(
            "--plaintext excludes --ca-file, --cert-file and --key-file: those are for TLS"
        )
    if (cert_file is None) != (key_file is None):
        raise typer.BadParameter("--cert-file and --key-file go together")
    return ParleyClient(address, token=token, credentials=tls(ca_file, cert_file, key_file))


def go_on_with(context: typer.Context, given: str) -> str:
    """Return what to paste to go on with a conversation; its id comes behind it.

    Args:
        given: what whoever started the command says. Empty: the command itself, as it was started.
    """
    if given:
        return given
    options: list[str] = []
    for name, option in _NEEDED_AGAIN.items():
        value = context.params.get(name)
        if value and _is_option(context, name):
            options += [option] if value is True else [option, str(value)]
    return shlex.join([_command(), "chat", *options, "--conversation"]) + " "


def _is_option(context: typer.Context, name: str) -> bool:
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def _command() -> str:
    """Return what starts this command: its name if that leads here, else its path as given."""
    started = Path(sys.argv[0])
    if started.name != "parley":  # by Python itself
        return "parley"
    found = shutil.which("parley")
    is_found = found is not None and Path(found).resolve() == started.resolve()
    return "parley" if is_found else sys.argv[0]
