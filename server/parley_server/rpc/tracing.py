"""The trace that a call's metadata names."""

from collections.abc import Iterable

from parley_server.core.tracing import Trace


def trace_of(metadata: Iterable[tuple[str, str | bytes]]) -> Trace | None:
    """Return the trace of a call. None: its metadata names none, or more than one."""
    parent, state = "", ""
    for key, value in metadata:
        if key == "traceparent":
            if parent:
                return None
            parent = str(value)
        elif key == "tracestate":
            # One list in several parts, by the specification.
            state = f"{state},{value!s}" if state else str(value)
    return Trace.read(parent, state) if parent else None
