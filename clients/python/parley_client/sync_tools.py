"""How the synchronous client runs the caller's tools: those of one step at the same time.

`async_tools.py` does the same on an event loop.
"""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.caller_tools import NOBODY, Decision, Toolbox, Tools, decided, failed, returned

Approve: TypeAlias = Callable[[parts.PendingCall], Decision]


def toolbox_of(tools: Tools) -> Toolbox:
    """Return the tools, to be run. Raises: ValueError: as `tool`, or a function is asynchronous."""
    toolbox = Toolbox(tools)
    for name in toolbox.names:
        if toolbox.is_async(name):
            raise ValueError(f"the tool {name} is asynchronous: use AsyncParleyClient")
    return toolbox


def run_calls(toolbox: Toolbox, calls: Sequence[parts.PendingCall]) -> list[pb.CallResult]:
    """Run calls at the same time. Returns: what became of each, in their order.

    A single one runs in the caller's own thread.
    """
    if len(calls) < 2:
        return [_run(toolbox, call) for call in calls]
    with ThreadPoolExecutor(len(calls)) as threads:
        futures = [
            threads.submit(contextvars.copy_context().run, _run, toolbox, call) for call in calls
        ]
        return [future.result() for future in futures]


def decide_calls(
    approve: Approve | None, calls: Sequence[parts.PendingCall]
) -> list[pb.CallResult]:
    """Ask for a decision about each call, one after the other. Raises: what `approve` raises."""
    return [decided(call, NOBODY if approve is None else approve(call)) for call in calls]


def _run(toolbox: Toolbox, call: parts.PendingCall) -> pb.CallResult:
    try:
        return returned(call, toolbox.bound(call)())
    except Exception as error:
        return failed(call, error)
