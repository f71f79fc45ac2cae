"""From settings to parts: each `…_for` makes one, or says what is wrong with the setting."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from parley_server.auth.jwks import JwksKeys, JwksVerifier
from parley_server.auth.jwt_verifier import JwtVerifier, check_tenant_claim
from parley_server.auth.keys import Key, UnusableKeys, read_keys
from parley_server.config import BadSettings, Settings
from parley_server.core.attempts.roster import Roster
from parley_server.core.ports import NO_TRACER, Tracer
from parley_server.core.streams.watches import LONGEST_WATCH_S
from parley_server.core.turns.machine import OVERTIME_S
from parley_server.rpc.options import Limits, options
from parley_server.rpc.tls import BadCertificate, Renewing, TlsFiles

if TYPE_CHECKING:
    from parley_server.telemetry.metrics import Metrics
    from parley_server.telemetry.tracing.sending import Sending


def verifier_for(settings: Settings) -> JwtVerifier | JwksVerifier:
    """Return who checks tokens.

    Raises: BadSettings.
    """

    def with_keys(keys: Sequence[Key]) -> JwtVerifier:
        return JwtVerifier(
            keys,
            settings.auth_issuer or "",
            settings.auth_audience or "",
            settings.auth_tenant_claim,
            require_scopes=settings.auth_require_scopes,
        )

    try:
        check_tenant_claim(settings.auth_tenant_claim)  # published keys come later, and with calls
    except ValueError as error:
        raise BadSettings(f"PARLEY_AUTH_TENANT_CLAIM: {error}") from None
    if settings.auth_jwks_url is not None:
        return JwksVerifier(JwksKeys(settings.auth_jwks_url), with_keys)
    keys = _keys_of(settings)
    try:
        return with_keys(keys)
    except ValueError as error:
        raise BadSettings(f"PARLEY_AUTH_…: {error}") from None


def _keys_of(settings: Settings) -> list[Key]:
    """Return the keys that are set; none: they are set nowhere. Raises: BadSettings."""
    file, secret = settings.auth_keys_file, settings.auth_hs256_secret
    try:
        if file is not None:
            return read_keys(file)
        return [Key(secret.get_secret_value().encode())] if secret is not None else []
    except UnusableKeys as error:
        setting = "PARLEY_AUTH_KEYS_FILE" if file is not None else "PARLEY_AUTH_HS256_SECRET"
        raise BadSettings(f"{setting}: {error}") from None


def metrics_for(settings: Settings, roster: Roster) -> "Metrics | None":
    """Return who counts, if anybody is to; turns of the default agent under its name."""
    if settings.metrics_listen is None:
        return None
    # Here, because it takes a tenth of a second that only those who want metrics are to pay.
    from parley_server.telemetry.metrics import Metrics

    return Metrics(lambda: roster.default.name, settings.worker_index)


def tracer_for(settings: Settings) -> "tuple[Tracer, Sending | None]":
    """Return who records calls, and who sends what is recorded, if anybody is to.

    Raises: BadSettings.
    """
    if settings.traces == "off":
        return NO_TRACER, None
    # Here, so that those who want no traces load none of it.
    from parley_server.telemetry.tracing.sending import Sending
    from parley_server.telemetry.tracing.tracer import SpanTracer

    has_content = settings.traces_content
    sending = Sending(
        sample=settings.traces_sample,
        has_content=has_content,
        worker_index=settings.worker_index,
    )
    tracer = SpanTracer(sending.provider, sending.sampling, has_content=has_content)
    return tracer, sending


def server_options(settings: Settings, *, is_port_shared: bool) -> list[tuple[str, int]]:
    """Return the options of gRPC's server."""
    limits = Limits(
        max_receive_bytes=settings.grpc_max_receive_bytes,
        max_send_bytes=settings.grpc_max_send_bytes,
        max_metadata_bytes=settings.grpc_max_metadata_bytes,
        max_connections=settings.grpc_max_connections,
        max_streams=settings.grpc_max_streams,
        connection_age_s=settings.grpc_connection_age_s,
        connection_idle_s=settings.grpc_connection_idle_s,
        keepalive_s=settings.grpc_keepalive_s,
        keepalive_timeout_s=settings.grpc_keepalive_timeout_s,
        min_ping_s=settings.grpc_min_ping_s,
    )
    longest_call_s = max(settings.chat_timeout_s + OVERTIME_S, LONGEST_WATCH_S)
    return options(limits, longest_call_s=longest_call_s, is_port_shared=is_port_shared)


def certificate_for(settings: Settings) -> Renewing | None:
    """Return what to speak TLS with; None: plaintext.

    Raises: BadSettings.
    """
    files = TlsFiles.named(
        settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
    )
    try:
        return None if files is None else Renewing(files)
    except BadCertificate as error:
        raise BadSettings(str(error)) from None
