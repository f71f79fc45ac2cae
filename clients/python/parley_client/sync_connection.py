# Generated from async_connection.py by tools/async_to_sync.py. Do not edit: run `make gen`.
"""How the synchronous client makes calls: with its token, and with every try that they take."""

import copy
from collections.abc import Generator
from types import TracebackType
from typing import Self, cast

import grpc

from parley_client.calls import Call, Response
from parley_client.channels import DEFAULT_ADDRESS, Credentials
from parley_client.errors import ConversationNotFound
from parley_client.retries import AllTries, Tries
from parley_client.statuses import error_from
from parley_client.streams import Event, OnRetry, Stream
from parley_client.sync_transport import Transport
from parley_client.tokens import Metadata, Token, metadata_from, naming


class Connection:
    """A server, who calls it, and how calls to it are made."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: Token | None = None,
        credentials: Credentials = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Make a client. It connects at its first call.

        Args:
            address: host:port, or any gRPC target.
            token: a JWT, a function that returns one, or a TokenFile.
                None: calls carry no token.
            credentials: for TLS, as `tls` makes them. None: TLS with the system's roots, but
                plaintext to this machine; "plaintext": no TLS wherever the server is.
            channel: the caller's own channel, with its own options. It is used instead of
                `address`, and `close` leaves it open.
        """
        self._token = token
        self._acting: Metadata = ()
        self._transport = Transport(address, credentials, channel)
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

    def close(self) -> None:
        """Close the channel; calls under way end as cancelled. The next call opens it again."""
        if self._owns_transport:
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _unary(self, call: Call[Response]) -> Response:
        """Make a call, with every try that it takes."""
        tries = (Tries if call.if_done is None else AllTries)(call.timeout_s)
        closings = self._transport.closings
        while True:
            metadata = metadata_from(self._token)
            metadata += self._acting
            if tries.is_first:
                metadata += call.first_metadata
            try:
                response = self._transport.unary(
                    call.method, call.request, tries.time_left_s, metadata, closings
                )
                return cast(Response, response)
            except grpc.RpcError as failure:
                error = error_from(failure, call.request_id)
                is_gone = isinstance(error, ConversationNotFound)
                if call.if_done is not None and is_gone and tries.may_be_done:
                    return call.if_done
                pause_s = tries.pause_s(error)
                if pause_s is None:
                    raise error from failure
            self._transport.rest(pause_s, closings)

    def _stream(
        self, stream: Stream[Event], on_retry: OnRetry | None
    ) -> Generator[Event, None, None]:
        """Iterate over a stream's events, with every call that it takes."""
        closings = self._transport.closings
        while True:
            metadata = metadata_from(self._token)
            metadata += self._acting
            try:
                with self._transport.stream(
                    stream.method, stream.request, stream.time_left_s, metadata, closings
                ) as events:
                    for event in events:
                        if stream.take(event):
                            yield event
                error, cause = stream.cut_short(), None
            except grpc.RpcError as failure:
                error, cause = error_from(failure, stream.request_id), failure
            if stream.is_over:
                return
            pause_s = stream.pause_s(error)
            if pause_s is None:
                raise error from cause
            if on_retry is not None:
                on_retry(error)
            self._transport.rest(pause_s, closings)
