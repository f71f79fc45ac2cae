"""Every call ends with a status of Parley's."""

import asyncio
from time import monotonic
from typing import Any

import grpc

from parley_server.core.patience import wait_until
from parley_server.rpc.errors import status_of
from parley_server.rpc.layers.call_record import CallRecord, current_call
from parley_server.rpc.layers.types import Context, Method


def with_status(method: Method) -> Method:
    """Turn whatever a call ends with into a status."""

    async def telling(request: Any, context: Context) -> Any:  # noqa: RET503 - abort raises
        call = CallRecord()
        current_call.set(call)
        if (time_left_s := context.time_remaining()) is not None:
            wait_until(monotonic() + time_left_s)
        try:
            return await method(request, context)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the caller is gone, or the server stops
            failure: BaseException = error  # would end the call without a status
        except grpc.aio.AbortError:
            raise  # by health's own servicer: its caller has been told
        except Exception as error:
            failure = error
        what = status_of(failure, call.id, is_repeatable=call.is_repeatable)
        release(failure)
        del failure
        await context.abort(what.code, what.text, what.trailing_metadata)

    return telling


def release(error: BaseException) -> None:
    """Have an error, and those behind it, let go of the frames that they came through.

    Those hold the request, and one of them the error: only the garbage collector would free them,
    and it counts objects, not bytes. Callers with 2 MiB that is refused would have it run late.
    """
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__context__
