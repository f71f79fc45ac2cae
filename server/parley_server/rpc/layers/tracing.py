"""Recording calls: a span for each, with the status that its caller is sent."""

from typing import Any

from parley_server.core.ports import Tracer
from parley_server.rpc.layers.call_record import current_call
from parley_server.rpc.layers.metering import watched
from parley_server.rpc.layers.types import Context, Method


def traced(tracer: Tracer, path: str, method: Method) -> Method:
    """Record every call of a method.

    Args:
        path: SERVICE/METHOD.
    """

    async def with_span(request: Any, context: Context) -> Any:
        with tracer.call(path) as span:
            if not span.is_recorded:
                return await method(request, context)

            def ended(code: str) -> None:
                call = current_call.get(None)
                span.ended(code, call.traced_ids() if call is not None else {})

            return await watched(method, request, context, ended)

    return with_span
