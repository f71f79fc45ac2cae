"""Keeping the leases of attempts under way, and noticing that they are to be stopped."""

import asyncio
import logging
from collections.abc import Mapping
from uuid import UUID

from parley_server.core.attempts.attempt import Attempt
from parley_server.core.bells import Bells
from parley_server.core.errors import StoreUnavailable
from parley_server.core.failures import Stop
from parley_server.core.patience import waiting_until
from parley_server.core.ports import Store
from parley_server.core.tasks import Heartbeat, Tasks

log = logging.getLogger("parley.turns")

CANCEL_LOOK_S = 0.5
"""How often a running turn is looked at for CancelTurn, where no signals reach this worker."""


class Keeping:
    """Looks after the attempts of this worker."""

    def __init__(
        self,
        store: Store,
        bells: Bells,
        attempts: Mapping[UUID, Attempt],
        tasks: Tasks,
        lease_s: float,
    ) -> None:
        """Begin to look.

        Args:
            attempts: those under way, by turn; others change it.
        """
        self._store = store
        self._bells = bells
        self._attempts = attempts
        self._tasks = tasks
        self._lease_s = lease_s
        self._loop = asyncio.get_running_loop()
        self._looking = Heartbeat(CANCEL_LOOK_S, self._look_without_signals, tasks, self._loop)

    def close(self) -> None:
        """Look for nothing any more."""
        self._looking.cancel()

    def keep(self, attempt: Attempt) -> Heartbeat:
        """Renew an attempt's lease each third of it, until this is cancelled."""
        return Heartbeat(self._lease_s / 3, lambda: self._renew(attempt), self._tasks, self._loop)

    def heard(self, topic: UUID) -> None:
        """Take note of a signal, which may say that a turn that runs here is to be stopped."""
        attempt = self._attempts.get(topic)
        if attempt is not None:
            self._tasks.start(self._look_for_cancel(attempt))

    def missed(self) -> None:
        """Take note that signals may have been missed."""
        self._tasks.start(self._look_at_all())

    async def _renew(self, attempt: Attempt) -> None:
        """Keep the lease. With the database away, the agent goes on."""
        owner, lease = attempt.owner, attempt.lease
        try:
            with waiting_until(self._loop.time()):  # late, it would hold a turn that no longer runs
                is_to_stop = await self._store.renew(owner, lease)
            if is_to_stop:
                attempt.stop(Stop.CANCELLED)  # its signal got lost
            if is_to_stop is not None:
                return
            turn = await self._store.turn(owner, lease.conversation_id, lease.turn_id)
        except StoreUnavailable:
            log.warning("heartbeat not stored", extra={"turn_id": str(lease.turn_id)})
            return
        if turn is None:
            attempt.stop(Stop.CONVERSATION_GONE)
        elif turn.fence != lease.fence:
            attempt.stop(Stop.LEASE_LOST)

    async def _look_without_signals(self) -> None:
        if not self._bells.reach_other_workers:
            await self._look_at_all()

    async def _look_at_all(self) -> None:
        """Look at every turn that runs here, for CancelTurn."""
        await asyncio.gather(*(self._look_for_cancel(a) for a in list(self._attempts.values())))

    async def _look_for_cancel(self, attempt: Attempt) -> None:
        """Stop an attempt whose turn is to be stopped, or whose conversation is deleted."""
        owner, lease = attempt.owner, attempt.lease
        try:
            turn = await self._store.turn(owner, lease.conversation_id, lease.turn_id)
        except StoreUnavailable:
            return  # the next look sees it
        if turn is None:
            attempt.stop(Stop.CONVERSATION_GONE)
        elif turn.is_cancel_requested and turn.fence == lease.fence:
            attempt.stop(Stop.CANCELLED)
