"""A collector: OTLP's trace service of `opentelemetry-proto`, on loopback, with all that it got.

    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        ...
        spans = receiver.spans()

It has threads of its own, so that any kind of test can use it. `requests` are the bytes as they
came in: what is not in them has not left the process.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

Values = str | int | float | bool | list[Any]
PATIENCE_S = 30


@dataclass(frozen=True)
class Received:
    """A span."""

    name: str
    kind: str
    """SERVER, CLIENT or INTERNAL."""
    trace_id: str
    id: str
    parent_id: str
    state: str
    attributes: dict[str, Values]
    events: tuple[tuple[str, dict[str, Values]], ...]
    links: tuple[tuple[str, str], ...]
    """Trace and span."""
    is_error: bool
    status_text: str
    started_ns: int
    ended_ns: int
    scope: str
    resource: dict[str, Values] = field(compare=False)


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans, unless it is told to do otherwise with them."""

    def __init__(
        self,
        answer: Callable[[], None] = lambda: None,
        port: int = 0,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """Listen to nothing yet.

        Args:
            answer: called at each request, before it is taken: it may block or raise.
            credentials: for TLS.
        """
        self.requests: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self._answer = answer
        self._changed = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.endpoint = f"http{'s' if credentials else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> "Receiver":
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.stop(0).wait(PATIENCE_S)

    def Export(  # noqa: N802 - the service's own
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        context: grpc.ServicerContext,
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self._answer()
        with self._changed:
            self.requests.append(request.SerializeToString())
            self.headers.append({k: str(v) for k, v in context.invocation_metadata()})
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Received]:
        """Return what has come in, in order of the times at which they began."""
        found = [span for data in list(self.requests) for span in _spans_of(data)]
        return sorted(found, key=lambda span: span.started_ns)

    def until(self, condition: Callable[[Sequence[Received]], bool]) -> list[Received]:
        """Wait until what has come in is enough, and return it. Blocks: call it in a thread."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self.spans()), PATIENCE_S):
                raise AssertionError(f"not received within {PATIENCE_S} s: {tree(self.spans())}")
        return self.spans()


def tree(spans: Sequence[Received]) -> str:
    """Draw traces: a line for each span, under its parent."""
    known = {span.id for span in spans}
    children: dict[str, list[Received]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)

    def lines(parent_id: str, depth: int) -> Iterator[str]:
        for span in children.get(parent_id, ()):
            yield f"{'  ' * depth}{span.name}"
            yield from lines(span.id, depth + 1)

    return "\n".join(lines("", 0))


def child_of(spans: Sequence[Received], parent: Received, name: str) -> Received:
    """Return the one span of this name directly under another."""
    (found,) = [span for span in spans if span.parent_id == parent.id and span.name == name]
    return found


def named(spans: Sequence[Received], name: str) -> Received:
    """Return the one span of this name."""
    (found,) = [span for span in spans if span.name == name]
    return found


def handed(headers: dict[str, Any]) -> tuple[str, str]:
    """Return the trace and the span that somebody was told: a provider, a tool, a remote agent.

    That span must be among those received: `assert span.id == handed(request.headers)[1]`.
    """
    _, trace_id, span_id, _ = headers["traceparent"].split("-")
    return trace_id, span_id


def _spans_of(data: bytes) -> Iterator[Received]:
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(data)
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield _received(span, of_scope.scope.name, resource)


def _received(span: trace_pb2.Span, scope: str, resource: dict[str, Values]) -> Received:
    return Received(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        attributes=_values(span.attributes),
        events=tuple((event.name, _values(event.attributes)) for event in span.events),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        is_error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        status_text=span.status.message,
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        scope=scope,
        resource=resource,
    )


def _values(attributes: Sequence[common_pb2.KeyValue]) -> dict[str, Values]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: common_pb2.AnyValue) -> Values:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(each) for each in value.array_value.values]
    found: Values = getattr(value, which or "string_value")
    return found
