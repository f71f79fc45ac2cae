"""SIGTERM, SIGINT and SIGHUP."""

import asyncio
import signal
from collections.abc import Callable


class OsSignals:
    """SIGTERM and SIGINT: the first asks for an orderly end, the second for a quick one. SIGHUP."""

    def __init__(self, *, can_reload: bool = False) -> None:
        """Take the signals from now on.

        Args:
            can_reload: SIGHUP sets `reload`; otherwise it asks for an end as well, unless it is
                ignored, as with nohup.
        """
        self.stop = asyncio.Event()
        """Set by the first, or by who else has a reason."""
        self.reload = asyncio.Event()
        """Set by each SIGHUP; whoever reads the file again clears it before."""
        self.on_first: Callable[[], object] = lambda: None
        self.on_second: Callable[[], object] = lambda: None
        self._has_come = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._came)
        if can_reload:
            loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._came)  # the terminal was closed

    def _came(self) -> None:
        is_first, self._has_come = not self._has_come, True
        self.stop.set()
        (self.on_first if is_first else self.on_second)()
