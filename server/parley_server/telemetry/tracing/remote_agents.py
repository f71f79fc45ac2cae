"""The span of an agent on another server that is being asked.

    invoke_agent  CLIENT  by the conventions for generative AI, under the attempt. What the agent
                          records itself is under it: it gets the span's id as `traceparent`.

It is not the current span while the answer comes: what Parley does meanwhile is not done for it.
"""

from uuid import UUID

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from parley_server.core.model import Usage
from parley_server.core.tracing import AskedAgent
from parley_server.telemetry.tracing import attributes as names

INVOKE_AGENT = "invoke_agent"
A2A = "a2a"


def begun(tracer: Tracer, host: str, port: int, conversation_id: UUID) -> Span:
    """Begin a span under the current one."""
    said: dict[str, str | int] = {
        names.OPERATION: INVOKE_AGENT,
        names.PROVIDER: A2A,
        names.CONVERSATION_ID: str(conversation_id),
        names.SERVER_ADDRESS: host,
        names.SERVER_PORT: port,
    }
    return tracer.start_span(INVOKE_AGENT, None, SpanKind.CLIENT, said)


class RecordedAgent(AskedAgent):
    """An agent whose asking is a span."""

    def __init__(self, headers: dict[str, str], span: Span) -> None:
        """Take a span that has begun, and the headers that name it."""
        super().__init__(headers)
        self._span = span

    def answered(self, model: str, usage: Usage | None) -> None:
        if model:
            self._span.set_attribute(names.RESPONSE_MODEL, model)
        if usage is not None:
            self._span.set_attribute(names.INPUT_TOKENS, usage.input_tokens)
            self._span.set_attribute(names.OUTPUT_TOKENS, usage.output_tokens)

    def failed(self, why: str) -> None:
        self._span.set_attribute(names.ERROR_TYPE, why)
        self._span.set_status(StatusCode.ERROR)

    def ended(self) -> None:
        self._span.end()
