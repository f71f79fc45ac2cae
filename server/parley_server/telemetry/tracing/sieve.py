"""Holds each span, whoever has made it, to what it may say; before it is kept for sending."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Status

from parley_server.telemetry.tracing.attributes import may_leave


class Sieve(SpanProcessor):
    """Stands before another processor, which gets copies of spans without what is not allowed.

    That is more than a library's own promise to leave content out: what its next release adds to
    a span does not leave the process either.
    """

    def __init__(self, behind: SpanProcessor, *, has_content: bool) -> None:
        self._behind = behind
        self._has_content = has_content

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._behind.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        # Whatever has gone wrong is in attributes; a description is an exception's own text.
        status = span.status if self._has_content else Status(span.status.status_code)
        self._behind.on_end(
            ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=span.resource,
                attributes=self._allowed(span.attributes),
                events=[
                    Event(event.name, self._allowed(event.attributes), event.timestamp)
                    for event in span.events
                ],
                links=span.links,
                kind=span.kind,
                status=status,
                start_time=span.start_time,
                end_time=span.end_time,
                instrumentation_scope=span.instrumentation_scope,
            )
        )

    def _allowed(self, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            name: value
            for name, value in (attributes or {}).items()
            if may_leave(name, has_content=self._has_content)
        }

    def shutdown(self) -> None:
        self._behind.shutdown()

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        return self._behind.force_flush(timeout_millis)  # type: ignore[arg-type] # its own default
