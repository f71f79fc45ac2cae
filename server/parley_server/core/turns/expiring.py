"""Ending turns that have waited for too long for their caller: by any worker, in the background."""

import logging

from parley_server.core.attempts.ending import Ending
from parley_server.core.model import FailureReason, Owner, Turn, TurnState, WaitEnd, WaitKey
from parley_server.core.ports import WaitStore
from parley_server.core.tasks import told_defects
from parley_server.core.upkeep import Upkeep

log = logging.getLogger("parley.upkeep")

BATCH = 100
"""How many turns a worker takes note of in one look."""


class Expiring(Upkeep):
    """Looks for turns that have waited for too long, from `open` to `close`.

    The same look finds turns that were being ended, whatever for, by a worker that went away.
    """

    def __init__(self, waits: WaitStore, ending: Ending) -> None:
        """Look for nothing yet."""
        super().__init__()
        self.waits = waits
        self._ending = ending

    async def work(self) -> bool:
        """End what is due. Returns: whether there may be more."""
        due = await self.waits.due(limit=BATCH)
        ended = [await self.rested(self._ended(key)) for key in due if not self.is_closing]
        return len(due) == BATCH and any(ended)

    async def _ended(self, key: WaitKey) -> bool:
        """End a turn. Returns: False: it met a defect, which keeps no other one waiting."""
        with told_defects(log, "wait not ended", turn_id=key.turn_id):
            await self._end(key)
            return True
        return False

    async def _end(self, key: WaitKey) -> None:
        found = await self.waits.find(key)
        if found is None:
            await self.waits.forget(key)
            return
        owner, turn = found
        if turn.state is TurnState.WAITING:
            await self._expire(owner, turn)
        elif _is_to_be_ended(turn):
            await self._ending.end_cancelled(owner, turn)
        elif turn.state is not TurnState.RUNNING:
            await self.waits.forget(key)

    async def _expire(self, owner: Owner, turn: Turn) -> None:
        sequence = await self._ending.end_cancelled(owner, turn, WaitEnd.EXPIRED, only_if_over=True)
        if sequence is not None:
            log.info("wait expired", extra={"turn_id": str(turn.id)})


def _is_to_be_ended(turn: Turn) -> bool:
    """Whether the worker that was to end the turn has gone away before."""
    is_abandoned = turn.error_reason is FailureReason.TURN_ABANDONED
    is_left = turn.state is TurnState.QUEUED or is_abandoned
    return turn.is_cancel_requested and turn.is_newest and is_left
