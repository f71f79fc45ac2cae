"""The asynchronous client's channel, and one try of a call on it.

`sync_transport.py` does the same with gRPC's other interface, which threads and forks see. What is
built on the two exists once: the synchronous client is generated from the asynchronous one.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from google.protobuf.message import Message

from parley.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parley_client import forks
from parley_client.channels import Credentials, closed, credentials_for, options_for
from parley_client.tokens import Metadata


class AsyncTransport:
    """One channel, opened at the first call."""

    def __init__(
        self, address: str, credentials: Credentials, channel: grpc.aio.Channel | None
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
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self.closings = 0
        """How often it was closed: what a call names that began before one of them, and is over."""
        self._closing = asyncio.Event()
        """Set when it is closed the next time."""

    async def unary(
        self, method: str, request: Message, timeout_s: float, metadata: Metadata, closings: int
    ) -> Any:
        """Make a call, once, and return its response.

        Args:
            method: the RPC's name in the stub.
            timeout_s: the call's deadline, in seconds from now.
            closings: as they were when the caller began, perhaps with another try.
        Raises: grpc.aio.AioRpcError: the call failed, or the channel was closed since then.
            ForkedProcess: gRPC does not work here.
        Guarantees: cancelling the task that waits cancels the call.
        """
        call = getattr(self._connect(closings), method)
        try:
            return await call(request, timeout=timeout_s, metadata=metadata)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise closed() from None  # which gRPC tells as if the task had been cancelled

    @contextmanager
    def stream(
        self, method: str, request: Message, timeout_s: float, metadata: Metadata, closings: int
    ) -> Iterator[AsyncIterator[Any]]:
        """Make a streaming call, once, and give its responses to the block.

        Args:
            method: the RPC's name in the stub.
            timeout_s: the call's deadline, in seconds from now.
            closings: as they were when the caller began, perhaps with another try.
        Raises: grpc.aio.AioRpcError: the call failed, while iterating, or the channel was closed.
            At once, ForkedProcess: gRPC does not work here.
        Guarantees: the call does not outlive the block.
        """
        make = getattr(self._connect(closings), method)
        call = make(request, timeout=timeout_s, metadata=metadata)
        try:
            yield call
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise closed() from None
        finally:
            call.cancel()  # has no effect on a call that has ended

    async def rest(self, pause_s: float, closings: int) -> None:
        """Wait for a time, in seconds, or until the channel is closed."""
        if closings == self.closings:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._closing.wait()

    async def close(self) -> None:
        """Close the channel; calls under way end as cancelled. The next call opens it again."""
        channel, self._channel, self._stub = self._channel, None, None
        if self._given_channel is None:
            self.closings += 1
            self._closing.set()
            self._closing = asyncio.Event()
        if channel is not None:
            await channel.close(None)

    def _connect(self, closings: int) -> Any:
        """Return the stub; the first time, open the channel.

        Raises: grpc.aio.AioRpcError: it was closed since the caller began. ForkedProcess.
        """
        forks.check_usable()
        if closings != self.closings:
            raise closed()
        if self._stub is None:
            channel = self._given_channel or self._open()
            forks.note_async_channel(channel)
            self._stub = ConversationServiceStub(channel)
        return self._stub

    def _open(self) -> grpc.aio.Channel:
        credentials = credentials_for(self._address, self._credentials)
        options = options_for(self._address, credentials)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self._address, options)
        else:
            self._channel = grpc.aio.secure_channel(self._address, credentials, options)
        return self._channel


def is_cancelled() -> bool:
    """Say whether it is the running task that a CancelledError has come from."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
