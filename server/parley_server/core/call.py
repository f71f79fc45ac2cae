"""One call of Chat or StreamChat, seen from the work that is done for it."""

import asyncio
from collections.abc import Callable

from parley_server.core.failures import Stop
from parley_server.core.model import OnDisconnect

TOO_SHORT_S = 1.0
"""With less than this left, no attempt is begun."""


class Call:
    """How long a call may take, whether anybody still waits for it, and what is run for it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        time_left_s: float | None,
        cap_s: float,
        on_disconnect: OnDisconnect,
    ) -> None:
        """Begin to count.

        Args:
            loop: the running one. It is handed on: Python 3.11 makes a system call each time that
                it is asked which one runs.
            time_left_s: until the caller's deadline; None: it has none.
            cap_s: the server's cap on any call.
        """
        self.loop = loop
        now = loop.time()
        self._cap_at = now + cap_s
        self.ends_at = self._cap_at if time_left_s is None else min(now + time_left_s, self._cap_at)
        self.gone: asyncio.Future[None] = self.loop.create_future()
        """Done when the caller is lost."""
        self._stop: Callable[[Stop], None] | None = None
        self._continues = on_disconnect is OnDisconnect.CONTINUE

    @property
    def time_left_s(self) -> float:
        return self.ends_at - self.loop.time()

    @property
    def is_too_short(self) -> bool:
        return self.time_left_s < TOO_SHORT_S

    @property
    def run_ends_at(self) -> float:
        """When an agent that is run for this call has to end."""
        return self._cap_at if self._continues else self.ends_at

    def keep_going(self) -> None:
        """Have what is run for it from now on not end with it: its turn needs no caller."""
        self._continues = True

    def lose(self) -> None:
        """Take note that the caller is gone."""
        if not self.gone.done():
            self.gone.set_result(None)
        if self._stop is not None and not self._continues:
            self._stop(Stop.CALLER_LOST)

    def attach(self, stop: Callable[[Stop], None]) -> asyncio.TimerHandle:
        """Have an attempt stopped when this call ends, or loses its caller.

        Returns: the timer that stops it with the call.
        """
        self._stop = stop
        if self.gone.done() and not self._continues:
            stop(Stop.CALLER_LOST)
        why = Stop.TIMEOUT if self.run_ends_at == self._cap_at else Stop.CALLER_LOST
        return self.loop.call_at(self.run_ends_at, stop, why)
