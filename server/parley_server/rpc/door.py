"""Where calls come in, and how the port closes behind them.

gRPC's core ends every call as CANCELLED that arrives at a server which stops, or that has arrived
and waits to be picked up. Only when the server stops are connections told to go away. So calls
that arrive shortly before are held: their callers wait and send nothing else, until nothing is left
to be picked up. Then the server stops, and what was held goes on: it is answered, and whatever the
caller sends next takes another connection.
"""

import asyncio

LOOK_S = 0.002
"""How long a look for new calls takes, at least: picking one up takes the loop a few rounds."""
QUIET_LOOKS = 12
"""So many looks in a row without a new call: none is left."""
LONGEST_HOLD_S = 1.0
"""How long calls are held at most: callers that do not wait for answers never fall quiet."""
LEAST_LOOKS = 100
"""So many looks there are in any case until it is quiet: a machine may stand still for a second."""


class Door:
    """Counts the calls that come in, and holds them while the port closes."""

    def __init__(self) -> None:
        self._count = 0
        self._is_open = asyncio.Event()
        self._is_open.set()

    async def enter(self) -> None:
        """Come in; held, wait for the release."""
        self._count += 1
        await self._is_open.wait()

    def hold(self) -> None:
        """Hold what comes in from now on."""
        self._is_open.clear()

    def release(self) -> None:
        """Let go on what was held, and what comes in from now on."""
        self._is_open.set()

    async def until_quiet(self) -> None:
        """Wait until no more calls come in, for LONGEST_HOLD_S at most."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + LONGEST_HOLD_S
        seen, looks, quiet_looks = self._count, 0, 0
        while quiet_looks < QUIET_LOOKS and (loop.time() < ends_at or looks < LEAST_LOOKS):
            await asyncio.sleep(LOOK_S)
            looks += 1
            quiet_looks = quiet_looks + 1 if seen == self._count else 0
            seen = self._count
