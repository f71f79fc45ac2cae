"""SIGTERM and SIGINT."""

import asyncio
import signal
from collections.abc import Callable


class OsSignals:
    """SIGTERM and SIGINT: the first asks for an orderly end, the second for a quick one."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.on_first: Callable[[], object] = lambda: None
        self.on_second: Callable[[], object] = lambda: None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._came)

    def _came(self) -> None:
        is_first = not self.stop.is_set()
        self.stop.set()
        (self.on_first if is_first else self.on_second)()
