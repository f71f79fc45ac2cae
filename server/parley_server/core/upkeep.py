"""Work that is done in the background by any worker: in small batches, with rests."""

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

from parley_server.core.errors import StoreUnavailable
from parley_server.core.failures import raised_at

log = logging.getLogger("parley.upkeep")

LOOK_S = 5.0
"""How often a worker looks for something that is due, as a rule."""
REST = 6
"""How long it rests after each statement, in times of what that took: turns go first."""

T = TypeVar("T")


class Upkeep(ABC):
    """Looks for something that is due, from `open` to `close`."""

    def __init__(self) -> None:
        """Look for nothing yet."""
        self.look_s = LOOK_S
        """How often to look."""
        self.is_closing = False
        """Whether to begin nothing more."""
        self._closing = asyncio.Event()
        self._woken = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, once the statement under way has ended."""
        self.is_closing = True
        self._closing.set()
        self._woken.set()
        if self._running is not None:
            await asyncio.wait([self._running])

    def wake(self) -> None:
        """Look at once: there is something to do."""
        self._woken.set()

    @abstractmethod
    async def work(self) -> bool:
        """Do what is due. Returns: whether there may be more."""

    async def rested(self, batch: Awaitable[T], rest: float = REST) -> T:
        """Return what a batch returns, after a rest, which closing cuts short.

        Args:
            rest: how long, in times of what the batch took.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        result = await batch
        with suppress(TimeoutError):
            async with asyncio.timeout(rest * (loop.time() - began)):
                await self._closing.wait()
        return result

    async def _run(self) -> None:
        while not self.is_closing:
            self._woken.clear()
            try:
                has_more = await self.work()
            except StoreUnavailable:
                has_more = False  # the next look tries again
            except Exception as error:
                name = type(self).__name__.lower()
                log.exception("%s failed", name, extra={"place": raised_at(error)})
                has_more = False
            if not has_more:
                await self._wait(self.look_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
