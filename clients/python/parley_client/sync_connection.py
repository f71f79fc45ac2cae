"""The synchronous client's channel, and how calls are made on it."""

import copy
import time
from collections.abc import Generator
from threading import Lock
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
from parley_client.tokens import Metadata, Token, metadata_from, naming


class Connection:
    """One channel, opened at the first call. Any number of threads may use it."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: Token | None = None,
        credentials: Credentials = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Make a client. Nothing is connected yet.

        Args:
            address: host:port, or any gRPC target.
            token: a JWT, a function that returns one, or a TokenFile.
            credentials: for TLS. None: TLS with the system's roots, but plaintext on this machine;
                "plaintext": without TLS wherever the server is.
            channel: one of the caller's own, with its own options, used instead of `address` and
                left open by `close`.
        """
        self._address = address
        self._token = token
        self._credentials = credentials
        self._given_channel = channel
        self._channel: grpc.Channel | None = None
        self._stub: Any = None
        self._acting: Metadata = ()
        self._shared: Self | None = None
        self._opening = Lock()
        self._generation = forks.generation()

    def acting_for(self, user: str) -> Self:
        """Return this client as one whose calls are about a user's conversations.

        Args, Raises, Guarantees: as for `AsyncParleyClient.acting_for`.
        """
        client = copy.copy(self)
        client._acting = naming(user)
        client._shared = self
        return client

    def close(self) -> None:
        """Close the channel; calls under way end as cancelled. A later call opens it again."""
        if self._shared is not None:
            return
        if self._generation != forks.generation():
            self._leave_to_parent()
        with self._opening:
            channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _made(self, call: Call[Response]) -> Response:
        """Make a call, with every try that it takes."""
        tries = Tries(call.timeout_s)
        while True:
            metadata = metadata_from(self._token) + self._acting
            if tries.is_first:
                metadata += call.first_metadata
            method = getattr(self._connected(), call.method)
            try:
                with forks.under_way():
                    rpc = method.future(call.request, timeout=tries.time_left_s, metadata=metadata)
                    return cast(Response, _result(rpc))
            except grpc.RpcError as failure:
                error = error_from(failure, call.request_id)
                pause_s = tries.pause_s(error)
                if pause_s is None:
                    raise error from failure
            time.sleep(pause_s)

    def _followed(
        self, stream: Stream[Event], on_retry: OnRetry | None
    ) -> Generator[Event, None, None]:
        """Iterate over a stream's events, with every call that it takes."""
        while True:
            metadata = metadata_from(self._token) + self._acting
            method = getattr(self._connected(), stream.method)
            with forks.under_way():
                rpc = method(stream.request, timeout=stream.time_left_s, metadata=metadata)
                try:
                    for event in rpc:
                        if stream.takes(event):
                            yield event
                    error, cause = stream.cut_short(), None
                except grpc.RpcError as failure:
                    error, cause = error_from(failure, stream.request_id), failure
                finally:  # whoever iterated has had enough, or it has ended: then this does nothing
                    rpc.cancel()
            if stream.is_over:
                return
            pause_s = stream.pause_s(error)
            if pause_s is None:
                raise error from cause
            if on_retry is not None:
                on_retry(error)
            time.sleep(pause_s)

    def _connected(self) -> Any:
        if self._shared is not None:
            return self._shared._connected()
        forks.check_usable()
        if self._generation != forks.generation():
            self._leave_to_parent()
        with self._opening:
            if self._stub is None:
                channel = self._given_channel or self._opened()
                forks.note_channel(channel)
                self._stub = ConversationServiceStub(channel)
            return self._stub

    def _opened(self) -> grpc.Channel:
        credentials = credentials_for(self._address, self._credentials)
        options = options_for(self._address, credentials)
        if credentials is None:
            self._channel = grpc.insecure_channel(self._address, options)
        else:
            self._channel = grpc.secure_channel(self._address, credentials, options)
        return self._channel

    def _leave_to_parent(self) -> None:
        """Let go of what this process inherited by a fork: the parent goes on with it."""
        self._channel, self._stub = None, None
        self._opening = Lock()
        self._generation = forks.generation()


def _result(rpc: Any) -> Any:
    """Wait for a call's answer; interrupted by Ctrl-C, nobody waits for it any more."""
    try:
        return rpc.result()
    except grpc.RpcError:
        raise
    except BaseException:
        rpc.cancel()
        raise
