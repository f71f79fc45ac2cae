"""One log line for each call."""

import asyncio
import time
from typing import Any

import structlog

from parley_server.core.errors import InternalError, ParleyError
from parley_server.core.failures import raised_at
from parley_server.rpc.errors import status_of
from parley_server.rpc.layers.call_record import current_call
from parley_server.rpc.layers.types import Context, Method

log = structlog.get_logger("parley.rpc")


def logged(name: str, method: Method) -> Method:
    """Write one line at the end of every call. Never what was said, never a token."""

    async def with_log(request: Any, context: Context) -> Any:
        call = current_call.get()
        started = time.perf_counter()
        code = "OK"
        failure: BaseException | None = None
        try:
            return await method(request, context)
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:
            code = status_of(error, call.id).code.name
            failure = error
            raise
        finally:
            fields: dict[str, Any] = {
                "call_id": call.id,
                "method": name,
                "code": code,
                "duration_ms": round((time.perf_counter() - started) * 1000, 1),
            }
            if call.caller is not None:
                fields["owner_id"] = str(call.caller.owner.id)
            if call.acting is not None:
                fields["acting_owner_id"] = str(call.acting.id)
            fields |= call.ids()
            if failure is None:
                log.info("call", **fields)
            elif isinstance(failure, InternalError) and failure.error:
                log.error("call", error=failure.error, place=failure.place, **fields)
            elif isinstance(failure, ParleyError):
                log.info("call", reason=status_of(failure, call.id).reason, **fields)
            else:
                log.error("call", error=type(failure).__name__, place=raised_at(failure), **fields)

    return with_log
