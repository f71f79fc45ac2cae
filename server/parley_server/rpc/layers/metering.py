"""Counting calls: the series that the grpc ecosystem has for every server.

`stack` puts `metered` around all that it puts around a method, so that it sees how each
call ends, whatever ends it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from parley_server.rpc.layers.types import Context, Method

OTHER = "other"
"""Stands for all methods that there are none of: callers choose their names, and as many."""


class MethodMeter(Protocol):
    """Counts the calls of one method. Its methods do not wait, and do not fail."""

    def started(self) -> None:
        """Count a call that has arrived."""
        ...

    def handled(self, code: str, seconds: float) -> None:
        """Count a call that has ended.

        Args:
            code: the name of its status, such as NOT_FOUND.
            seconds: since it arrived.
        """
        ...


class CallMeter(Protocol):
    """Counts calls."""

    def method(self, kind: str, service: str, name: str) -> MethodMeter:
        """Return the meter of one method; the same one each time.

        Args:
            kind: unary, or server_stream; `other` for what is no method.
        """
        ...


def metered(meter: CallMeter, path: str, handler: Any, method: Method) -> Method:
    """Count every call of a method, with the status that its caller is sent.

    Args:
        path: /SERVICE/METHOD.
    """
    service, _, name = path.lstrip("/").rpartition("/")
    kind = "server_stream" if handler.response_streaming else "unary"
    of_method = meter.method(kind, service, name)

    async def with_meter(request: Any, context: Context) -> Any:
        started = time.perf_counter()
        of_method.started()
        return await watched(
            method,
            request,
            context,
            lambda code: of_method.handled(code, time.perf_counter() - started),
        )

    return with_meter


async def watched(
    method: Method, request: Any, context: Context, ended: Callable[[str], None]
) -> Any:
    """Call a method.

    Args:
        ended: called at its end, whatever it is, with the name of the status that is sent.
    """
    code = "OK"
    try:
        return await method(request, context)
    except asyncio.CancelledError:
        code = "CANCELLED"
        raise
    except BaseException:
        code = _code_sent(context)
        raise
    finally:
        ended(code)


def _code_sent(context: Context) -> str:
    """Return the name of the status that a call that has raised has sent.

    Most often, what it has raised is the abort by which it has sent one.
    """
    sent = context.code()
    return sent.name if isinstance(sent, grpc.StatusCode) else "UNKNOWN"


def count_unknown(meter: CallMeter) -> None:
    """Count a call of a method that there is none of: gRPC refuses it at once."""
    of_method = meter.method(OTHER, OTHER, OTHER)
    of_method.started()
    of_method.handled("UNIMPLEMENTED", 0.0)
