"""Certificates of a test's own authorities, in files that a server reads."""

import asyncio
import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import trustme

NAME = "parley.test"
"""The server's name. The tests connect to 127.0.0.1, as probes do."""


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
        self, ca: trustme.CA, *, name: str = NAME, expires: datetime.datetime | None = None
    ) -> None:
        """Write a new pair."""
        pair = ca.issue_cert(name, not_after=expires)
        self.key.write_bytes(pair.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))


def trusting(ca: trustme.CA, shown: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    """Return a caller's credentials, with the certificate that it shows if asked for one."""
    if shown is None:
        return grpc.ssl_channel_credentials(ca.cert_pem.bytes())
    chain = b"".join(blob.bytes() for blob in shown.cert_chain_pems)
    return grpc.ssl_channel_credentials(ca.cert_pem.bytes(), shown.private_key_pem.bytes(), chain)


async def shown_by(port: int) -> str:
    """Return the certificate that a new connection is shown, PEM."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
