"""What the asynchronous client reads: conversations, messages, turns.

`sync_reads.py` is generated from this file.
"""

from collections.abc import AsyncGenerator, AsyncIterator

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls
from parley_client.async_connection import AsyncConnection
from parley_client.calls import READ_TIMEOUT_S, Id, Labels, Moment
from parley_client.streams import OnRetry, WatchStream


class AsyncReads(AsyncConnection):
    """The calls that change nothing."""

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

        Args:
            conversation_id: the conversation to read.
            order: "oldest_first" or "newest_first".
            after_sequence: only messages with a higher sequence, in both orders.
            min_sequence: never answer from a copy of the data older than this.
            page_size: how many messages a page has at most; 0: 50. Above 1,000: 1,000.
            timeout_s: for each page, retries included, in seconds.
        Raises, while iterating:
            ParleyError: ConversationNotFound, SequenceNotReached, Unavailable, DeadlineExceeded,
                and what any call may raise: InvalidRequest, Unauthenticated, ScopeMissing,
                Overloaded, InternalError.
            ValueError: an argument cannot be sent.
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
            conversation_id: the conversation to read.
            order: "oldest_first" or "newest_first".
            after_sequence: only messages with a higher sequence, in both orders.
            min_sequence: never answer from a copy of the data older than this.
            page_size: how many messages the page has at most; 0: 50. Above 1,000: 1,000.
            page_token: `next_page_token` of the page before. Empty: the first page.
            timeout_s: for the call, retries included, in seconds.
        Raises:
            ParleyError: ConversationNotFound, SequenceNotReached, InvalidPageToken, Unavailable,
                DeadlineExceeded, and what any call may raise: InvalidRequest, Unauthenticated,
                ScopeMissing, Overloaded, InternalError.
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
        return await self._unary(call)

    async def conversations(
        self,
        *,
        labels: Labels | None = None,
        updated_after: Moment | None = None,
        page_size: int = 0,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> AsyncIterator[conversation_pb2.Conversation]:
        """Iterate over the caller's conversations, the most recently active first.

        A conversation that becomes active meanwhile may be missing; none comes twice.

        Args:
            labels: only conversations that have all of these labels, at most 16.
            updated_after: only conversations whose `update_time` is later: a datetime with its time
                zone, or a timestamp of the contract.
            page_size: how many conversations a page has at most; 0: 50. Above 1,000: 1,000.
            timeout_s: for each page, retries included, in seconds.
        Raises, while iterating:
            ParleyError: Unavailable, DeadlineExceeded, and what any call may raise: InvalidRequest,
                Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        """
        page_token = ""
        while True:
            page = await self.conversations_page(
                labels=labels,
                updated_after=updated_after,
                page_size=page_size,
                page_token=page_token,
                timeout_s=timeout_s,
            )
            for conversation in page.conversations:
                yield conversation
            page_token = page.next_page_token
            if not page_token:
                return

    async def conversations_page(
        self,
        *,
        labels: Labels | None = None,
        updated_after: Moment | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout_s: float = READ_TIMEOUT_S,
    ) -> pb.ListConversationsResponse:
        """Return one page of the caller's conversations, the most recently active first.

        Args:
            labels: only conversations that have all of these labels, at most 16.
            updated_after: only conversations whose `update_time` is later: a datetime with its time
                zone, or a timestamp of the contract.
            page_size: how many conversations the page has at most; 0: 50. Above 1,000: 1,000.
            page_token: `next_page_token` of the page before. Empty: the first page.
            timeout_s: for the call, retries included, in seconds.
        Raises:
            ParleyError: InvalidPageToken, Unavailable, DeadlineExceeded, and what any call may
                raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        """
        call = calls.conversations_page(
            labels=labels,
            updated_after=updated_after,
            page_size=page_size,
            page_token=page_token,
            timeout_s=timeout_s,
        )
        return await self._unary(call)

    async def conversation(
        self, conversation_id: Id, *, timeout_s: float = READ_TIMEOUT_S
    ) -> conversation_pb2.Conversation:
        """Return a conversation without its messages, with its labels, instructions and revision.

        Args:
            conversation_id: the conversation to read.
            timeout_s: for the call, retries included, in seconds.
        Raises:
            ParleyError: ConversationNotFound, Unavailable, DeadlineExceeded, and what any call may
                raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        """
        call = calls.conversation(conversation_id, timeout_s=timeout_s)
        response = await self._unary(call)
        return response.conversation

    async def turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> conversation_pb2.Turn:
        """Return a turn, with its state.

        Args:
            request_id: the request id that the turn was made with. Excludes the two others.
            conversation_id: the turn's conversation. Required with `turn_id`.
            turn_id: the turn's id. Required with `conversation_id`.
            timeout_s: for the call, retries included, in seconds.
        Raises:
            ParleyError: TurnNotFound, Unavailable, DeadlineExceeded, and what any call may raise:
                InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        """
        call = calls.turn(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        response = await self._unary(call)
        return response.turn

    def watch(
        self,
        conversation_id: Id,
        *,
        after_sequence: int = 0,
        include_events: bool = False,
        on_retry: OnRetry | None = None,
    ) -> AsyncGenerator[pb.WatchConversationResponse, None]:
        """Iterate over what happens in a conversation: what is there, then live, while it exists.

        Args:
            conversation_id: the conversation to watch.
            after_sequence: only messages with a higher sequence; 0: from the beginning.
            include_events: also the text and tool calls of the open turn, from its first one.
                Only turns that are streamed have them.
            on_retry: called with every error after which the watch is resumed, such as to log it.
        Returns: updates: `message`, `turn` (a state that changed), `event` (a piece of the open
            turn), `progress` (everything up to now has come; also every minute) and, last,
            `deleted`: the conversation was deleted, and the iteration ends.
        Raises:
            ParleyError, while iterating: ConversationNotFound, Overloaded, Unavailable (only as
                long as nothing has come), InvalidRequest, Unauthenticated, ScopeMissing,
                InternalError.
            ValueError, at once: an argument cannot be sent.
        Guarantees: every message once, in order, through restarts of the server and lost
            connections; each new call waits longer than the one before, at most 3 seconds unless
            the server asks for more. Closing the iterator ends the watch.
        """
        stream = WatchStream(conversation_id, after_sequence, include_events=include_events)
        return self._stream(stream, on_retry)
