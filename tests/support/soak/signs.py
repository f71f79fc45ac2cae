"""What workers and their database hold, measured again and again."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from statistics import mean, median
from typing import Any, NamedTuple

import psutil
import psycopg

from support.processes import ServerProcess

PATIENCE_S = 20
HELD = '{"event": "held"'
_OF_DATABASE = ("connections", "dead rows, %", "database, MB")
_DATABASE = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'parley-%%'),
    (SELECT 100.0 * sum(n_dead_tup) / greatest(sum(n_dead_tup) + sum(n_live_tup), 1)
        FROM pg_stat_user_tables),
    pg_database_size(current_database()) / 1048576.0
"""


class Series(NamedTuple):
    """One figure over time."""

    name: str
    seconds: list[float]
    figures: list[float]

    def slope(self) -> float:
        """Return by how much of its mean it grows in a minute, by least squares.

        Without the first third, while caches fill up.
        """
        start = len(self.seconds) // 3
        seconds, figures = self.seconds[start:], self.figures[start:]
        at, of = mean(seconds), mean(figures)
        spread = sum((second - at) ** 2 for second in seconds)
        if not spread or not of:
            return 0.0
        pairs = zip(seconds, figures, strict=True)
        return 60 * sum((second - at) * (figure - of) for second, figure in pairs) / spread / of

    def growth(self) -> float:
        """Return by how much its last third is above the one before, by their medians.

        What goes up and down from one moment to the next has a slope, and does not grow.
        """
        third = len(self.figures) // 3
        return median(self.figures[-third:]) / (median(self.figures[third:-third]) or 1) - 1


class Signs:
    """The figures of some workers and of their database."""

    def __init__(
        self, workers: Sequence[ServerProcess], database_url: str, done: Callable[[], int]
    ) -> None:
        """Measure nothing yet.

        Args:
            workers: of `support.soak.worker`.
            done: how many things callers have done so far.
        """
        self._workers = workers
        self._done = done
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._began = time.monotonic()
        self._series: dict[str, Series] = {}
        self._last = (self._began, 0)

    @property
    def series(self) -> list[Series]:
        return list(self._series.values())

    @asynccontextmanager
    async def measured(self, every_s: float) -> AsyncIterator[None]:
        """Measure again and again inside the block."""
        measuring = asyncio.create_task(self._measure_again(every_s))
        try:
            yield
        finally:
            measuring.cancel()
            await asyncio.gather(measuring, return_exceptions=True)
            self._connection.close()

    async def _measure_again(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            now, done = time.monotonic(), self._done()
            then, before = self._last
            self._last = now, done
            self._note("done a second", (done - before) / (now - then))
            for number, worker in enumerate(self._workers, 1):
                held = await held_by(worker)
                self._note(f"worker {number}: memory, MB", memory_mb(worker))
                self._note(f"worker {number}: tasks", held["tasks"])
                self._note(f"worker {number}: objects", held["objects"])
            row = self._connection.execute(_DATABASE).fetchone()
            assert row is not None
            for name, figure in zip(_OF_DATABASE, row, strict=True):
                self._note(name, float(figure or 0))

    def _note(self, name: str, figure: float) -> None:
        series = self._series.setdefault(name, Series(name, [], []))
        series.seconds.append(time.monotonic() - self._began)
        series.figures.append(figure)


async def held_by(worker: ServerProcess) -> dict[str, Any]:
    """Ask a worker what it holds. Returns: `tasks`, and `objects` of the garbage collector."""
    read = len(worker.output)
    worker.signal(signal.SIGUSR2)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for line in worker.output[read:]:
                if line.startswith(HELD):
                    return dict(json.loads(line))
            await asyncio.sleep(0.02)


def memory_mb(worker: ServerProcess) -> float:
    """Return the memory that is its own."""
    return float(psutil.Process(worker.process.pid).memory_full_info().uss) / 2**20
