"""The synchronous client's channel, and one try of a call on it.

`async_transport.py` does the same with gRPC's other interface. What is built on the two exists
once: the synchronous client is generated from the asynchronous one.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any

import grpc
from google.protobuf.message import Message

from parley.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parley_client import forks
from parley_client.channels import Credentials, closed, credentials_for, options_for
from parley_client.tokens import Metadata

_LAST_EVENTS_S = 2.0
"""How long closing waits for gRPC's own thread. It needs milliseconds, more on a busy machine."""
_LOOK_S = 0.001


class Transport:
    """One channel, opened at the first call. Any number of threads may use it."""

    def __init__(
        self, address: str, credentials: Credentials, channel: grpc.Channel | None
    ) -> None:
        """Connect nothing yet.

        Args:
            address: host:port, or any gRPC target.
            credentials: as `credentials_for` takes them.
            channel: the caller's own channel, used instead of `address` and never closed here.
        """
        self._address = address
        self._credentials = credentials
        self._given_channel = channel
        self._channel: grpc.Channel | None = None
        self._stub: Any = None
        self._opening = Lock()
        self.closings = 0
        """How often it was closed: what a call names that began before one of them, and is over."""
        self._closing = Event()
        """Set when it is closed the next time."""
        self._generation = forks.generation()
        self._open_calls: dict[object, None] = {}
        """Calls whose end gRPC's thread has not told yet. Changed without a lock: see `close`."""

    def unary(
        self, method: str, request: Message, timeout_s: float, metadata: Metadata, closings: int
    ) -> Any:
        """Make a call, once, and return its response.

        Args:
            method: the RPC's name in the stub.
            timeout_s: the call's deadline, in seconds from now.
            closings: as they were when the caller began, perhaps with another try.
        Raises: grpc.RpcError: the call failed, or the channel was closed since then. ForkedProcess:
            gRPC does not work here.
        Guarantees: Ctrl-C while the call waits cancels the call.
        """
        call = getattr(self._connect(closings), method)
        with forks.under_way():
            future = call.future(request, timeout=timeout_s, metadata=metadata)
            self._note(future)
            return _wait_for(future)

    @contextmanager
    def stream(
        self, method: str, request: Message, timeout_s: float, metadata: Metadata, closings: int
    ) -> Iterator[Iterator[Any]]:
        """Make a streaming call, once, and give its responses to the block.

        Args:
            method: the RPC's name in the stub.
            timeout_s: the call's deadline, in seconds from now.
            closings: as they were when the caller began, perhaps with another try.
        Raises: grpc.RpcError: the call failed, while iterating, or the channel was closed. At once,
            ForkedProcess: gRPC does not work here.
        Guarantees: the call does not outlive the block.
        """
        make = getattr(self._connect(closings), method)
        with forks.under_way():
            call = make(request, timeout=timeout_s, metadata=metadata)
            self._note(call)
            try:
                yield call
            finally:
                call.cancel()  # has no effect on a call that has ended

    def rest(self, pause_s: float, closings: int) -> None:
        """Wait for a time, in seconds, or until the channel is closed."""
        self._leave_to_parent_after_fork()
        with self._opening:
            closing = self._closing
            is_closed = closings != self.closings
        if not is_closed:
            closing.wait(pause_s)

    def close(self) -> None:
        """Close the channel; calls under way end as cancelled. The next call opens it again.

        Guarantees: gRPC's thread is done with those calls, if that takes it no more than two
            seconds. It is a daemon: a process that ends stops it wherever it is, and with a call's
            lock in its hands the process hangs, because gRPC takes that lock once more when the
            call is freed. `Channel.close` itself does not wait for the thread.
        Source: `_handle_event` and `_Rendezvous.__del__` in grpcio's `_channel.py`, 1.85.
        """
        self._leave_to_parent_after_fork()
        with self._opening:
            channel, self._channel, self._stub = self._channel, None, None
            calls, self._open_calls = self._open_calls, {}
            if self._given_channel is None:
                self.closings += 1
                self._closing.set()
                self._closing = Event()
        if channel is not None:
            channel.close()
            give_up_at = time.monotonic() + _LAST_EVENTS_S
            while calls and time.monotonic() < give_up_at:
                time.sleep(_LOOK_S)

    def _note(self, call: Any) -> None:
        """Record a call on the client's own channel until gRPC's thread has told its end."""
        if self._given_channel is not None:  # never closed here
            return
        key, calls = object(), self._open_calls
        calls[key] = None
        if not call.add_callback(lambda: calls.pop(key, None)):  # it has ended
            calls.pop(key, None)

    def _connect(self, closings: int) -> Any:
        """Return the stub; the first time, open the channel.

        Raises: grpc.RpcError: it was closed since the caller began. ForkedProcess.
        """
        forks.check_usable()
        self._leave_to_parent_after_fork()
        with self._opening:
            if closings != self.closings:
                raise closed()
            if self._stub is None:
                channel = self._given_channel or self._open()
                forks.note_channel(channel)
                self._stub = ConversationServiceStub(channel)
            return self._stub

    def _open(self) -> grpc.Channel:
        credentials = credentials_for(self._address, self._credentials)
        options = options_for(self._address, credentials)
        if credentials is None:
            self._channel = grpc.insecure_channel(self._address, options)
        else:
            self._channel = grpc.secure_channel(self._address, credentials, options)
        return self._channel

    def _leave_to_parent_after_fork(self) -> None:
        """Let go of what this process inherited by a fork: the parent continues to use it."""
        if self._generation != forks.generation():
            self._channel, self._stub = None, None
            self._opening, self._closing = Lock(), Event()
            self._open_calls = {}
            self._generation = forks.generation()


def _wait_for(call: Any) -> Any:
    """Wait for a call's response. Interrupted, such as by Ctrl-C, the call is cancelled."""
    try:
        return call.result()
    except grpc.RpcError:
        raise
    except BaseException:
        call.cancel()
        raise
