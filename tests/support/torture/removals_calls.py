"""Protections of calls and of who makes them, which experiments take out of workers, by name."""

from collections.abc import Callable
from typing import Any

from parley_server.auth import jwks
from parley_server.process import wiring

GRACE_MS = 500


def _without_grace() -> None:
    """Cut the calls of a connection that is over its age, half a second later."""
    whole = wiring.options  # type: ignore[attr-defined]  # what it has imported

    def cutting(*arguments: Any, **named: Any) -> list[tuple[str, int]]:
        found = dict(whole(*arguments, **named))
        assert found["grpc.max_connection_age_grace_ms"] > GRACE_MS
        return list((found | {"grpc.max_connection_age_grace_ms": GRACE_MS}).items())

    wiring.options = cutting  # type: ignore[attr-defined]  # the same


def _without_distance() -> None:
    """Fetch an issuer's keys again as soon as the fetch before has ended."""
    assert jwks.MIN_DISTANCE_S > 0
    jwks.MIN_DISTANCE_S = 0.0


REMOVALS: dict[str, Callable[[], None]] = {
    "grace": _without_grace,
    "distance": _without_distance,
}
