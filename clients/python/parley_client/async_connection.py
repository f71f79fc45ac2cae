"""The asynchronous client's channel, and how calls are made on it."""

import asyncio
import copy
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self, cast

import grpc

from parley.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parley_client import forks
from parley_client.calls import Call, Response
from parley_client.channels import DEFAULT_ADDRESS, Credentials, credentials_for, options_for
from parley_client.retries import Tries
from parley_client.statuses import error_from
from parley_client.streams import Event, OnRetry, Stream
from parley_client.tokens import AsyncToken, Metadata, metadata_from_async, naming


class AsyncConnection:
    """One channel, opened at the first call."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: AsyncToken | None = None,
        credentials: Credentials = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        """Make a client. Nothing is connected yet.

        Args:
            address: host:port, or any gRPC target.
            token: a JWT, a function that returns one, which may be asynchronous, or a TokenFile.
            credentials: for TLS. None: TLS with the system's roots, but plaintext on this machine;
                "plaintext": without TLS wherever the server is.
            channel: one of the caller's own, with its own options, used instead of `address` and
                left open by `close`.
        """
        self._address = address
        self._token = token
        self._credentials = credentials
        self._given_channel = channel
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._acting: Metadata = ()
        self._shared: Self | None = None

    def acting_for(self, user: str) -> Self:
        """Return this client as one whose calls are about a user's conversations.

        Args:
            user: what the user's own tokens have as `sub`. The token of this client's stays what it
                is, and needs the scope `parley.act` beside those of the calls.
        Raises: ValueError: the name cannot be sent.
        Guarantees: cheap enough for each request; it uses this client's channel, which stays open
            when the returned client is closed.
        """
        client = copy.copy(self)
        client._acting = naming(user)
        client._shared = self
        return client

    async def close(self) -> None:
        """Close the channel; calls under way end as cancelled. A later call opens it again."""
        if self._shared is not None:
            return
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _made(self, call: Call[Response]) -> Response:
        """Make a call, with every try that it takes."""
        tries = Tries(call.timeout_s)
        while True:
            metadata = await metadata_from_async(self._token) + self._acting
            if tries.is_first:
                metadata += call.first_metadata
            method = getattr(self._connected(), call.method)
            try:
                return cast(
                    Response,
                    await method(call.request, timeout=tries.time_left_s, metadata=metadata),
                )
            except grpc.aio.AioRpcError as failure:
                error = error_from(failure, call.request_id)
                pause_s = tries.pause_s(error)
                if pause_s is None:
                    raise error from failure
            await asyncio.sleep(pause_s)

    async def _followed(
        self, stream: Stream[Event], on_retry: OnRetry | None
    ) -> AsyncGenerator[Event, None]:
        """Iterate over a stream's events, with every call that it takes."""
        while True:
            metadata = await metadata_from_async(self._token) + self._acting
            method = getattr(self._connected(), stream.method)
            rpc = method(stream.request, timeout=stream.time_left_s, metadata=metadata)
            try:
                async for event in rpc:
                    if stream.takes(event):
                        yield event
                error, cause = stream.cut_short(), None
            except grpc.aio.AioRpcError as failure:
                error, cause = error_from(failure, stream.request_id), failure
            finally:  # whoever iterated has had enough, or it has ended and this changes nothing
                rpc.cancel()
            if stream.is_over:
                return
            pause_s = stream.pause_s(error)
            if pause_s is None:
                raise error from cause
            if on_retry is not None:
                on_retry(error)
            await asyncio.sleep(pause_s)

    def _connected(self) -> Any:
        if self._shared is not None:
            return self._shared._connected()
        forks.check_usable()
        if self._stub is None:
            channel = self._given_channel or self._opened()
            forks.note_async_channel(channel)
            self._stub = ConversationServiceStub(channel)
        return self._stub

    def _opened(self) -> grpc.aio.Channel:
        credentials = credentials_for(self._address, self._credentials)
        options = options_for(self._address, credentials)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self._address, options)
        else:
            self._channel = grpc.aio.secure_channel(self._address, credentials, options)
        return self._channel
