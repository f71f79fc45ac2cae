"""How calls wait for something to happen to a conversation, or to a turn: bells."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from parley_server.core.model import Owner, tenant_feed
from parley_server.core.ports import Signals

Bell = asyncio.Future[None]
"""Done once it has rung."""

LOOK_S = 0.4
"""How often a call looks at a turn of another worker that may have ended."""
LOOK_WITH_SIGNALS_S = 2.0
"""The same while workers signal each other: to notice turns whose worker died."""


def topic_of(owner: Owner, conversation_id: UUID) -> UUID:
    """Return what a conversation's bells and queue go by.

    Conversation ids are their owners' to choose: two owners may have the same one, and must not
    notice it.
    """
    joined = hashlib.blake2b(owner.id.bytes + conversation_id.bytes, digest_size=16)
    return UUID(bytes=joined.digest())


class Bells:
    """Tells calls that something has changed: of a conversation, its turns; of a turn, its events.

    A bell that is rung here rings on the other workers as well, as far as signals reach them.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._listening: dict[UUID, set[Bell]] = {}

    @property
    def reach_other_workers(self) -> bool:
        return self._signals.are_live

    def listeners(self, topic: UUID | None = None) -> int:
        """Return how many calls listen on this worker: for one topic, or None: for any."""
        if topic is not None:
            return len(self._listening.get(topic, ()))
        return sum(map(len, self._listening.values()))

    @contextmanager
    def listen(self, topic: UUID) -> Iterator[Bell]:
        """Register for the next change. Do so before looking, so that none is missed."""
        bell: Bell = asyncio.get_running_loop().create_future()
        listening = self._listening.setdefault(topic, set())
        listening.add(bell)
        try:
            yield bell
        finally:
            listening.discard(bell)
            if not listening and self._listening.get(topic) is listening:
                del self._listening[topic]

    def ring(self, topic: UUID) -> None:
        """Say that something has changed, here and everywhere."""
        self.heard(topic)
        self._signals.send(topic)

    def ring_ended(self, owner: Owner, conversation_id: UUID) -> None:
        """Say that a turn has ended: to those who wait for its conversation, and to feeds."""
        self.ring(topic_of(owner, conversation_id))
        self.ring(owner.id)
        self.ring(tenant_feed(owner.tenant))

    def heard(self, topic: UUID) -> None:
        """Wake who listens on this worker."""
        for bell in self._listening.pop(topic, ()):
            if not bell.done():
                bell.set_result(None)

    def ring_all(self) -> None:
        """Wake every waiter on this worker: signals may have been missed."""
        for topic in list(self._listening):
            self.heard(topic)

    def next_look_s(self) -> float:
        """Return how long to wait for a bell before looking all the same, in seconds.

        Looks fall on the same moments for all that wait, so that they can share a statement.
        """
        period_s = LOOK_WITH_SIGNALS_S if self._signals.are_live else LOOK_S
        return period_s - asyncio.get_running_loop().time() % period_s
