"""How the asynchronous client runs the caller's tools: those of one step at the same time.

`sync_tools.py` does the same in threads.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeAlias

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.async_transport import is_cancelled
from parley_client.caller_tools import NOBODY, Decision, Toolbox, Tools, decided, failed, returned

Approve: TypeAlias = Callable[[parts.PendingCall], Decision | Awaitable[Decision]]


def toolbox_of(tools: Tools) -> Toolbox:
    """Return the tools, to be run. Raises: ValueError: as `tool`."""
    return Toolbox(tools)


async def run_calls(toolbox: Toolbox, calls: Sequence[parts.PendingCall]) -> list[pb.CallResult]:
    """Run calls at the same time. Returns: what became of each, in their order.

    A plain function runs in a thread of its own, where it keeps nothing else waiting: the event
    loop's threads are few, and look up addresses, too.
    """
    threads = ThreadPoolExecutor(max(1, len(calls)))  # which starts one when it needs one
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run(toolbox, call, threads)) for call in calls]
    finally:
        threads.shutdown(wait=False)
    return [task.result() for task in tasks]


async def decide_calls(
    approve: Approve | None, calls: Sequence[parts.PendingCall]
) -> list[pb.CallResult]:
    """Ask for a decision about each call, one after the other. Raises: what `approve` raises."""
    results = []
    for call in calls:
        decision = NOBODY if approve is None else approve(call)
        if inspect.isawaitable(decision):
            decision = await decision
        results.append(decided(call, decision))
    return results


async def _run(toolbox: Toolbox, call: parts.PendingCall, threads: Executor) -> pb.CallResult:
    try:
        run = toolbox.bound(call)
        value = run() if toolbox.is_async(call.name) else await _in_thread(threads, run)
        return returned(call, await value if inspect.isawaitable(value) else value)
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        return failed(call, error)  # of something that the tool had begun
    except Exception as error:
        return failed(call, error)


async def _in_thread(threads: Executor, run: Callable[[], Any]) -> Any:
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    return await loop.run_in_executor(threads, context.run, _held, run)


def _held(run: Callable[[], Any]) -> Any:
    """Run a function in a thread. Raises: what it raises; RuntimeError instead of StopIteration.

    A future cannot hold that one: before Python 3.12, waiting for it would never end.
    """
    try:
        return run()
    except StopIteration as error:
        raise RuntimeError("the tool raised StopIteration") from error
