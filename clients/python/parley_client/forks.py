"""What becomes of clients when their process is forked.

gRPC outlives a fork at which it is idle, in both processes. A child that is forked while a call
is under way inherits locks that nothing will release and threads that are not there: calls in it
hang, past their deadlines, or end the process. An asynchronous channel is never idle. So a child
that gRPC does not outlive is told so at its first call; in any other, each client opens a channel
of its own.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import grpc

from parley_client.errors import ParleyError

FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"


class ForkedProcess(ParleyError):
    """The process was forked while gRPC was at work in its parent: no client works in it."""


class _Process:
    """What is known of this process. A fork copies it; nothing here needs a lock."""

    def __init__(self) -> None:
        self.generation = 0
        self.is_lost = False
        self.calls: dict[object, None] = {}
        self.channels: WeakSet[grpc.Channel] = WeakSet()
        self.async_channels: WeakSet[grpc.aio.Channel] = WeakSet()
        self.inherited: list[grpc.Channel | grpc.aio.Channel] = []
        """Channels of a parent, which are not even to be taken apart: that can end the process."""

    def become_child(self) -> None:
        """Take note of being the child of a fork."""
        self.generation += 1
        self.inherited += [*self.channels, *self.async_channels]
        is_idle = not self.calls and not len(self.async_channels)
        is_supported = os.environ.get(FORK_SUPPORT, "1").lower() in ("1", "true", "yes")
        if self.inherited and not (is_idle and is_supported):
            self.is_lost = True


_process = _Process()
os.register_at_fork(after_in_child=_process.become_child)


def generation() -> int:
    """Return how many forks lie between the first process and this one."""
    return _process.generation


def check_usable() -> None:
    """Let a call begin only where gRPC works.

    Raises: ForkedProcess.
    """
    if _process.is_lost:
        raise ForkedProcess(
            "this process was forked while gRPC was at work in its parent, which gRPC does not "
            "outlive: fork before the first call, or start processes by the method 'spawn'",
            code=grpc.StatusCode.FAILED_PRECONDITION,
        )


def note_channel(channel: grpc.Channel) -> None:
    """Take note of a synchronous channel."""
    _process.channels.add(channel)


def note_async_channel(channel: grpc.aio.Channel) -> None:
    """Take note of an asynchronous one: gRPC is at work for as long as it is there."""
    _process.async_channels.add(channel)


@contextmanager
def under_way() -> Iterator[None]:
    """Mark a synchronous call as under way inside the block."""
    call = object()
    _process.calls[call] = None
    try:
        yield
    finally:
        _process.calls.pop(call, None)
