"""The steps of a turn: those that earlier attempts have stored, and this attempt's own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from parley_server.core.errors import LeaseLost, StoreUnavailable
from parley_server.core.model import Step, StepKind
from parley_server.core.tasks import RETRY_PAUSE_S, Tasks

MAX_BYTES = 8 * 1024 * 1024
"""How much the bodies of a turn's steps may hold together."""
SMALL_BYTES = 4096
"""A step as small as this is stored even so: that a call was made has to be known."""

StoreStep = Callable[[Step], Awaitable[bool]]
"""Stores a step. False: the attempt has lost its lease."""


class StepsTooLarge(Exception):
    """A turn's steps would be larger than they may be: the run has to end with what it has."""


class StepLog:
    """Stores what an agent does before it goes on; see `core.model.Steps`."""

    def __init__(
        self, done: Sequence[Step], store: StoreStep, on_lost: Callable[[], None], tasks: Tasks
    ) -> None:
        """Store nothing yet.

        Args:
            done: the steps of earlier attempts.
            tasks: where statements are kept until they have ended: none of them is cancelled.
        """
        self.done = done
        self.has_any = bool(done)
        """Whether steps of the turn may be stored."""
        self._store = store
        self._on_lost = on_lost
        self._tasks = tasks
        self._last = done[-1].number if done else 0
        self._bytes = sum(len(step.body.encode()) for step in done)
        self._storing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def store(self, kind: StepKind, body: str) -> None:
        """Store one more step; returns once it is stored.

        Raises: StepsTooLarge, LeaseLost.
        """
        size = len(body.encode())
        if self._bytes + size > MAX_BYTES and size > SMALL_BYTES:
            raise StepsTooLarge
        self._bytes += size
        self._last += 1
        self.has_any = True
        storing = self._tasks.start(self._store_until_known(Step(self._last, kind, body)))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        await asyncio.shield(storing)

    async def close(self) -> None:
        """Store nothing more; returns once nothing is on its way to the database."""
        self._is_closed = True
        if self._storing:
            await asyncio.wait(self._storing)

    async def _store_until_known(self, step: Step) -> None:
        while not self._is_closed:
            try:
                is_ours = await self._store(step)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_PAUSE_S)  # storing it twice stores it once
                continue
            if is_ours:
                return
            self._is_closed = True
            self._on_lost()
        raise LeaseLost
