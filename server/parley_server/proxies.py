"""Proxies that the environment names: they are for the way to other machines.

On this machine, or without TLS over gRPC, one would read tokens and what is said, and be no way to
what is asked.
"""

from ipaddress import ip_address

Option = tuple[str, int]
DIRECT = ("grpc.enable_http_proxy", 0)
"""An option of gRPC's channels: whatever proxy the variables name, the server itself is asked."""


def options(host: str, *, is_encrypted: bool) -> list[Option]:
    """Return what a gRPC channel to a host is told of proxies."""
    return [] if is_encrypted and not is_on_this_machine(host) else [DIRECT]


def is_on_this_machine(host: str) -> bool:
    """Return whether a host, without a port, leads to this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
