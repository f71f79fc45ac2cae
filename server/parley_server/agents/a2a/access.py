"""Where a remote agent is, and what opens its door."""

import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from parley_server.agents.errors import BadAgent

PLAIN, TLS = "a2a+grpc", "a2a+grpcs"
SCHEMES = (PLAIN, TLS)


@dataclass(frozen=True, slots=True)
class Address:
    """Of a remote agent's gRPC server."""

    target: str
    """HOST:PORT."""
    is_tls: bool

    @classmethod
    def read(cls, name: str) -> "Address":
        """Read `a2a+grpc://HOST:PORT` or `a2a+grpcs://HOST:PORT`.

        Raises: BadAgent.
        """
        parts = urlsplit(name)
        try:
            port = parts.port
        except ValueError:
            port = None
        host = parts.hostname or ""
        is_bare = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
        if parts.scheme not in SCHEMES or not host or not port or not is_bare:
            scheme = name.partition(":")[0]
            raise BadAgent(
                f"'{scheme}://…' must be a2a+grpc://HOST:PORT, or a2a+grpcs://HOST:PORT with TLS, "
                "and nothing behind it; a token belongs in the agents file"
            )
        return cls(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", parts.scheme == TLS)

    @property
    def host(self) -> str:
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.target.rpartition(":")[2])

    @property
    def is_on_this_machine(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class Access:
    """What a remote agent asks for: keys of its table in the agents file."""

    token: str | None = field(default=None, repr=False)
    """Sent as `authorization: Bearer TOKEN`."""
    ca_file: Path | None = None
    """Certificates to trust, PEM. None: those that gRPC trusts."""
    cert_file: Path | None = None
    """The certificate that is shown if asked for one, PEM."""
    key_file: Path | None = None

    def check(self, address: Address) -> None:
        """Refuse what cannot work, or is not safe.

        Raises: BadAgent.
        """
        if not address.is_tls and (self.ca_file or self.cert_file or self.key_file):
            raise BadAgent("ca_file, cert_file and key_file need TLS: use a2a+grpcs://HOST:PORT")
        if bool(self.cert_file) != bool(self.key_file):
            raise BadAgent("cert_file and key_file must be set together")
        if self.token is None:
            return
        if not self.token or not (self.token.isascii() and self.token.isprintable()):
            raise BadAgent("token must be printable ASCII, not empty, without line breaks")
        if not address.is_tls and not address.is_on_this_machine:
            raise BadAgent("token would be sent unencrypted: use a2a+grpcs://HOST:PORT")


@dataclass(frozen=True, slots=True)
class Certificates:
    """The contents of an Access's files."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None = field(repr=False)

    @classmethod
    def read(cls, access: Access) -> "Certificates":
        """Read the files, and try them: gRPC would not say what is wrong with them.

        Raises: BadAgent.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if access.ca_file is not None:
            try:
                context.load_verify_locations(access.ca_file)
            except OSError as error:  # an SSLError is one
                raise BadAgent(_complaint("ca_file", access.ca_file, error)) from None
        if access.cert_file is not None and access.key_file is not None:
            try:
                # An empty password fails where one is needed, instead of asking at a terminal.
                context.load_cert_chain(access.cert_file, access.key_file, password="")
            except OSError as error:
                raise BadAgent(_complaint("cert_file", access.cert_file, error)) from None
        contents = [
            path.read_bytes() if path is not None else None
            for path in (access.ca_file, access.cert_file, access.key_file)
        ]
        return cls(*contents)


def _complaint(key: str, path: Path, error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        what = "certificates" if key == "ca_file" else "a certificate with its key in key_file"
        return f"{key}: {path} does not hold {what}, as PEM without a password"
    return f"{key}: cannot read {error.filename or path}: {error.strerror}"
