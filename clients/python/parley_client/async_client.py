"""The asynchronous client."""

import asyncio
from collections.abc import AsyncIterator
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
from parley_client.tokens import AsyncToken, metadata_from_async


class AsyncParleyClient:
    """Parley, for a caller with an event loop.

        async with AsyncParleyClient("parley.internal:443", token=fetch_token) as parley:
            answer = await parley.chat("Hello!")
            answer = await parley.chat("And?", conversation_id=answer.conversation_id)

    One client serves a whole process: it keeps one channel, opened at its first call, so that it
    may be made before a fork or outside of an event loop. All its calls belong to one event loop.

    What answers is the contract's own messages. What fails is a `ParleyError`. Unreachable servers
    and lost workers are retried under the call's deadline, with the same request id. Cancelling the
    task that waits cancels the call.
    """

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

    async def chat(
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

        Args:
            message: 1 to 32,768 bytes of UTF-8, not only white space.
            conversation_id: the conversation to go on with. None: a new one.
            request_id: the turn's key, 1 to 128 of [A-Za-z0-9._:-]. None: a new UUID, which an
                error shows. Pass one that is stored to repeat the turn after a crash of the caller.
            allow_missing: create the conversation under `conversation_id` if there is none.
            expected_sequence: refuse unless this is the conversation's last sequence; 0: new or
                empty.
            on_busy: while another turn of the conversation is open, "reject" or "wait" for its end.
            on_disconnect: when this call is lost or its deadline comes, "cancel" the turn or
                "continue" it.
            agent: a configured agent's name. None: the default one.
            timeout_s: for everything, waits and retries included, in seconds.
        Returns: the answer; `replayed` if the turn had been answered before.
        Raises:
            ParleyError: ConversationNotFound, TurnInProgress, SequenceMismatch, RequestIdReused,
                TurnSuperseded, AgentRefused, Unavailable, DeadlineExceeded, and what any call may
                raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: one turn for one request id, however often it is sent. When it returns, message
            and answer are stored.
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
        return await self._made(call)

    async def history(
        self,
        conversation_id: Id,
        *,
        order: calls.Order = "oldest_first",
        after_sequence: int = 0,
        min_sequence: int = 0,
        page_size: int = 0,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> AsyncIterator[conversation_pb2.Message]:
        """Iterate over a conversation's messages; pages are fetched as they are needed.

        Args: as for `history_page`; `timeout_s` is for each page.
        Raises: ParleyError, while iterating: ConversationNotFound, SequenceNotReached, Unavailable,
            DeadlineExceeded.
        """
        page_token = ""
        while True:
            page = await self.history_page(
                conversation_id,
                order=order,
                after_sequence=after_sequence,
                min_sequence=min_sequence,
                page_size=page_size,
                page_token=page_token,
                timeout_s=timeout_s,
            )
            for message in page.messages:
                yield message
            page_token = page.next_page_token
            if not page_token:
                return

    async def history_page(
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

        Args:
            order: "oldest_first" or "newest_first".
            after_sequence: only messages with a higher sequence, in both orders.
            min_sequence: never answer from a copy of the data older than this.
            page_size: how many at most; 0: 50. Above 1,000: 1,000.
            page_token: `next_page_token` of the page before. Empty: the first page.
            timeout_s: in seconds.
        Raises:
            ParleyError: ConversationNotFound, SequenceNotReached, InvalidPageToken, Unavailable,
                DeadlineExceeded.
            ValueError: an argument cannot be sent.
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
        return await self._made(call)

    async def conversations(
        self, *, page_size: int = 0, timeout_s: float = READ_TIMEOUT_S
    ) -> AsyncIterator[conversation_pb2.Conversation]:
        """Iterate over the caller's conversations, the most recently active first.

        One that becomes active meanwhile may be missing; none comes twice.

        Args: as for `conversations_page`; `timeout_s` is for each page.
        Raises: ParleyError, while iterating: Unavailable, DeadlineExceeded.
        """
        page_token = ""
        while True:
            page = await self.conversations_page(
                page_size=page_size, page_token=page_token, timeout_s=timeout_s
            )
            for conversation in page.conversations:
                yield conversation
            page_token = page.next_page_token
            if not page_token:
                return

    async def conversations_page(
        self, *, page_size: int = 0, page_token: str = "", timeout_s: float = READ_TIMEOUT_S
    ) -> pb.ListConversationsResponse:
        """Return one page of the caller's conversations, the most recently active first.

        Args:
            page_size: how many at most; 0: 50. Above 1,000: 1,000.
            page_token: `next_page_token` of the page before. Empty: the first page.
            timeout_s: in seconds.
        Raises: ParleyError: InvalidPageToken, Unavailable, DeadlineExceeded.
        """
        call = calls.conversations_page(
            page_size=page_size, page_token=page_token, timeout_s=timeout_s
        )
        return await self._made(call)

    async def turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> conversation_pb2.Turn:
        """Return where a turn stands.

        Args:
            request_id: what the turn was asked for with; goes alone.
            conversation_id, turn_id: the turn's names; go together.
            timeout_s: in seconds.
        Raises: ParleyError: TurnNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
        """
        call = calls.turn(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return (await self._made(call)).turn

    async def close(self) -> None:
        """Close the channel; calls under way end as cancelled. A later call opens it again."""
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
            metadata = await metadata_from_async(self._token)
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

    def _connected(self) -> Any:
        if self._stub is None:
            self._stub = ConversationServiceStub(self._given_channel or self._opened())
        return self._stub

    def _opened(self) -> grpc.aio.Channel:
        credentials = credentials_for(self._address, self._credentials)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self._address, options())
        else:
            self._channel = grpc.aio.secure_channel(self._address, credentials, options())
        return self._channel
