"""Asking a server of these settings for its health, as a probe on the same machine does."""

import os
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley_server.config import BadSettings, Settings
from parley_server.proxies import DIRECT
from parley_server.rpc.tls import TlsFiles, probing


class Unanswered(Exception):
    """No health was told. The text is gRPC's name for the reason."""


def health_of(settings: Settings, address: str, service: str, timeout_s: float) -> str:
    """Return the health of one of a server's services, in gRPC's word.

    Raises: Unanswered; BadSettings: a file cannot be read, or there is no such service;
        BadCertificate.
    Guarantees: over TLS, exactly the configured certificate is trusted, whatever the address is.
    """
    with _channel(settings, address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_s
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise BadSettings(f"{address} has no health service {service}") from None
            raise Unanswered(error.code().name) from None
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name


def _channel(settings: Settings, address: str) -> grpc.Channel:
    files = TlsFiles.named(
        settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
    )
    if files is None:
        return grpc.insecure_channel(address, [DIRECT])
    credentials, name = probing(files, _client_pair())
    overridden = ("grpc.ssl_target_name_override", name)
    return grpc.secure_channel(address, credentials, [DIRECT, overridden])


def _client_pair() -> tuple[bytes, bytes] | None:
    """Return key and certificate that the client's own variables name, if they do."""
    key, cert = os.environ.get("PARLEY_KEY_FILE"), os.environ.get("PARLEY_CERT_FILE")
    if not key or not cert:
        return None
    try:
        return Path(key).read_bytes(), Path(cert).read_bytes()
    except OSError as error:
        raise BadSettings(
            f"PARLEY_CERT_FILE, PARLEY_KEY_FILE: {error.filename} cannot be read: {error.strerror}"
        ) from None
