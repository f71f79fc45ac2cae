"""The server's certificate: checked when it starts, read again whenever its files change.

gRPC asks at every handshake which certificate to show. The answer is what the files hold then, if
that is a whole and fitting pair; if not, the last one that was, and a log line says why. So a
renewal needs no restart, whichever file is written first, and no open call notices it.
"""

import math
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Self

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

log = structlog.get_logger("parley.tls")

LOOK_AGAIN_S = 10.0
"""How soon a pair that was rejected is tried again: it may not have been valid yet."""
_MINUTE = "%Y-%m-%d %H:%M UTC"


class BadCertificate(ValueError):
    """The server cannot use these files. The text is one sentence: which file, and why."""


@dataclass(frozen=True)
class TlsFiles:
    """Where the server's certificate is, PEM; and whose certificates callers must show, if any."""

    cert: Path
    key: Path
    client_ca: Path | None

    @classmethod
    def named(cls, cert: Path | None, key: Path | None, client_ca: Path | None) -> Self | None:
        """Return the files; None: the server speaks plaintext."""
        return None if cert is None or key is None else cls(cert, key, client_ca)

    def read(self) -> "Pair":
        """Return what the files hold now.

        Raises: BadCertificate: one cannot be read.
        """
        return Pair(
            _bytes_of("PARLEY_TLS_CERT_FILE", self.cert),
            _bytes_of("PARLEY_TLS_KEY_FILE", self.key),
            _bytes_of("PARLEY_TLS_CLIENT_CA_FILE", self.client_ca) if self.client_ca else None,
        )


@dataclass(frozen=True, repr=False)
class Pair:
    """What the files held at one time. Without a repr, so that no key is ever printed."""

    cert: bytes
    key: bytes
    client_ca: bytes | None

    def check(self) -> x509.Certificate:
        """Return the server's own certificate, the first one of its file.

        Raises: BadCertificate: the pair is not whole, does not fit together, or is out of date.
        """
        certificate = _certificates_in("PARLEY_TLS_CERT_FILE", self.cert)[0]
        if self.client_ca is not None:
            _certificates_in("PARLEY_TLS_CLIENT_CA_FILE", self.client_ca)
        try:
            key = load_pem_private_key(self.key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise BadCertificate(
                "PARLEY_TLS_KEY_FILE: must hold a private key in PEM without a passphrase"
            ) from None
        if _public(key.public_key()) != _public(certificate.public_key()):
            raise BadCertificate(
                "PARLEY_TLS_KEY_FILE: does not belong to the certificate in PARLEY_TLS_CERT_FILE"
            )
        now = datetime.now(UTC)
        if now >= certificate.not_valid_after_utc:
            since = certificate.not_valid_after_utc.strftime(_MINUTE)
            raise BadCertificate(f"PARLEY_TLS_CERT_FILE: expired at {since}: renew it")
        if now < certificate.not_valid_before_utc:
            until = certificate.not_valid_before_utc.strftime(_MINUTE)
            raise BadCertificate(f"PARLEY_TLS_CERT_FILE: is not valid before {until}")
        return certificate

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.cert)], root_certificates=self.client_ca
        )


class Renewing:
    """Answers gRPC's question which certificate to show, at every handshake."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files. Raises: BadCertificate."""
        self._files = files
        self._seen: Pair | str = files.read()
        self._seen.check()
        self._first = self._seen.for_grpc()
        self._complaint = ""
        self._again_s = math.inf
        self._lock = threading.Lock()  # gRPC asks on its own threads

    def credentials(self) -> grpc.ServerCredentials:
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._renewed,  # type: ignore[arg-type] # None is documented: nothing is new
            require_client_authentication=self._files.client_ca is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return another pair to show from now on; None: the same as before."""
        with self._lock:
            found: Pair | str
            try:
                found = self._files.read()
            except BadCertificate as error:
                found = str(error)
            if found == self._seen and monotonic() < self._again_s:
                return None
            self._seen = found
            try:
                if isinstance(found, str):
                    raise BadCertificate(found)
                certificate = found.check()
            except BadCertificate as error:
                why, told = str(error), self._complaint
                self._complaint, self._again_s = why, monotonic() + LOOK_AGAIN_S
                if why != told:
                    log.warning("new certificate rejected, the old one stays in use", why=why)
                return None
            self._complaint, self._again_s = "", math.inf
            log.info("certificate renewed", expires=certificate.not_valid_after_utc.isoformat())
            return found.for_grpc()


def probing(
    files: TlsFiles, shown: tuple[bytes, bytes] | None
) -> tuple[grpc.ChannelCredentials, str]:
    """Return how to speak to the server of these files and to no other, wherever it is reached.

    Args:
        shown: key and certificate to show where callers must show one; None: the server's own.
    Returns: the credentials, and the name by which the certificate knows its server.
    Raises: BadCertificate.
    """
    pair = files.read()
    certificate = pair.check()
    trusted = certificate.public_bytes(Encoding.PEM)
    if files.client_ca is None:
        return grpc.ssl_channel_credentials(trusted), _name_in(certificate)
    key, cert = shown or (pair.key, pair.cert)
    return grpc.ssl_channel_credentials(trusted, key, cert), _name_in(certificate)


def _name_in(certificate: x509.Certificate) -> str:
    with suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for name in names.get_values_for_type(x509.DNSName):
            return name.replace("*", "any")
        for address in names.get_values_for_type(x509.IPAddress):
            return str(address)
    raise BadCertificate("PARLEY_TLS_CERT_FILE: has no subjectAltName, so no client would trust it")


def _certificates_in(name: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise BadCertificate(f"{name}: must hold certificates in PEM") from None


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _bytes_of(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadCertificate(f"{name}: {path} cannot be read: {error.strerror}") from None
