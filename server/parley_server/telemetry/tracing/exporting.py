"""OTLP's exporter of spans, made again when the certificates that it uses were renewed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from parley_server import proxies
from parley_server.certificates import Certificates, ClientFiles, Following, UnusableFiles
from parley_server.config import BadSettings

_PREFIXES = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")
"""Of OpenTelemetry's variables. What is said of traces comes first."""


class Exporter(SpanExporter):
    """OTLP's exporter, which itself reads certificates once."""

    def __init__(self) -> None:
        """Connect to nothing yet. Raises: BadSettings; and what the library says of variables."""
        self._following = _following()
        self._certificates = self._following.newest() if self._following else None
        self._exporter = _made(self._certificates)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        newest = self._following.newest() if self._following else None
        if newest is not self._certificates:
            before, self._exporter = self._exporter, _made(newest)
            self._certificates = newest
            before.shutdown()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _made(certificates: Certificates | None) -> OTLPSpanExporter:
    url = urlsplit(_endpoint())
    direct = proxies.options(url.hostname or "", is_encrypted=url.scheme == "https")
    options: Any = tuple(direct) or None
    if certificates is None:
        return OTLPSpanExporter(channel_options=options)
    credentials = grpc.ssl_channel_credentials(certificates.ca, certificates.key, certificates.cert)
    return OTLPSpanExporter(credentials=credentials, channel_options=options)


def _endpoint() -> str:
    """Return the collector's URL as the variables name it; empty: they name none."""
    return next((url for p in _PREFIXES if (url := os.environ.get(f"{p}ENDPOINT"))), "")


def _following() -> Following | None:
    """Return the certificates for a collector that is spoken to over TLS, if any are named.

    Raises: BadSettings.
    """
    endpoint = _endpoint()
    prefix = next((p for p in _PREFIXES if f"{p}CERTIFICATE" in os.environ), _PREFIXES[-1])
    names = (f"{prefix}CERTIFICATE", f"{prefix}CLIENT_CERTIFICATE", f"{prefix}CLIENT_KEY")
    ca, cert, key = (Path(path) if (path := os.environ.get(name)) else None for name in names)
    if ca is None or not endpoint.startswith("https://"):
        return None  # without it, the library leaves the other two alone
    if bool(cert) != bool(key):
        raise BadSettings(f"{names[1]} and {names[2]} need each other: set both")
    try:
        return Following(ClientFiles(ca, cert, key, names), "the traces' collector")
    except UnusableFiles as error:
        raise BadSettings(str(error)) from None
