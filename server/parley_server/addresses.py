"""Addresses to listen on, HOST:PORT: what they lead to, and why one cannot be had."""

import errno
import socket
from typing import Any

from parley_server.config import BadSettings


def resolved(listen: str) -> tuple[socket.AddressFamily, Any]:
    """Return the family and the address of a socket.

    Raises: OSError: the host has no address.
    """
    host, _, port = listen.rpartition(":")
    family, *_, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[
        0
    ]
    return family, address


def not_had(setting: str, listen: str, error: OSError) -> BadSettings:
    """Return what to say of an address that cannot be listened on, by the setting's name."""
    if error.errno == errno.EADDRINUSE:
        return BadSettings(f"{setting}: {listen} is taken by another program: choose another")
    return BadSettings(f"{setting}: {listen} cannot be had: {error.strerror}")
