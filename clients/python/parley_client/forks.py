"""Keeps clients usable in a forked process, or says that they are not.

gRPC survives a fork in both processes if it is idle at that moment. A child that is forked during a
call inherits locks that nothing will release, and lacks the threads that would: its calls hang past
their deadlines, or end the process. An asynchronous channel is never idle. So a child in which gRPC
cannot work gets an error at its first call; in any other child, each client opens a new channel.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import grpc

from parley_client.errors import ParleyError

FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"


class ForkedProcess(ParleyError):
    """The process was forked while gRPC was busy in its parent: no client works in it."""


class _Process:
    """The state of gRPC in this process. A fork copies it; nothing here needs a lock."""

    def __init__(self) -> None:
        self.generation = 0
        self.is_lost = False
        self.calls: dict[object, None] = {}
        self.channels: WeakSet[grpc.Channel] = WeakSet()
        self.async_channels: WeakSet[grpc.aio.Channel] = WeakSet()
        self.inherited: list[grpc.Channel | grpc.aio.Channel] = []
        """A parent's channels, kept for good: even freeing one can end the process."""

    def become_child(self) -> None:
        """Record that this process is the child of a fork."""
        self.generation += 1
        self.inherited += [*self.channels, *self.async_channels]
        is_idle = not self.calls and not len(self.async_channels)
        is_supported = os.environ.get(FORK_SUPPORT, "1").lower() in ("1", "true", "yes")
        if self.inherited and not (is_idle and is_supported):
            self.is_lost = True


_process = _Process()
os.register_at_fork(after_in_child=_process.become_child)


def generation() -> int:
    """Return how many forks led from the first process to this one."""
    return _process.generation


def check_usable() -> None:
    """Raise ForkedProcess if gRPC cannot work in this process."""
    if _process.is_lost:
        raise ForkedProcess(
            "this process was forked while gRPC was busy in its parent, which gRPC does not "
            "survive: fork before the first call, or start processes by the method 'spawn'",
            code=grpc.StatusCode.FAILED_PRECONDITION,
        )


def note_channel(channel: grpc.Channel) -> None:
    """Record that a synchronous channel was opened."""
    _process.channels.add(channel)


def note_async_channel(channel: grpc.aio.Channel) -> None:
    """Record that an asynchronous channel was opened: it keeps gRPC busy while it exists."""
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
