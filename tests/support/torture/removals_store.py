"""Protections of the store that experiments take out of their workers, by name."""

from collections.abc import Callable

from parley_server.storage.driver import errors


def _forget(state: str) -> Callable[[], None]:
    """Take what Postgres says with a SQLSTATE for a defect, and no outage."""

    def forget() -> None:
        assert state in errors.NOT_CARRIED_OUT
        errors.NOT_CARRIED_OUT = frozenset(errors.NOT_CARRIED_OUT - {state})

    return forget


REMOVALS: dict[str, Callable[[], None]] = {
    "disk full": _forget("53100"),
    "read only": _forget(errors.READ_ONLY),
}
