"""A path with bad weather: pieces are late or lost and sent again, connections are reset."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from support.paths import Open, Path

AGAIN_S = 0.2
"""When TCP sends what was lost again, at first. Behind a proxy, loss is seen as lateness."""
_PIECE_BYTES = 1 << 16


class Weather(Path):
    """Forwards bytes late, and cuts connections at random."""

    def __init__(self, destination: Open, *, delay_s: float, loss: float, reset_s: float) -> None:
        """Make a path.

        Args:
            delay_s: of each piece, one way.
            loss: how much is lost, 0 to 1, and so comes AGAIN_S later, or twice that, and so on.
            reset_s: how often one of the connections is reset, on average.
        """
        super().__init__(destination)
        self._delay_s = delay_s
        self._loss = loss
        self._reset_s = reset_s
        self.resets = 0
        self.is_bad = False
        """Whether the weather is bad now. Workers start in good weather."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with super().running():
            resetting = asyncio.create_task(self._reset())
            try:
                yield self
            finally:
                resetting.cancel()

    async def _reset(self) -> None:
        while True:
            await asyncio.sleep(random.expovariate(1 / self._reset_s))
            if self.is_bad and self._writers:
                random.choice(list(self._writers)).transport.abort()
                self.resets += 1

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass pieces on in order. Lateness does not add up: many may be under way."""
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def pass_on() -> None:
            while True:
                at, data = await due.get()
                await asyncio.sleep(at - loop.time())
                writer.write(data)
                await writer.drain()

        passing = asyncio.create_task(pass_on())
        try:
            while data := await reader.read(_PIECE_BYTES):
                due.put_nowait((loop.time() + self._lateness(), data))
        finally:
            passing.cancel()

    def _lateness(self) -> float:
        if not self.is_bad:
            return 0
        late_s, again_s = self._delay_s, AGAIN_S
        while random.random() < self._loss:
            late_s, again_s = late_s + again_s, 2 * again_s
        return late_s
