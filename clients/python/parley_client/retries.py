"""Decides what the client retries by itself, beyond what gRPC retries for it.

gRPC repeats a call that ended UNAVAILABLE before a response came (`service_config.json`). A turn
that another worker took over ends ABORTED with LEASE_LOST. gRPC must not repeat ABORTED, since most
of its reasons need a decision by the caller, but LEASE_LOST does not. Both are safe because of the
request id: the server makes one turn for it.

gRPC cannot resume a stream that was lost after its first response, so that the client makes all
tries of streams. A proxy resets those whose server it has lost, which gRPC calls INTERNAL. The
client also makes all tries of a call whose last error has to be read in the light of
the ones before, which gRPC does not show.
"""

import math
import random
import time
from collections.abc import Callable

import grpc

from parley_client.errors import DeadlineExceeded, LeaseLost, Overloaded, ParleyError, Unavailable

MAX_TRIES = 5
MAX_TRIES_UNDER_WAY = 8
"""For a turn that has begun to arrive: enough for a server to restart."""
MAX_TRIES_FOR_TOKEN = 100
"""For a watch whose token function fails: about five minutes. The server may be away for longer,
but of a function that fails for so long, its owner has to know."""
LONGEST_CALL_S = 365 * 86_400.0
"""gRPC counts nanoseconds in 64 bits: a deadline beyond those, such as one without end, would have
passed at once."""
DEFAULT_PAUSE_S = 0.2
LONGEST_PAUSE_S = 3.0

Clock = Callable[[], float]


class Tries:
    """The tries of one call, under one deadline."""

    def __init__(self, timeout_s: float, clock: Clock = time.monotonic) -> None:
        """Start the call's clock.

        Args:
            timeout_s: for all tries together, in seconds.
        """
        self._clock = clock
        self._ends_at = clock() + timeout_s
        self._count = 1
        self.may_be_done = False
        """An earlier try ended UNAVAILABLE: the server may have done what it was asked to."""

    @property
    def is_first(self) -> bool:
        """Whether no try has failed yet."""
        return self._count == 1

    @property
    def time_left_s(self) -> float:
        """The time until the deadline, in seconds, at most a year; 0 when it has passed."""
        return min(max(0.0, self._ends_at - self._clock()), LONGEST_CALL_S)

    def pause_s(self, error: ParleyError) -> float | None:
        """Return how long to wait before the next try, in seconds. None: do not retry."""
        pause_s = self._wanted_pause_s(error)
        if not self._is_worth_it(error) or pause_s >= self.time_left_s:
            return None
        self._count += 1
        self.may_be_done = self.may_be_done or isinstance(error, Unavailable)
        return pause_s

    def _wanted_pause_s(self, error: ParleyError) -> float:
        return DEFAULT_PAUSE_S if error.retry_after_s is None else error.retry_after_s

    def _is_worth_it(self, error: ParleyError) -> bool:
        return isinstance(error, LeaseLost) and self._count < MAX_TRIES


class AllTries(Tries):
    """The tries of a call that gRPC does not repeat: the client makes all of them."""

    def _wanted_pause_s(self, error: ParleyError) -> float:
        """Return no less than the server asks for, and more after every try without success."""
        doublings = min(self._count - 1, 9)  # a watch is retried without limit
        backoff_s = min(LONGEST_PAUSE_S, DEFAULT_PAUSE_S * 2.0**doublings)
        spread_s = backoff_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
        return max(spread_s, error.retry_after_s or 0.0)

    def _is_worth_it(self, error: ParleyError) -> bool:
        helps = isinstance(error, Unavailable | LeaseLost) and not error.is_pushed_back
        return helps and self._count < MAX_TRIES


class StreamTries(AllTries):
    """The tries of one streamed turn, counted from 1 again after each new piece."""

    def __init__(self, timeout_s: float, clock: Clock = time.monotonic) -> None:
        super().__init__(timeout_s, clock)
        self.is_under_way = False
        """Something has come."""
        self._tokenless = 0

    def note_progress(self) -> None:
        """Record that something new has come."""
        self.is_under_way = True
        self._count = 1
        self._tokenless = 0

    def pause_for_token_s(self, error: Unavailable) -> float | None:
        """Return how long to wait before the token is asked for again, in seconds.

        Returns: None: what is wrong with it is raised, as it is at once before anything has come.
        """
        self._tokenless += 1
        waits = self.is_under_way and self._tokenless < MAX_TRIES_FOR_TOKEN
        return self.pause_s(error) if waits else None

    def _is_worth_it(self, error: ParleyError) -> bool:
        if error.is_pushed_back:
            return False
        if not self.is_under_way:
            return _is_lost(error) and self._count < MAX_TRIES
        # A draining worker hands all its streams to the others at once.
        helps = _is_lost(error) or isinstance(error, Overloaded)
        return helps and self._count < MAX_TRIES_UNDER_WAY


class RehearsalTries(StreamTries):
    """The tries of a rehearsal: none once anything has come, which no other try would bring."""

    def _is_worth_it(self, error: ParleyError) -> bool:
        return not self.is_under_way and super()._is_worth_it(error)


class WatchTries(StreamTries):
    """The tries of a watch: without limit, once it has begun.

    But for resets: one that always comes at the same place is no loss, and has to be known.
    """

    def __init__(self) -> None:
        super().__init__(math.inf)

    def _is_worth_it(self, error: ParleyError) -> bool:
        if not self.is_under_way or _is_reset(error):
            return super()._is_worth_it(error)
        return isinstance(error, Unavailable | Overloaded | DeadlineExceeded)


class ExportTries(StreamTries):
    """The tries of an export, counted from 1 again after each part."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(math.inf, clock)

    def _is_worth_it(self, error: ParleyError) -> bool:
        if not self.is_under_way:
            return super()._is_worth_it(error)
        # The server ends the call of a caller that has rested for too long with DEADLINE_EXCEEDED.
        helps = _is_lost(error) or isinstance(error, Overloaded | DeadlineExceeded)
        return helps and self._count < MAX_TRIES_UNDER_WAY


def _is_lost(error: ParleyError) -> bool:
    """Say whether a stream was lost on its way, or with its worker."""
    return _is_reset(error) or isinstance(error, Unavailable | LeaseLost)


def _is_reset(error: ParleyError) -> bool:
    """Say whether a proxy has reset a stream, as it does when it has lost the stream's server.

    gRPC tells that as INTERNAL. Parley's own errors have a reason.
    """
    return error.code is grpc.StatusCode.INTERNAL and not error.reason
