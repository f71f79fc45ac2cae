"""What gRPC's core is told, where it would do harm by itself."""

from parley_server.process.wiring import server_options
from support.services import settings_for


def test_no_call_is_cancelled_for_waiting_before_its_own_time_is_over() -> None:
    """gRPC's own limit is 30 s; tests/torture/test_bursts.py shows what it does."""
    settings = settings_for("postgresql://", chat_timeout_s=590)
    told = dict(server_options(settings, is_port_shared=False))
    assert 600 == told["grpc.server_max_unrequested_time_in_server"]
