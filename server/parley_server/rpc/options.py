"""What one connection and one message may be: the options of gRPC's server."""

import math
from dataclasses import dataclass

LOOKAHEAD_BYTES = 8 * 1024
HANDSHAKE_S = 20.0
"""How long a connection may take until it speaks HTTP/2; gRPC's own limit is two minutes."""
AGE_GRACE_S = 10.0
"""How long a connection that is over its age outlives the longest call on it."""


@dataclass(frozen=True)
class Limits:
    """What a caller may ask of one connection. The settings have the defaults."""

    max_receive_bytes: int
    max_send_bytes: int
    max_metadata_bytes: int
    max_connections: int
    max_streams: int
    connection_age_s: float
    connection_idle_s: float
    keepalive_s: float
    keepalive_timeout_s: float
    min_ping_s: float


def options(
    limits: Limits, *, longest_call_s: float, is_port_shared: bool
) -> list[tuple[str, int]]:
    """Return them as gRPC names them.

    Args:
        longest_call_s: how long any call may take; a connection that is too old lets it end.
    """
    return [
        # So much of a message may arrive before its call is looked at. A longer one costs its
        # caller a round trip more; gRPC's own 64 KiB, and what it learns to add, cost a worker
        # that much for each stream of a stranger.
        ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_receive_message_length", limits.max_receive_bytes),
        ("grpc.max_send_message_length", limits.max_send_bytes),
        # From the first on, gRPC refuses some calls at random; beyond the second, all. Both leave
        # room for a token that is too long (8 KiB) to arrive, and to be refused in our words. They
        # hold for each frame of the metadata; that there are only so many is gRPC's own doing.
        ("grpc.max_metadata_size", limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", 2 * limits.max_metadata_bytes),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_concurrent_streams", limits.max_streams),
        # It refuses calls of clients that keep to the limit, whenever a stream that has ended is
        # not cleared away yet. Against rapid resets the limit alone is enough: tests/torture.
        ("grpc.http.overload_protection", 0),
        ("grpc.max_connection_age_ms", _ms(limits.connection_age_s)),
        ("grpc.max_connection_age_grace_ms", _ms(longest_call_s + AGE_GRACE_S)),
        ("grpc.max_connection_idle_ms", _ms(limits.connection_idle_s)),
        ("grpc.server_handshake_timeout_ms", _ms(HANDSHAKE_S)),
        ("grpc.keepalive_time_ms", _ms(limits.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(limits.keepalive_timeout_s)),
        # That is for what the other machine acknowledges. For the reply itself, which a proxy's
        # machine does not send, core waits a minute unless it is told otherwise.
        ("grpc.http2.ping_timeout_ms", _ms(limits.keepalive_timeout_s)),
        # Clients may ping as well, between calls too; one that overdoes it is sent away.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(limits.min_ping_s)),
        # Two services that share a port by accident would each get half of the calls.
        ("grpc.so_reuseport", int(is_port_shared)),
        # What the loop has not picked up within this time, gRPC's core ends as CANCELLED, without a
        # word in any log; its own limit is 30 s, and a burst of turns can take longer than that.
        ("grpc.server_max_unrequested_time_in_server", math.ceil(longest_call_s)),
        # And it thins a burst that waits to be picked up, at random.
        ("grpc.server.max_pending_requests", 20_000),
        ("grpc.server.max_pending_requests_hard_limit", 40_000),
    ]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
