"""What a server says on the terminal once it serves."""

import os

from parley_server.agents.file.problems import BadAgentsFile
from parley_server.agents.file.reading import read_agents_file
from parley_server.config import Settings


def welcome(asked: Settings, settings: Settings, port: int) -> str:
    """Return the lines that say that the server serves, and what to do next.

    Args:
        asked: the settings as given.
        settings: the same, with values for what was not set.
    """
    host = settings.listen.rpartition(":")[0]
    address = settings.listen if settings.is_unix else f"{host}:{port}"
    over = "" if settings.tls_cert_file is None else " over TLS"
    lines = [f"Parley serves on {address}{over} with the {_named(settings)}.", ""]
    if settings.auth_keys_file is not None or settings.auth_jwks_url is not None:
        lines += [
            f"  A caller needs a token of the issuer {settings.auth_issuer}",
            f"  for the audience {settings.auth_audience}, with sub and exp.",
        ]
    elif asked.auth_hs256_secret is not None:
        lines += ["  Mint a token, with these settings: parley-server token --user me"]
    else:
        is_usual = address == Settings.model_fields["listen"].default
        chat = "make chat" if is_usual else f"PARLEY_ADDRESS={address} make chat"
        lines += [
            f"  Talk to it in another terminal:   {chat}",
            "  Mint a token for your own client: .venv/bin/parley-server token --user me",
            "  Stop it:                          Ctrl-C",
        ]
    return "\n".join(lines)


def _named(settings: Settings) -> str:
    """Return the agents by name."""
    if settings.agents_file is None:
        return f"agent {settings.agent}"
    try:
        file = read_agents_file(settings.agents_file, os.environ).definitions
    except BadAgentsFile:  # it was changed since the workers read it, who tell of it
        return f"agents of {settings.agents_file}"
    names = [
        f"{name} (default)" if name == file.default and len(file.agents) > 1 else name
        for name in file.agents
    ]
    *first, last = names
    return f"agents {', '.join(first)} and {last}" if first else f"agent {last}"
