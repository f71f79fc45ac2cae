"""Which calls are recorded: as OpenTelemetry's SDK decides, and before it is asked."""

import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from parley_server.core.tracing import Trace, current_trace
from parley_server.telemetry.tracing.sampling import Sampling
from parley_server.telemetry.tracing.tracer import SpanTracer

CALLS = 2_000
CALLERS = {
    "none": None,
    "records": Trace("4bf92f3577b34da6a3ce929d0e0e4736", True, parent_id="00f067aa0ba902b7"),
    "does not record": Trace(
        "4bf92f3577b34da6a3ce929d0e0e4736", False, parent_id="00f067aa0ba902b7"
    ),
}
# By the specification of OTEL_TRACES_SAMPLER: of which callers calls are recorded.
BY_NAME = {
    "always_on": {"none", "records", "does not record"},
    "always_off": set(),
    "parentbased_always_on": {"none", "records"},
    "parentbased_always_off": {"records"},
    "": {"none", "records"},
}


class Recorder:
    """A tracer, and the traces of what it has recorded."""

    def __init__(self, sample: float | None) -> None:
        self._exporter = InMemorySpanExporter()
        sampling = Sampling(sample)
        provider = TracerProvider(sampling.sampler, id_generator=sampling, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = SpanTracer(provider, sampling, has_content=False)

    def call(self, caller: Trace | None, accepts: uuid.UUID | None = None) -> Trace:
        """Make a call. Returns: the trace that is the current one inside it."""
        before = current_trace.set(caller)
        with self.tracer.call("S/M"):
            inside = current_trace.get()
            if accepts is not None:
                self.tracer.accepted(accepts)
        current_trace.reset(before)
        assert inside is not None
        return inside

    def ids(self) -> list[str]:
        return [f"{span.context.trace_id:032x}" for span in self._exporter.get_finished_spans()]


@pytest.fixture(params=BY_NAME)
def sampler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    if request.param:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", request.param)
    return request.param


@pytest.mark.parametrize("caller", CALLERS)
def test_calls_are_recorded_as_the_environment_says(sampler: str, caller: str) -> None:
    recorder = Recorder(None)
    inside = recorder.call(CALLERS[caller])

    is_recorded = caller in BY_NAME[sampler]
    assert ([inside.id] if is_recorded else []) == recorder.ids()
    assert is_recorded == inside.is_sampled


@pytest.mark.parametrize("sample", [0.0, 0.25, 1.0])
def test_traces_that_begin_here_are_recorded_by_their_ids(
    sample: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where what was drawn is not the id of the trace: the SDK would draw once more."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")  # the setting is stronger
    recorder = Recorder(sample)
    traces = [recorder.call(None) for _ in range(CALLS)]

    bound = TraceIdRatioBased(sample).bound
    by_id = [trace.id for trace in traces if int(trace.id, 16) % 2**64 < bound]
    assert by_id == recorder.ids()
    assert by_id == [trace.id for trace in traces if trace.is_sampled]
    assert CALLS == len({trace.id for trace in traces})
    assert abs(len(by_id) - sample * CALLS) < CALLS / 10


@pytest.mark.parametrize("sample", [0.0, 1.0, None])
@pytest.mark.parametrize("caller", CALLERS)
def test_callers_are_followed_also_by_the_turns_that_they_have_accepted(
    sample: float | None, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where an attempt draws once more: it would be recorded without the call."""
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    recorder = Recorder(sample)
    turn_id = uuid.uuid4()
    inside = recorder.call(CALLERS[caller], turn_id)
    lease: Any = SimpleNamespace(conversation_id=uuid.uuid4(), turn_id=turn_id, attempt=1)
    with recorder.tracer.attempt(lease, "poet"):
        pass

    is_recorded = caller == "records" or (caller == "none" and sample != 0)
    assert ([inside.id] * 2 if is_recorded else []) == recorder.ids()
