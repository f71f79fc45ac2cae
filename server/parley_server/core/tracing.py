"""The trace that a call belongs to, by W3C Trace Context: what its log lines and its providers say.

Without PARLEY_TRACES, Parley creates no spans. It hands the caller's trace on, with a new span id
for whatever it asks of others, so that what they record is found under the caller's trace id. With
it, `telemetry.tracing` puts a trace here that names the span under way.
"""

import random
import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from parley_server.core.model import Usage

MAX_STATE_CHARACTERS = 512
"""What the specification requires to be handed on, at least."""

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_STATE = re.compile(r"[ -~]+")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class SpanSource:
    """What an agent's library takes to make spans of its own under the one under way."""

    provider: Any
    """A `TracerProvider` of the OpenTelemetry API."""
    has_content: bool
    """Whether spans hold what is said."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A caller's trace."""

    id: str
    """32 hexadecimal digits."""
    is_sampled: bool
    """Whether the caller records it."""
    state: str = ""
    """What the caller's tracing systems hand on to each other; empty: nothing."""
    parent_id: str = field(default="", compare=False)
    """The caller's span, 16 hexadecimal digits."""

    @classmethod
    def read(cls, parent: str, state: str) -> "Trace | None":
        """Read what a call came with.

        Args:
            parent: `traceparent`, of version 00.
            state: `tracestate`; one that is too long or not printable counts as none.
        Returns: None: the parent is malformed, which is as if there were none.
        Source: W3C Trace Context, 3.2 and 3.3.
        """
        found = _PARENT.fullmatch(parent)
        if found is None or not int(found[1], 16) or not int(found[2], 16):
            return None
        if len(state) > MAX_STATE_CHARACTERS or not _STATE.fullmatch(state):
            state = ""
        return cls(found[1], bool(int(found[3], 16) & _SAMPLED), state, found[2])

    @property
    def span_id(self) -> str:
        """The span under way, 16 hexadecimal digits; empty: Parley creates none."""
        return ""

    @property
    def source(self) -> SpanSource | None:
        """What libraries make spans with; None: they are to make none."""
        return None

    def fail(self, why: str) -> None:
        """Have the span under way say that what it is about has failed.

        Args:
            why: a name, with nothing that was said.
        """

    def ask_agent(self, host: str, port: int, conversation_id: UUID) -> "AskedAgent":  # noqa: ARG002
        """Begin to ask an agent on another server, under the span under way.

        Args:
            host: where it is.
            port: the same.
            conversation_id: what it is asked about.
        Returns: what to send along; it has to be told when the agent is done.
        """
        return AskedAgent(self.headers())

    def headers(self) -> dict[str, str]:
        """Return the headers of one request that is made for the call.

        Returns: `traceparent`, with the span under way or else a new id, and `tracestate` if the
            caller has given one.
        """
        # All zeros would be malformed.
        span_id = self.span_id or f"{random.getrandbits(64) or 1:016x}"
        headers = {"traceparent": f"00-{self.id}-{span_id}-{int(self.is_sampled):02x}"}
        if self.state:
            headers["tracestate"] = self.state
        return headers


class AskedAgent:
    """An agent on another server that is being asked. Nothing is recorded of this one."""

    def __init__(self, headers: dict[str, str]) -> None:
        """Take what is sent along: `traceparent`, and `tracestate` if there is one."""
        self.headers = headers

    def answered(self, model: str, usage: Usage | None) -> None:
        """Take note of what the agent said of its answer.

        Args:
            model: the model's name; empty: not told.
            usage: the tokens that it took; None: not told.
        """

    def failed(self, why: str) -> None:
        """Take note of a failure, by a name with nothing that was said."""

    def ended(self) -> None:
        """End the asking, however it went."""


current_trace: ContextVar[Trace | None] = ContextVar("current_trace", default=None)
"""The trace of the call under way, in all tasks begun for it; None: it came without one."""


def current_headers() -> dict[str, str]:
    """Return the headers of one request that is made now; empty: there is no trace."""
    trace = current_trace.get()
    return trace.headers() if trace is not None else {}
