"""What a run asks of its provider belongs to the trace of the call that it is for."""

from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models import ModelRequestContext

from parley_server.core.tracing import Trace


@dataclass
class TracedRequests(AbstractCapability[Any]):
    """Given to the runs of calls that came with a trace: each request gets its own span id.

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
