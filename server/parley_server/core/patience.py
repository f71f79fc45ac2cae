"""Until when what is done for a call may wait for the store.

It is kept in a context variable, which tasks inherit: what is begun for a call knows the call's
end, however many functions lie between. The loop's clock is `time.monotonic`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context

MARGIN_S = 0.25
"""How long before its deadline a call is told that the store is away, so that it still hears it."""
LEAST_S = 1.0
"""How long any statement may wait: a failure is still written down behind its call's end."""

_ends_at: ContextVar[float] = ContextVar("ends_at", default=math.inf)


def wait_until(ends_at: float) -> None:
    """Say when the call ends for which this task, and those it begins, work from now on.

    Args:
        ends_at: on the loop's clock.
    """
    _ends_at.set(ends_at - MARGIN_S)


@contextmanager
def waiting_until(ends_at: float) -> Iterator[None]:
    """Wait no longer than this inside the block, nor than the call may."""
    token = _ends_at.set(min(ends_at, _ends_at.get()))
    try:
        yield
    finally:
        _ends_at.reset(token)


def for_any_call() -> Context:
    """Return a copy of this context in which no call's end is known: what several calls share."""
    context = copy_context()
    context.run(_ends_at.set, math.inf)
    return context


def patience_ends_at(now: float, most_s: float = math.inf) -> float:
    """Return until when a statement may wait for the store.

    Args:
        now: on the loop's clock.
        most_s: how long it may wait at most, whatever the call's deadline.
    """
    return max(now + LEAST_S, min(now + most_s, _ends_at.get()))
