"""Defines the options of every command: which server to call, and as which caller."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer import Option

from parley_client.channels import DEFAULT_ADDRESS
from parley_client.cli import profiles
from parley_client.cli.completion import complete_profile
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server, server_from

_PANEL = "Server and caller"


def _option(*names: str, **settings: Any) -> Any:
    variable = "PARLEY_" + names[0].removeprefix("--").replace("-", "_").upper()
    return Option(
        *names, **{"envvar": variable, "show_default": False, "rich_help_panel": _PANEL, **settings}
    )


def _file(name: str, help_: str) -> Any:
    return _option(name, help=help_, exists=True, dir_okay=False)


def _use_profile(context: typer.Context, name: str) -> str:
    """Make a profile's values the defaults of this command's options."""
    try:
        if name != profiles.NONE:
            context.default_map = dict(profiles.read().named(name))
    except profiles.ConfigError as error:
        if not context.resilient_parsing:  # completion works without a readable file
            Screen().complain(str(error))
            raise typer.Exit(2) from None
    return name


ProfileName: TypeAlias = Annotated[
    str,
    _option(
        "--profile",
        is_eager=True,  # its values are the other options' defaults
        callback=_use_profile,
        autocompletion=complete_profile,
        help=f"The profile to take options from; {profiles.NONE}: no profile.",
    ),
]
Address: TypeAlias = Annotated[
    str, _option("--address", help="The server, host:port.", show_default=True)
]
TokenText: TypeAlias = Annotated[str, _option("--token", help="The bearer token.")]
TokenPath: TypeAlias = Annotated[
    Path | None, _file("--token-file", "A file with the bearer token, read again when it changes.")
]
TokenCommandLine: TypeAlias = Annotated[
    str,
    _option(
        "--token-command",
        help="A command that prints the token; it runs again when the token has expired.",
    ),
]
ForUser: TypeAlias = Annotated[
    str, _option("--for-user", help="The user to act for; the token needs the scope parley.act.")
]
Plaintext: TypeAlias = Annotated[
    bool,
    _option("--plaintext", help="Do not use TLS. Default only for a server on this machine."),
]
CaFile: TypeAlias = Annotated[
    Path | None, _file("--ca-file", "Certificates to trust instead of the system's, in PEM format.")
]
CertFile: TypeAlias = Annotated[
    Path | None,
    _file(
        "--cert-file",
        "The client certificate for a server that asks for one, in PEM format. Needs --key-file.",
    ),
]
KeyFile: TypeAlias = Annotated[
    Path | None, _file("--key-file", "The private key of --cert-file, in PEM format.")
]
Timeout: TypeAlias = Annotated[
    float | None,
    _option(
        "--timeout",
        min=0.001,
        max=profiles.MAX_TIMEOUT_S,
        help="How long to wait, in seconds.",
        envvar=None,
    ),
]


def _server(  # its parameters are the options that every command gets
    context: typer.Context,
    profile: ProfileName = "",
    address: Address = DEFAULT_ADDRESS,
    token: TokenText = "",
    token_file: TokenPath = None,
    token_command: TokenCommandLine = "",
    for_user: ForUser = "",
    plaintext: Plaintext = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    timeout: Timeout = None,
) -> Server:
    return server_from(context)


def of_a_server(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above, and their result as its parameter `server`."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(_server, eval_str=True).parameters

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        server = _server(**{name: given.pop(name) for name in shared})
        command(server=server, **given)

    parameters = [each for name, each in own.parameters.items() if name != "server"]
    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in (*parameters, *shared.values())
    ]
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # PEP 362: what inspect.signature takes
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options
