"""How the asynchronous client makes calls: with its token, and with every try that they take.

`sync_connection.py` is generated from this file.
"""

import copy
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self, cast

import grpc

from parley_client.async_transport import AsyncTransport
from parley_client.calls import Call, Response
from parley_client.channels import DEFAULT_ADDRESS, Credentials, closed
from parley_client.errors import ConversationNotFound, ParleyError
from parley_client.retries import AllTries, Tries
from parley_client.statuses import error_from
from parley_client.streams import Event, OnRetry, Stream
from parley_client.tokens import AsyncToken, Metadata, metadata_from_async, naming, tokenless


class AsyncConnection:
    """A server, who calls it, and how calls to it are made."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: AsyncToken | None = None,
        credentials: Credentials = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        """Make a client. It connects at its first call.

        Args:
            address: host:port, or any gRPC target.
            token: a JWT, a function that returns one, which may be asynchronous, or a TokenFile.
                None: calls carry no token.
            credentials: for TLS, as `tls` makes them. None: TLS with the system's roots, but
                plaintext to this machine; "plaintext": no TLS wherever the server is.
            channel: the caller's own channel, with its own options. It is used instead of
                `address`, and `close` leaves it open.
        """
        self._token = token
        self._acting: Metadata = ()
        self._transport = AsyncTransport(address, credentials, channel)
        self._owns_transport = True

    def acting_for(self, user: str) -> Self:
        """Return this client as one whose calls act on a user's conversations.

        Args:
            user: the `sub` of the user's own tokens. This client's token stays the same; it needs
                the scope `parley.act` beside those of the calls.
        Raises: ValueError: the name cannot be sent.
        Guarantees: cheap enough for each request. The returned client uses this client's channel;
            closing it leaves the channel open.
        """
        client = copy.copy(self)
        client._acting = naming(user)  # noqa: SLF001 - a copy of this one
        client._owns_transport = False  # noqa: SLF001 - a copy of this one
        return client

    async def close(self) -> None:
        """Close the channel. The next call opens it again.

        Guarantees: calls under way, and those that wait between two tries, end with a ParleyError,
            code CANCELLED.
        """
        if self._owns_transport:
            await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _unary(self, call: Call[Response], closings: int | None = None) -> Response:
        """Make a call, with every try that it takes.

        Args:
            closings: the transport's, as they were before the first of several calls that belong
                together: once it was closed, none of them opens it again. None: as they are.
        """
        tries = (Tries if call.if_done is None else AllTries)(call.timeout_s)
        closings = self._transport.closings if closings is None else closings
        while True:
            metadata = await metadata_from_async(self._token, tries.time_left_s, call.request_id)
            metadata += self._acting
            if tries.is_first:
                metadata += call.first_metadata
            try:
                response = await self._transport.unary(
                    call.method, call.request, tries.time_left_s, metadata, closings
                )
                return cast(Response, response)
            except grpc.aio.AioRpcError as failure:
                error = self._error_from(failure, call.request_id, closings)
                is_gone = isinstance(error, ConversationNotFound)
                if call.if_done is not None and is_gone and tries.may_be_done:
                    return call.if_done
                pause_s = tries.pause_s(error)
                if pause_s is None:
                    raise error from failure
            await self._rest(pause_s, call.request_id, closings)

    async def _stream(
        self, stream: Stream[Event], on_retry: OnRetry | None
    ) -> AsyncGenerator[Event, None]:
        """Iterate over a stream's events, with every call that it takes."""
        closings = self._transport.closings
        while True:
            metadata = await self._metadata_of(stream, on_retry, closings)
            try:
                with self._transport.stream(
                    stream.method, stream.request, stream.time_left_s, metadata, closings
                ) as events:
                    async for event in events:
                        if stream.take(event):
                            yield event
                error, cause = stream.cut_short(), None
            except grpc.aio.AioRpcError as failure:
                error = self._error_from(failure, stream.request_id, closings)
                cause = failure
            if stream.is_over:
                return
            if (last := stream.last_event(error)) is not None:
                yield last
                return
            pause_s = stream.tries.pause_s(error)
            if pause_s is None:
                raise error from cause
            if on_retry is not None:
                on_retry(error)
            await self._rest(pause_s, stream.request_id, closings)

    async def _metadata_of(
        self, stream: Stream[Event], on_retry: OnRetry | None, closings: int
    ) -> Metadata:
        """Return the metadata of a stream's next call.

        Raises: what asking for the token raises, unless the stream waits for it; ParleyError: the
            client was closed meanwhile.
        """
        while True:
            try:
                metadata = await metadata_from_async(
                    self._token, stream.time_left_s, stream.request_id
                )
                return metadata + self._acting
            except Exception as failure:
                error = tokenless(failure, stream.request_id)
                pause_s = stream.tries.pause_for_token_s(error)
                if pause_s is None:
                    raise
            if on_retry is not None:
                on_retry(error)
            await self._rest(pause_s, stream.request_id, closings)

    async def _rest(self, pause_s: float, request_id: str, closings: int) -> None:
        """Wait between two calls, in seconds. Raises: ParleyError: the client was closed."""
        await self._transport.rest(pause_s, closings)
        if closings != self._transport.closings:
            raise error_from(closed(), request_id)

    def _error_from(
        self, failure: grpc.aio.AioRpcError, request_id: str, closings: int
    ) -> ParleyError:
        """Return the error of a call that has failed, or whose client was closed under it."""
        was_closed = closings != self._transport.closings
        return error_from(closed() if was_closed else failure, request_id)
