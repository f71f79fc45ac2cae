"""What gRPC's core is told, where it would do harm by itself."""

from parley_server.rpc.options import Limits, options


def test_no_call_is_cancelled_for_waiting_before_its_own_time_is_over() -> None:
    """gRPC's own limit is 30 s; tests/torture/test_bursts.py shows what it does."""
    told = dict(options(Limits(), longest_call_s=600.5, is_port_shared=False))
    assert 601 == told["grpc.server_max_unrequested_time_in_server"]
