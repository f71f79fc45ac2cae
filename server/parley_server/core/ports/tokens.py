"""Who calls."""

from typing import Protocol

from parley_server.core.model import Principal


class TokenVerifier(Protocol):
    """Checks tokens."""

    async def open(self) -> None:
        """Begin to look for keys, if they have to be fetched."""
        ...

    async def close(self) -> None:
        """Stop looking."""
        ...

    @property
    def has_keys(self) -> bool:
        """Whether it can check any token now."""
        ...

    @property
    def keys_age_s(self) -> float | None:
        """How long ago its keys were fetched, in seconds. None: they do not age, or never were."""
        ...

    async def verify(self, token: str) -> Principal:
        """Return whose token this is.

        Raises:
            Unauthenticated: whatever is wrong with it.
            KeysUnavailable: there is no key to check it with.
        Guarantees: waits for nothing but new keys, and then no longer than a fetch of them may
            take. Cancelling it stops nothing that others wait for.
        """
        ...
