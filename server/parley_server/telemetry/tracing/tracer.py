"""Spans of calls, attempts and statements: the adapter of the port `core.ports.Tracer`.

    a call       SERVER    named SERVICE/METHOD; under the caller's span, or the first of its trace
    an attempt   INTERNAL  under its call; of a started turn, under the call that accepted it, if
                           that was on this worker, else the first of a trace; linked with the
                           attempt before it, if that was on this worker and in another trace
    a statement  CLIENT    named as the statement is; only under a span that is recorded

A call that is not recorded has a trace and no span: what it asks of others says that it is not, and
what is done for it has no span either.
"""

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any
from uuid import UUID

from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    use_span,
)

from parley_server.core.model import Lease
from parley_server.core.ports import NOTHING, AttemptSpan, CallSpan, NoSpan
from parley_server.core.tracing import AskedAgent, SpanSource, Trace, current_trace
from parley_server.telemetry.tracing import attributes as names
from parley_server.telemetry.tracing.remote_agents import RecordedAgent, begun
from parley_server.telemetry.tracing.sampling import Sampling

MAX_TURNS = 1_000
"""Of how many turns it is known which span was the last that was theirs."""
FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Statuses that are a server's fault: with others its span is no error (conventions for gRPC)."""


@dataclass(frozen=True, slots=True)
class LiveTrace(Trace):
    """A trace that names the span under way where it is asked: a call's, a request's, a tool's."""

    spans: SpanSource | None = None

    def _current(self) -> SpanContext | None:
        if not self.is_sampled:  # then there is one span alone, the call's
            return None
        context = get_current_span().get_span_context()
        return context if format_trace_id(context.trace_id) == self.id else None

    @property
    def span_id(self) -> str:
        context = self._current()
        return self.parent_id if context is None else format_span_id(context.span_id)

    @property
    def source(self) -> SpanSource | None:
        return self.spans if self._current() is not None else None

    def fail(self, why: str) -> None:
        if self._current() is not None:
            _mark_failed(get_current_span(), why)

    def ask_agent(self, host: str, port: int, conversation_id: UUID) -> AskedAgent:
        source = self.source
        if source is None:
            return AskedAgent(self.headers())
        span = begun(_tracer_of(source.provider), host, port, conversation_id)
        with use_span(span):
            return RecordedAgent(self.headers(), span)


def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("parley", version("parley"))


def _mark_failed(span: Span, why: str) -> None:
    span.set_attribute(names.ERROR_TYPE, why)
    span.set_status(StatusCode.ERROR)


class SpanTracer:
    """Makes spans with OpenTelemetry's SDK."""

    def __init__(self, provider: TracerProvider, sampling: Sampling, *, has_content: bool) -> None:
        """Make no span yet.

        Args:
            sampling: who decides which calls are recorded, and draws the provider's ids.
            has_content: whether libraries are to record what is said.
        """
        self.tracer = _tracer_of(provider)
        self._sampling = sampling
        self.source = SpanSource(provider, has_content)
        self._turns: OrderedDict[UUID, SpanContext] = OrderedDict()

    def call(self, path: str) -> AbstractContextManager[CallSpan]:
        trace = self._sampling.unrecorded(current_trace.get())
        return _Call(self, path) if trace is None else _Unrecorded(trace)

    def accepted(self, turn_id: UUID) -> None:
        trace = current_trace.get()
        if isinstance(trace, LiveTrace):
            self.remember(turn_id, get_current_span().get_span_context())
        elif trace is not None:
            self.remember(turn_id, _span_of(trace))

    def attempt(self, lease: Lease, agent: str) -> AbstractContextManager[AttemptSpan]:
        trace = current_trace.get()
        if trace is not None and not trace.is_sampled:
            return NOTHING
        return _Attempt(self, lease, agent)

    def statement(self, name: str) -> AbstractContextManager[object]:
        trace = current_trace.get()
        if not isinstance(trace, LiveTrace) or not trace.is_sampled:
            return NOTHING
        return _Statement(self.tracer, name)

    def remember(self, turn_id: UUID, context: SpanContext) -> None:
        """Take note of the last span of a turn."""
        self._turns[turn_id] = context
        self._turns.move_to_end(turn_id)
        if len(self._turns) > MAX_TURNS:
            self._turns.popitem(last=False)

    def last_of(self, turn_id: UUID) -> SpanContext | None:
        """Return the last span of a turn that this worker knows of."""
        return self._turns.get(turn_id)


class _Current:
    """A span that is the current one inside its block, and so is its trace."""

    def __init__(self, tracer: SpanTracer) -> None:
        self._tracer = tracer
        self._span: Span
        self._tokens: tuple[Any, Any]

    def _begin(
        self,
        name: str,
        kind: SpanKind,
        said: Mapping[str, str | int],
        parent: SpanContext | None,
        state: str = "",
        links: tuple[Link, ...] = (),
    ) -> None:
        under = Context()
        if parent is not None:
            under = set_span_in_context(NonRecordingSpan(parent), under)
        span = self._tracer.tracer.start_span(name, under, kind, said, links)
        context = span.get_span_context()
        trace = None
        if context.is_valid:
            trace = LiveTrace(
                format_trace_id(context.trace_id),
                bool(context.trace_flags.sampled),
                state,
                format_span_id(context.span_id),
                self._tracer.source,
            )
        self._span = span
        self._tokens = attach(set_span_in_context(span)), current_trace.set(trace)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._span.end()
        context, trace = self._tokens
        detach(context)
        current_trace.reset(trace)


class _Unrecorded(NoSpan):
    """A call that is not recorded. Its trace is the current one inside the block."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __enter__(self) -> "_Unrecorded":
        self._before = current_trace.set(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        current_trace.reset(self._before)


class _Call(_Current):
    """The span of a call."""

    is_recorded = True

    def __init__(self, tracer: SpanTracer, path: str) -> None:
        super().__init__(tracer)
        self._path = path

    def __enter__(self) -> "_Call":
        trace = current_trace.get()
        said = {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: self._path}
        parent = _span_of(trace) if trace is not None else None
        state = trace.state if trace is not None else ""
        self._begin(self._path, SpanKind.SERVER, said, parent, state)
        return self

    def ended(self, code: str, about: Mapping[str, str]) -> None:
        if not self._span.is_recording():
            return
        self._span.set_attribute(names.RPC_STATUS, code)
        for key, name in (
            ("call_id", names.CALL_ID),
            ("turn_id", names.TURN_ID),
            ("conversation_id", names.CONVERSATION_ID),
        ):
            if key in about:
                self._span.set_attribute(name, about[key])
        if code in FAULTS:
            _mark_failed(self._span, code)


def _span_of(trace: Trace) -> SpanContext:
    """Return the span that a trace came with: the caller's."""
    return SpanContext(
        int(trace.id, 16),
        int(trace.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(trace.is_sampled)),
        trace_state=TraceState.from_header([trace.state]) if trace.state else TraceState(),
    )


class _Attempt(_Current):
    """The span of an attempt."""

    def __init__(self, tracer: SpanTracer, lease: Lease, agent: str) -> None:
        super().__init__(tracer)
        self._lease = lease
        self._agent = agent

    def __enter__(self) -> "_Attempt":
        lease = self._lease
        ids = {
            names.CONVERSATION_ID: str(lease.conversation_id),
            names.TURN_ID: str(lease.turn_id),
        }
        said: dict[str, str | int] = {
            **ids,
            names.ATTEMPT: lease.attempt,
            names.AGENT_NAME: self._agent,
        }
        call = get_current_span()
        current = call.get_span_context()
        last = self._tracer.last_of(lease.turn_id)
        parent = current if current.is_valid else last
        is_elsewhere = last is not None and parent is not None and last.trace_id != parent.trace_id
        links = (Link(last),) if last is not None and is_elsewhere else ()
        trace = current_trace.get()
        state = trace.state if trace is not None else ""
        self._begin("attempt", SpanKind.INTERNAL, said, parent, state, links)
        if call.is_recording():  # its conversation may have been made just now
            call.set_attributes(ids)
        context = self._span.get_span_context()
        if context.is_valid:
            self._tracer.remember(lease.turn_id, context)
        return self

    def ended(self, outcome: str, *, is_failure: bool = False) -> None:
        self._span.set_attribute(names.OUTCOME, outcome)
        if is_failure:
            _mark_failed(self._span, outcome)


class _Statement:
    """The span of a statement. Nothing is recorded inside it, so it is never the current one."""

    def __init__(self, tracer: Tracer, name: str) -> None:
        self._tracer = tracer
        self._name = name
        self._span: Span

    def __enter__(self) -> None:
        said = {names.DB_SYSTEM: "postgresql", names.DB_SUMMARY: self._name}
        self._span = self._tracer.start_span(self._name, None, SpanKind.CLIENT, said)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            # By its SQLSTATE alone: a driver's text may hold values.
            state = getattr(error, "sqlstate", None)
            if state:
                self._span.set_attribute(names.DB_STATUS, state)
            _mark_failed(self._span, state or kind.__name__)
        self._span.end()
