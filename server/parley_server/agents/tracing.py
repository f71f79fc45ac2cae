"""What a run asks of its provider belongs to the trace of the call that it is for.

If Parley records traces, pydantic-ai makes the spans of a run, its requests and its tools, by
OpenTelemetry's conventions for generative AI. They have no content unless the setting says so.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.instrumentation import Instrumentation
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.models.instrumented import InstrumentationSettings

from parley_server.core.tracing import SpanSource, Trace

FORMAT: Literal[6] = 6
"""Of the library's attributes: tool results in messages of the role `tool`, as conventions say."""


def tracing_of(trace: Trace | None) -> list[AbstractCapability[Any]]:
    """Return what a run is given that is made for a call with this trace, if it has one.

    A call that is not recorded costs its run no spans.
    """
    if trace is None:
        return []
    source = trace.source
    spans = [Instrumentation(_settings(source))] if source is not None else []
    return [*spans, TracedRequests(trace)]


@lru_cache(maxsize=8)
def _settings(source: SpanSource) -> InstrumentationSettings:
    return InstrumentationSettings(
        tracer_provider=source.provider,
        include_content=source.has_content,
        include_binary_content=False,
        include_model_request_parameters=False,
        version=FORMAT,
    )


@dataclass
class TracedRequests(AbstractCapability[Any]):
    """Given to the runs of calls that have a trace: each request names its own span.

    The headers travel with the request's settings, so they reach whichever client sends it, a
    user's own as well. Libraries of a few providers send no headers of ours; they leave them out.
    """

    trace: Trace

    async def prepare_model_request(
        self, _ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        settings = request_context.model_settings or {}
        # What a user's agent has set itself comes first.
        headers = {**self.trace.headers(), **settings.get("extra_headers", {})}
        return replace(request_context, model_settings={**settings, "extra_headers": headers})

    async def on_model_request_error(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - the library's
        *,
        request_context: ModelRequestContext,  # noqa: ARG002 - the library's
        error: Exception,
    ) -> ModelResponse:
        # The library says so of the run, not of a request whose stream could not be opened.
        known = str(error.status_code) if isinstance(error, ModelHTTPError) else ""
        self.trace.fail(known or type(error).__name__)
        raise error
