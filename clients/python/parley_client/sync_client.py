"""The synchronous client. Its surface is the asynchronous one's, call for call."""

import time
from collections.abc import Iterator
from threading import Lock
from types import TracebackType
from typing import Any, Self, cast

import grpc

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parley_client import calls
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, Call, Id, Response
from parley_client.channels import DEFAULT_ADDRESS, Credentials, credentials_for, options
from parley_client.retries import Tries
from parley_client.statuses import error_from
from parley_client.tokens import Token, metadata_from


class ParleyClient:
    """Parley, for a caller without an event loop.

        with ParleyClient("parley.internal:443", token=fetch_token) as parley:
            answer = parley.chat("Hello!")
            answer = parley.chat("And?", conversation_id=answer.conversation_id)

    One client serves a whole process and any number of its threads. Everything else is as with
    `AsyncParleyClient`. Ctrl-C while a call waits cancels the call.
    """

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
        self._opening = Lock()

    def chat(
        self,
        message: str,
        *,
        conversation_id: Id | None = None,
        request_id: Id | None = None,
        allow_missing: bool = False,
        expected_sequence: int | None = None,
        on_busy: calls.OnBusy = "reject",
        on_disconnect: calls.OnDisconnect = "cancel",
        agent: str | None = None,
        timeout_s: float = CHAT_TIMEOUT_S,
    ) -> pb.ChatResponse:
        """Make one turn and return its answer.

        Args, Returns, Raises, Guarantees: as for `AsyncParleyClient.chat`.
        """
        call = calls.chat(
            message,
            conversation_id=conversation_id,
            request_id=request_id,
            allow_missing=allow_missing,
            expected_sequence=expected_sequence,
            on_busy=on_busy,
            on_disconnect=on_disconnect,
            agent=agent,
            timeout_s=timeout_s,
        )
        return self._made(call)

    def history(
        self,
        conversation_id: Id,
        *,
        order: calls.Order = "oldest_first",
        after_sequence: int = 0,
        min_sequence: int = 0,
        page_size: int = 0,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> Iterator[conversation_pb2.Message]:
        """Iterate over a conversation's messages; pages are fetched as they are needed.

        Args, Raises: as for `AsyncParleyClient.history`.
        """
        page_token = ""
        while True:
            page = self.history_page(
                conversation_id,
                order=order,
                after_sequence=after_sequence,
                min_sequence=min_sequence,
                page_size=page_size,
                page_token=page_token,
                timeout_s=timeout_s,
            )
            yield from page.messages
            page_token = page.next_page_token
            if not page_token:
                return

    def history_page(
        self,
        conversation_id: Id,
        *,
        order: calls.Order = "oldest_first",
        after_sequence: int = 0,
        min_sequence: int = 0,
        page_size: int = 0,
        page_token: str = "",
        timeout_s: float = READ_TIMEOUT_S,
    ) -> pb.GetHistoryResponse:
        """Return one page of a conversation's messages.

        Args, Raises: as for `AsyncParleyClient.history_page`.
        """
        call = calls.history_page(
            conversation_id,
            order=order,
            after_sequence=after_sequence,
            min_sequence=min_sequence,
            page_size=page_size,
            page_token=page_token,
            timeout_s=timeout_s,
        )
        return self._made(call)

    def conversations(
        self, *, page_size: int = 0, timeout_s: float = READ_TIMEOUT_S
    ) -> Iterator[conversation_pb2.Conversation]:
        """Iterate over the caller's conversations, the most recently active first.

        Args, Raises: as for `AsyncParleyClient.conversations`.
        """
        page_token = ""
        while True:
            page = self.conversations_page(
                page_size=page_size, page_token=page_token, timeout_s=timeout_s
            )
            yield from page.conversations
            page_token = page.next_page_token
            if not page_token:
                return

    def conversations_page(
        self, *, page_size: int = 0, page_token: str = "", timeout_s: float = READ_TIMEOUT_S
    ) -> pb.ListConversationsResponse:
        """Return one page of the caller's conversations, the most recently active first.

        Args, Raises: as for `AsyncParleyClient.conversations_page`.
        """
        call = calls.conversations_page(
            page_size=page_size, page_token=page_token, timeout_s=timeout_s
        )
        return self._made(call)

    def turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> conversation_pb2.Turn:
        """Return where a turn stands.

        Args, Raises: as for `AsyncParleyClient.turn`.
        """
        call = calls.turn(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return self._made(call).turn

    def close(self) -> None:
        """Close the channel; calls under way end as cancelled. A later call opens it again."""
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
            metadata = metadata_from(self._token)
            method = getattr(self._connected(), call.method)
            rpc = method.future(call.request, timeout=tries.time_left_s, metadata=metadata)
            try:
                return cast(Response, rpc.result())
            except grpc.RpcError as failure:
                error = error_from(failure, call.request_id)
                pause_s = tries.pause_s(error)
                if pause_s is None:
                    raise error from failure
            except BaseException:  # Ctrl-C: nobody waits for the answer any more
                rpc.cancel()
                raise
            time.sleep(pause_s)

    def _connected(self) -> Any:
        with self._opening:
            if self._stub is None:
                self._stub = ConversationServiceStub(self._given_channel or self._opened())
            return self._stub

    def _opened(self) -> grpc.Channel:
        credentials = credentials_for(self._address, self._credentials)
        if credentials is None:
            self._channel = grpc.insecure_channel(self._address, options())
        else:
            self._channel = grpc.secure_channel(self._address, credentials, options())
        return self._channel
