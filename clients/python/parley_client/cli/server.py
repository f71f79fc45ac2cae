"""Reads from options, variables and a profile which server to call, and as which caller."""

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from parley_client.channels import DEFAULT_ADDRESS, Credentials, tls
from parley_client.cli.profiles import NONE
from parley_client.cli.tokens import FilledTokenFile, RenewingClient, TokenCommand
from parley_client.sync_client import ParleyClient
from parley_client.tokens import Token

_TOKENS = ("token", "token_file", "token_command")
_TLS_FILES = ("ca_file", "cert_file", "key_file")

# The options that a command to go on with repeats. Not the token: it is a secret.
_NEEDED_AGAIN = (
    "profile",
    "address",
    "token_file",
    "token_command",
    "for_user",
    "plaintext",
    *_TLS_FILES,
    "timeout",
)
_LEVELS = ("DEFAULT", "DEFAULT_MAP", "ENVIRONMENT", "COMMANDLINE")
"""Where a value comes from: a default, a profile, a variable, the command line. Later ones win."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and the caller's identity."""

    address: str
    timeout_s: float | None
    """How long a call may take, in seconds. None: the default of its kind."""
    again: str
    """The command that continues a conversation on this server, without its id at the end."""
    _options: tuple[str, ...]
    """The options that lead another command to the same server, as the same caller."""
    _token: Token | None
    _credentials: Credentials
    for_user: str
    """The user to act for. Empty: the caller."""

    def command(self, *words: str) -> str:
        """Return a command of `parley` that calls the same server as the same caller."""
        return shlex.join([_program(), *words, *self._options])

    @contextmanager
    def client(self) -> Iterator[ParleyClient]:
        """Open a client for the block. Raises: ValueError: the user's name is not UTF-8."""
        client = RenewingClient(self.address, token=self._token, credentials=self._credentials)
        with client:
            yield client.acting_for(self.for_user) if self.for_user else client


def server_from(context: typer.Context) -> Server:
    """Return the server that a command's parameters name.

    Raises: BadParameter: options exclude each other, or one lacks another that it needs.
    """
    values = context.params
    return Server(
        values["address"],
        values["timeout"],
        _again(context),
        tuple(_repeated(context, _NEEDED_AGAIN)),
        _token(context),
        _credentials(context),
        values["for_user"],
    )


def _token(context: typer.Context) -> Token | None:
    """Return the token's source: the command line overrides variables, which override a profile."""
    given = [name for name in _TOKENS if context.params[name]]
    highest = max((_level(context, name) for name in given), default=0)
    given = [name for name in given if _level(context, name) == highest]
    if len(given) > 1:
        kinds = " and ".join(f"a {name.replace('_', ' ')}" for name in given)
        raise typer.BadParameter(f"{kinds} are given: give only one of them")
    if not given:
        return None
    if highest == _LEVELS.index("DEFAULT_MAP"):
        _check_profiles_address(context)
    value = context.params[given[0]]
    match given[0]:
        case "token_file":
            return FilledTokenFile(value)
        case "token_command":
            return _command(value)
    return str(value)


def _check_profiles_address(context: typer.Context) -> None:
    """Refuse to send a profile's token to another server, which could use it.

    Raises: BadParameter.
    """
    own = (context.default_map or {}).get("address", DEFAULT_ADDRESS)
    address = context.params["address"]
    if address != own:
        raise typer.BadParameter(
            f"the profile's token is for {own} and is not sent to {address}: give a token for that "
            f"server, such as with --token-file, or choose its own profile; --profile {NONE} calls "
            "without a token"
        )


def _command(line: str) -> TokenCommand:
    try:
        return TokenCommand(line)
    except ValueError as error:
        raise typer.BadParameter(f"--token-command: {error}") from None


def _credentials(context: typer.Context) -> Credentials:
    """Return how to trust the server; the same order decides between plaintext and files."""
    ca_file, cert_file, key_file = files = [context.params[name] for name in _TLS_FILES]
    is_tls = any(files)
    if context.params["plaintext"]:
        of_files = max(
            (_level(context, name) for name in _TLS_FILES if context.params[name]), default=0
        )
        of_plaintext = _level(context, "plaintext")
        if is_tls and of_files == of_plaintext:
            raise typer.BadParameter(
                "--plaintext excludes --ca-file, --cert-file and --key-file, which are for TLS"
            )
        if of_plaintext > of_files:
            return "plaintext"
    if not is_tls:
        return None
    if (cert_file is None) != (key_file is None):
        raise typer.BadParameter("--cert-file and --key-file go together")
    return tls(ca_file, cert_file, key_file)


def _again(context: typer.Context) -> str:
    """Return the command that continues a conversation, without its id at the end."""
    if given := context.params.get("go_on"):
        return str(given)
    options = _repeated(context, (*_NEEDED_AGAIN, "agent"))
    return shlex.join([_program(), "chat", *options, "--conversation"]) + " "


def _repeated(context: typer.Context, names: Iterable[str]) -> Iterator[str]:
    """Iterate over the options of these names that another command needs as well."""
    for name in names:
        value: Any = context.params.get(name)
        # A variable that is set for one command alone must not turn an erasure on another user.
        least = "ENVIRONMENT" if name == "for_user" else "COMMANDLINE"
        if value and _level(context, name) >= _LEVELS.index(least):
            yield "--" + name.replace("_", "-")
            if value is not True:
                yield str(value)


def _level(context: typer.Context, name: str) -> int:
    source = context.get_parameter_source(name)
    name_of_source = "DEFAULT" if source is None else source.name
    return _LEVELS.index(name_of_source) if name_of_source in _LEVELS else 0


def _program() -> str:
    """Return the name of this command, or its path as given if the name leads elsewhere."""
    started = Path(sys.argv[0])
    if started.name != "parley":  # by Python itself
        return "parley"
    found = shutil.which("parley")
    is_found = found is not None and Path(found).resolve() == started.resolve()
    return "parley" if is_found else sys.argv[0]
