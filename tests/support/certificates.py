"""Certificates of a test's own authorities, in files that a server reads."""

import asyncio
import datetime
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import trustme

from parley_server.rpc.tls import Renewing, TlsFiles

NAME = "parley.test"
"""The server's name. The tests connect to 127.0.0.1, as probes do."""


def a_clock_at(moment: datetime.datetime) -> type[datetime.datetime]:
    """Return what tells this time, in the place of a module's `datetime`."""

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(moment.timestamp(), tz)

    return Clock


def as_named(name: str = NAME) -> list[tuple[str, str]]:
    """Return a channel's options to call a server by its certificate's name."""
    return [("grpc.ssl_target_name_override", name)]


@dataclass
class Certificates:
    """A server's files, written by an authority."""

    folder: Path

    @property
    def cert(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    @property
    def client_ca(self) -> Path:
        return self.folder / "client-ca.crt"

    def settings(self, *, client_ca: trustme.CA | None = None) -> dict[str, str]:
        """Return the settings that name the files, without PARLEY_ in front."""
        named = {"tls_cert_file": str(self.cert), "tls_key_file": str(self.key)}
        if client_ca is not None:
            client_ca.cert_pem.write_to_path(str(self.client_ca))
            named["tls_client_ca_file"] = str(self.client_ca)
        return named

    def write(
        self,
        ca: trustme.CA,
        *,
        name: str = NAME,
        begins: datetime.datetime | None = None,
        expires: datetime.datetime | None = None,
    ) -> None:
        """Write a new pair."""
        pair = ca.issue_cert(name, not_before=begins, not_after=expires)
        self.key.write_bytes(pair.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))


@dataclass
class BothSides:
    """The files of a client and of its server on this machine, which trust the same authority."""

    ours: Certificates
    theirs: Certificates
    ca: trustme.CA = field(default_factory=trustme.CA)

    @classmethod
    def written(cls, folder: Path) -> Self:
        sides = cls(Certificates(folder / "ours"), Certificates(folder / "theirs"))
        for side in (sides.ours, sides.theirs):
            side.folder.mkdir()
            sides.write(side)
        return sides

    def write(self, side: Certificates) -> None:
        """Write a new pair for one side, and the authority to trust."""
        side.write(self.ca, name="127.0.0.1")
        self.ca.cert_pem.write_to_path(str(side.client_ca))

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return those of a server that follows its files, and asks for certificates."""
        theirs = self.theirs
        return Renewing(TlsFiles(theirs.cert, theirs.key, theirs.client_ca)).credentials()


def trusting(ca: trustme.CA, shown: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    """Return a caller's credentials, with the certificate that it shows if asked for one."""
    if shown is None:
        return grpc.ssl_channel_credentials(ca.cert_pem.bytes())
    chain = b"".join(blob.bytes() for blob in shown.cert_chain_pems)
    return grpc.ssl_channel_credentials(ca.cert_pem.bytes(), shown.private_key_pem.bytes(), chain)


async def shown_by(port: int) -> str:
    """Return the certificate that a new connection is shown, PEM."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
