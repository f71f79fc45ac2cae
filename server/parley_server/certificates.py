"""Certificates for calls to other servers: read once, and again when their files have changed.

Each call looks whether the files are what they were, by a stat of each. If not, they are read, and
used from then on if they are whole and fit together; if not, the last ones that did stay in use,
and a log line says why. So a renewal needs neither a restart nor SIGHUP, whichever file is
written first.
"""

import logging
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TypeAlias

from cryptography import x509

log = logging.getLogger("parley.tls")

LOOK_AGAIN_S = 10.0
"""How soon files that are wrong are read again although they stay as they are: a certificate may be
valid by then, or the system may have got over what kept it from reading."""
_MINUTE = "%Y-%m-%d %H:%M UTC"
_Stamp: TypeAlias = tuple[int, ...]


class UnusableFiles(ValueError):
    """No certificates can be had from some files. The text is one sentence: which file, and why."""


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Where a client's certificates are, PEM."""

    ca: Path | None
    """Whom to trust. None: those that gRPC trusts."""
    cert: Path | None
    """What is shown if asked for, with its key."""
    key: Path | None
    names: tuple[str, str, str]
    """What the settings are called that name the three."""

    def read(self) -> "Certificates":
        """Read the files, and try them: gRPC would not say what is wrong with them.

        Raises: UnusableFiles.
        """
        ca_name, cert_name, key_name = self.names
        found = Certificates(
            _contents(ca_name, self.ca),
            _contents(cert_name, self.cert),
            _contents(key_name, self.key),
        )
        for name, path in ((ca_name, self.ca), (cert_name, self.cert)):
            if path is not None and not _holds_certificates(path):
                raise UnusableFiles(f"{name}: {path} does not hold certificates, as PEM")
        if self.cert is not None and self.key is not None and not _fit(self.cert, self.key):
            raise UnusableFiles(
                f"{key_name}: {self.key} does not hold the key of the certificate in {cert_name}, "
                "as PEM without a password"
            )
        return found

    def stamps(self) -> list[_Stamp | None]:
        """Return what differs once a file was written, replaced, or is behind another link."""
        return [_stamp(path) for path in (self.ca, self.cert, self.key) if path is not None]


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the files held at one time."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None = field(repr=False)

    def shown(self) -> x509.Certificate | None:
        """Return the certificate that is shown. None: there is none, or gRPC must judge it."""
        try:
            return x509.load_pem_x509_certificates(self.cert)[0] if self.cert else None
        except ValueError:  # it is stricter than TLS
            return None


class Following:
    """The certificates for one server, as their files come to hold them."""

    def __init__(self, files: ClientFiles, server: str) -> None:
        """Read the files.

        Args:
            server: named in the log.
        Raises: UnusableFiles.
        """
        self._files = files
        self._server = server
        self._seen = files.stamps()
        self._current = files.read()
        self._complaint = ""
        self._again_s = 0.0

    def newest(self) -> Certificates:
        """Return the newest ones that can be used: the same object until there are others."""
        stamps = self._files.stamps()
        if stamps != self._seen or (self._complaint and monotonic() >= self._again_s):
            self._look(stamps)
        return self._current

    def _look(self, stamps: list[_Stamp | None]) -> None:
        found, complaint = self._current, ""
        try:
            found = self._read()
        except UnusableFiles as error:
            complaint = str(error)
        if self._files.stamps() != stamps:
            return  # they are being written: the next call looks again
        if complaint and complaint != self._complaint:
            why = {"server": self._server, "why": complaint}
            log.warning("new certificates rejected, the old ones stay in use", extra=why)
        self._seen, self._complaint = stamps, complaint
        self._again_s = monotonic() + LOOK_AGAIN_S
        if found != self._current:
            self._current = found
            shown = found.shown()
            expires = shown.not_valid_after_utc.isoformat() if shown else None
            log.info("certificates renewed", extra={"server": self._server, "expires": expires})

    def _read(self) -> Certificates:
        """Read the files. Raises: UnusableFiles: of a new certificate also if it is out of date."""
        found = self._files.read()
        if found == self._current:
            return self._current
        shown = found.shown() if found.cert != self._current.cert else None
        if shown is not None:
            now, name = datetime.now(UTC), f"{self._files.names[1]}: {self._files.cert}"
            if now >= shown.not_valid_after_utc:
                raise UnusableFiles(f"{name} expired at {shown.not_valid_after_utc:{_MINUTE}}")
            if now < shown.not_valid_before_utc:
                since = shown.not_valid_before_utc
                raise UnusableFiles(f"{name} is not valid before {since:{_MINUTE}}")
        return found


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _contents(name: str, path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise UnusableFiles(f"{name}: cannot read {path}: {error.strerror}") from None


def _holds_certificates(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:  # an SSLError is one
        return False
    return True


def _fit(cert: Path, key: Path) -> bool:
    try:
        # An empty password fails where one is needed, instead of asking at a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password="")
    except OSError:
        return False
    return True
