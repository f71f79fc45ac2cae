"""How workers tell each other of changes."""

from typing import Protocol
from uuid import UUID


class Signals(Protocol):
    """How workers tell each other that something has changed, without saying what.

    Signals may be lost, merged and repeated: a worker that hears one looks for itself.
    """

    @property
    def are_live(self) -> bool:
        """Whether this worker hears the others at the moment. If not, it has to look by itself."""
        ...

    def send(self, topic: UUID) -> None:
        """Tell the other workers, soon. Does not wait, and does not fail."""
        ...
