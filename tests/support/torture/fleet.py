"""Workers, each in a process of its own, that are killed, stopped and replaced."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.processes import ServerProcess
from support.torture.operations import WORKER_KILLED, Log

LEASE_S = 1.5
SETTINGS: dict[str, Any] = {
    "agent": "echo:0.02",
    "lease_s": LEASE_S,
    # So that no turn is given up that is unlucky again and again.
    "max_attempts": 50,
}


class Fleet:
    """Workers of one database."""

    def __init__(
        self, database_url: str, log: Log, *, without: tuple[str, ...] = (), **settings: Any
    ) -> None:
        """Make none yet.

        Args:
            without: the protections that are taken out of the workers; see `unprotected`.
            settings: of the workers, in addition to SETTINGS.
        """
        self._database_url = database_url
        self._log = log
        self._without = without
        self._settings = {**SETTINGS, **settings}
        self.workers: list[ServerProcess] = []
        self._gone: list[ServerProcess] = []

    def any(self) -> Any:
        """Return the stub of a worker that is not known to be gone."""
        return random.choice(self.workers).stub

    async def start(self) -> ServerProcess:
        """Start another worker, which is not called yet."""
        how: dict[str, Any] = {}
        if self._without:
            how = {
                "module": "support.torture.unprotected",
                "arguments": (",".join(self._without), "serve"),
            }
        return await asyncio.to_thread(ServerProcess, self._database_url, **how, **self._settings)

    async def add(self) -> ServerProcess:
        """Start another worker."""
        worker = await self.start()
        self.workers.append(worker)
        return worker

    async def kill(self, worker: ServerProcess) -> None:
        """Kill a worker (-9). It is called no more."""
        self._log.note(WORKER_KILLED)
        worker.signal(signal.SIGKILL)
        if worker in self.workers:
            self.workers.remove(worker)
        self._gone.append(worker)
        await asyncio.to_thread(worker.kill)

    async def replace_one(self) -> None:
        """Kill a worker at random, while the others go on, and start another one."""
        replacement = await self.start()
        doomed = random.choice(self.workers)
        self.workers.append(replacement)
        await self.kill(doomed)

    @asynccontextmanager
    async def running(self, workers: int = 2) -> AsyncIterator["Fleet"]:
        """Run so many workers for the block."""
        try:
            self.workers += await asyncio.gather(*(self.start() for _ in range(workers)))
            yield self
        finally:
            for worker in (*self.workers, *self._gone):
                await asyncio.to_thread(worker.kill)
                await worker.channel.close(None)
