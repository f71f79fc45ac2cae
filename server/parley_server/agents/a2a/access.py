"""Where a remote agent is, and what opens its door."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from parley_server.agents.errors import BadAgent
from parley_server.certificates import ClientFiles, Following, UnusableFiles
from parley_server.proxies import is_on_this_machine

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
        scheme = name.partition(":")[0]
        try:
            parts = urlsplit(name)
            host, port = parts.hostname or "", parts.port
        except ValueError:  # half a bracket, a port that is none
            host, port = "", None
        is_bare = host and not (parts.path.strip("/") or parts.query or parts.fragment)
        if scheme not in SCHEMES or not port or not is_bare or "@" in parts.netloc:
            raise BadAgent(
                f"'{scheme}://…' must be a2a+grpc://HOST:PORT, or a2a+grpcs://HOST:PORT with TLS, "
                "and nothing behind it; a token belongs in the agents file"
            )
        return cls(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", scheme == TLS)

    @property
    def host(self) -> str:
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.target.rpartition(":")[2])

    @property
    def is_on_this_machine(self) -> bool:
        return is_on_this_machine(self.host)


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
            raise BadAgent(
                "token must be printable ASCII, not empty, without line breaks", ("token",)
            )
        if not address.is_tls and not address.is_on_this_machine:
            raise BadAgent("token would be sent unencrypted: use a2a+grpcs://HOST:PORT", ("token",))

    def certificates(self, address: Address) -> Following:
        """Return the contents of the files, which are followed. Raises: BadAgent."""
        names = ("ca_file", "cert_file", "key_file")
        files = ClientFiles(self.ca_file, self.cert_file, self.key_file, names)
        try:
            return Following(files, address.target)
        except UnusableFiles as error:
            key = str(error).partition(":")[0]
            raise BadAgent(str(error), (key,)) from None
