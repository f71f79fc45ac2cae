"""Which calls are recorded: decided before anything is made for one that is not.

Where traces are sampled, that is most of them. A span of the SDK that records nothing would cost
each more than all else that is done for traces.
"""

import os
import random

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio, Sampler, TraceIdRatioBased

from parley_server.core.tracing import Trace

FOLLOWING = "parentbased_"
"""How those of OTEL_TRACES_SAMPLER are called that follow the caller's decision."""


class Sampling(RandomIdGenerator):
    """Draws the ids of traces, and decides by them as the SDK's sampler will."""

    def __init__(self, sample: float | None) -> None:
        """Take how much is recorded.

        Args:
            sample: of the traces that begin here; those of callers are as they say. None: by
                OTEL_TRACES_SAMPLER; unset, all.
        """
        self.sampler: Sampler | None = None
        """What the SDK is to ask. None: its own choice."""
        self._bound: int | None = None
        self._follows_callers = os.environ.get("OTEL_TRACES_SAMPLER", FOLLOWING).startswith(
            FOLLOWING
        )
        self._drawn: int | None = None
        if sample is not None:
            self.sampler = ParentBasedTraceIdRatio(sample)
            self._bound = TraceIdRatioBased.get_bound_for_rate(sample)
            self._follows_callers = True

    def unrecorded(self, caller: Trace | None) -> Trace | None:
        """Return the trace of a call that is not recorded. None: the SDK is to make its span.

        Args:
            caller: the trace that the call came with.
        """
        if caller is not None:
            return caller if self._follows_callers and not caller.is_sampled else None
        if self._bound is None:
            return None
        drawn = super().generate_trace_id()
        if drawn & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound:
            self._drawn = drawn
            return None
        return Trace(f"{drawn:032x}", False, parent_id=f"{random.getrandbits(64) or 1:016x}")

    def generate_trace_id(self) -> int:
        """Return the id of the trace that begins: the one by which it was decided to record it."""
        drawn, self._drawn = self._drawn, None
        return super().generate_trace_id() if drawn is None else drawn
