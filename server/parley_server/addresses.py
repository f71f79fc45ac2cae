"""Resolves listen addresses, and explains why binding failed."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parley_server.config import BadSettings

ASK_S = 1.0
"""How long a server may take to answer at a Unix socket."""


def resolve(listen: str) -> tuple[socket.AddressFamily, Any]:
    """Return the family and the address of a socket.

    Raises: OSError: the host has no address.
    """
    host, _, port = listen.rpartition(":")
    family, *_, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[
        0
    ]
    return family, address


def cannot_listen(setting: str, listen: str, error: OSError) -> BadSettings:
    """Return the error for an address that cannot be bound, by the setting's name."""
    if error.errno == errno.EADDRINUSE:
        return BadSettings(f"{setting}: {listen} is in use by another program: choose another")
    return BadSettings(f"{setting}: cannot listen on {listen}: {error.strerror}")


def refuse_used_socket(listen: str) -> None:
    """Refuse the path of a Unix socket that a server answers at: gRPC would take it from that one.

    What a killed server left there is no hindrance.

    Raises: BadSettings.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(ASK_S)
        try:
            asking.connect(listen.removeprefix("unix:").removeprefix("//"))
        except OSError:
            return
    raise cannot_listen("PARLEY_LISTEN", listen, OSError(errno.EADDRINUSE, ""))


@contextmanager
def bound(listen: str, option: int) -> Iterator[tuple[str, int]]:
    """Hold a port without listening on it; with SO_REUSEPORT, workers may share it meanwhile.

    Yields: the address with the port that was found for it, and the port.
    Raises: BadSettings: the port cannot be bound, for example because another service uses it.
    """
    try:
        family, address = resolve(listen)
        held = socket.socket(family)
    except OSError as error:
        raise cannot_listen("PARLEY_LISTEN", listen, error) from None
    with held:
        try:
            held.setsockopt(socket.SOL_SOCKET, option, 1)
            held.bind(address)
        except OSError as error:
            raise cannot_listen("PARLEY_LISTEN", listen, error) from None
        found: int = held.getsockname()[1]
        yield f"{listen.rpartition(':')[0]}:{found}", found
