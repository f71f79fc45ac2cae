"""Sets up a channel to the server, for both clients."""

import ipaddress
import json
import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
CONNECTION_SCALING = {"maxConnectionsPerSubchannel": 10}
RETRY_BUFFER_BYTES = 64 * 1024 * 1024
"""gRPC repeats no request that is longer, and by itself only those up to 256 KiB. So much is the
most that a server can be set to take."""
NOT_REPEATED = {
    "name": [{"service": "parley.v1.ConversationService", "method": "DeleteConversation"}]
}
"""What gRPC must not repeat: it hides which tries failed before one that finds nothing to delete.
The client repeats it instead."""

Credentials = grpc.ChannelCredentials | Literal["plaintext"] | None
"""How to trust the server. None: TLS with the system's roots, but plaintext to this machine."""


def credentials_for(address: str, credentials: Credentials) -> grpc.ChannelCredentials | None:
    """Return the credentials to open a channel with; None: plaintext.

    Plaintext to another machine has to be asked for, since a token that is read on the way can be
    used by the reader.
    """
    if isinstance(credentials, grpc.ChannelCredentials):
        return credentials
    if credentials == "plaintext" or is_on_this_machine(address):
        return None
    return grpc.ssl_channel_credentials()


def closed() -> grpc.aio.AioRpcError:
    """Return the error of a call, of either client, whose channel was closed under it.

    Another try would open a channel that nothing closes.
    """
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(
        grpc.StatusCode.CANCELLED, nothing, nothing, "the client was closed", None
    )


def tls(
    ca_file: str | os.PathLike[str] | None = None,
    cert_file: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | None = None,
) -> grpc.ChannelCredentials:
    """Return credentials for TLS from PEM files.

    Args:
        ca_file: the certificates to trust. None: those that the system trusts.
        cert_file: the certificate to show a server that asks for one (mTLS). Required with
            `key_file`.
        key_file: its private key. Required with `cert_file`.
    Raises: ValueError: a certificate without its key, or a key alone. OSError: a file cannot be
        read.
    Guarantees: the files are read once. A renewed certificate needs a new client.
    """
    if (cert_file is None) != (key_file is None):
        raise ValueError("a client certificate needs its key: give both files")
    return grpc.ssl_channel_credentials(
        *(
            None if file is None else Path(file).read_bytes()
            for file in (ca_file, key_file, cert_file)
        )
    )


def is_on_this_machine(address: str) -> bool:
    """Say whether an address, `host:port` or a gRPC target, leads to this machine only."""
    scheme, separator, rest = address.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return True
    if separator and scheme in ("dns", "ipv4", "ipv6"):
        address = rest.rpartition("/")[2]
    host = address.rpartition(":")[0] or address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def options_for(
    address: str, credentials: grpc.ChannelCredentials | None
) -> tuple[tuple[str, str | int], ...]:
    """Return the options of a channel to an address.

    Args:
        credentials: None: plaintext.
    Guarantees: plaintext calls and calls on this machine ignore the variables `https_proxy`,
        `http_proxy` and `grpc_proxy`, so that no proxy can read a token.
    """
    if credentials is None or is_on_this_machine(address):
        return (*options(), ("grpc.enable_http_proxy", 0))
    return options()


@cache
def options() -> tuple[tuple[str, str | int], ...]:
    """Return the channel's options. gRPC retries as `service_config.json` says.

    Source: gRFC A6 (client retries); the server's `grpc-retry-pushback-ms` goes before the backoff.
    """
    text = resources.files("parley_client").joinpath("service_config.json").read_text("utf-8")
    config = json.loads(text)  # all languages share the file; the rest is for this client alone
    config["methodConfig"].append(NOT_REPEATED)
    # An option of gRPC core only (gRFC A105): it opens another connection when one is full, which
    # is at 100 calls unless the server says otherwise.
    config["connectionScaling"] = CONNECTION_SCALING
    return (
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(config)),
        ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
        # Finds a restarted server within seconds; gRPC's own waits grow to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # Notices within 40 s that a server vanished without closing, while a call is under way.
        # Parley allows a ping every 20 s (PARLEY_GRPC_MIN_PING_S).
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # That is for what the other machine acknowledges. For the reply itself, which a proxy's
        # machine does not send, gRPC's core waits a minute unless it is told otherwise.
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
    )
