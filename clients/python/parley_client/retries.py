"""What the client retries by itself, beyond what gRPC retries for it.

gRPC repeats a call that ended UNAVAILABLE (`service_config.json`). A turn that another worker took
over ends ABORTED: gRPC may not repeat that, since most of what is ABORTED needs a decision, but
LEASE_LOST needs none. Both are safe because of the request id: the server makes one turn for it.
"""

import time
from collections.abc import Callable

from parley_client.errors import LeaseLost, ParleyError

MAX_TRIES = 5
DEFAULT_PAUSE_S = 0.2


class Tries:
    """The tries of one call, under one deadline."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the call's time.

        Args:
            timeout_s: for all tries together, in seconds.
        """
        self._clock = clock
        self._ends_at = clock() + timeout_s
        self._count = 1

    @property
    def time_left_s(self) -> float:
        """Until the deadline, in seconds; 0 when it has passed."""
        return max(0.0, self._ends_at - self._clock())

    def pause_s(self, error: ParleyError) -> float | None:
        """Say how long to wait before the next try, in seconds. None: the error stands."""
        pause_s = DEFAULT_PAUSE_S if error.retry_after_s is None else error.retry_after_s
        is_worth_it = isinstance(error, LeaseLost) and self._count < MAX_TRIES
        if not is_worth_it or pause_s >= self.time_left_s:
            return None
        self._count += 1
        return pause_s
