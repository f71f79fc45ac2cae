# Generated from async_reads.py by tools/async_to_sync.py. Do not edit: run `make gen`.
"""What the synchronous client reads: conversations, messages, turns, usage."""

from collections.abc import Generator, Iterator

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls, conversation_calls
from parley_client.calls import READ_TIMEOUT_S, Day, Id, Labels, Moment
from parley_client.streams import ExportStream, FeedStream, OnRetry, WatchStream
from parley_client.sync_connection import Connection


class Reads(Connection):
    """The calls that change nothing."""

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
        closings = self._transport.closings
        page_token = ""
        while True:
            call = calls.history_page(
                conversation_id,
                order=order,
                after_sequence=after_sequence,
                min_sequence=min_sequence,
                page_size=page_size,
                page_token=page_token,
                timeout_s=timeout_s,
            )
            page = self._unary(call, closings)
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
        return self._unary(call)

    def conversations(
        self,
        *,
        labels: Labels | None = None,
        updated_after: Moment | None = None,
        page_size: int = 0,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> Iterator[conversation_pb2.Conversation]:
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
        closings = self._transport.closings
        page_token = ""
        while True:
            call = conversation_calls.conversations_page(
                labels=labels,
                updated_after=updated_after,
                page_size=page_size,
                page_token=page_token,
                timeout_s=timeout_s,
            )
            page = self._unary(call, closings)
            yield from page.conversations
            page_token = page.next_page_token
            if not page_token:
                return

    def conversations_page(
        self,
        *,
        labels: Labels | None = None,
        updated_after: Moment | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout_s: float = READ_TIMEOUT_S,
    ) -> pb.ListConversationsResponse:
        """Return one page of the caller's conversations, the most recently active first.

        With labels, it may have fewer than `page_size`, even none, and a `next_page_token`: only an
        empty one says that the list has ended.

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
        call = conversation_calls.conversations_page(
            labels=labels,
            updated_after=updated_after,
            page_size=page_size,
            page_token=page_token,
            timeout_s=timeout_s,
        )
        return self._unary(call)

    def conversation(
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
        call = conversation_calls.conversation(conversation_id, timeout_s=timeout_s)
        response = self._unary(call)
        return response.conversation

    def turn(
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
        response = self._unary(call)
        return response.turn

    def watch(
        self,
        conversation_id: Id,
        *,
        after_sequence: int = 0,
        include_events: bool = False,
        on_retry: OnRetry | None = None,
    ) -> Generator[pb.WatchConversationResponse, None, None]:
        """Iterate over what happens in a conversation: what is there, then live, while it exists.

        Args:
            conversation_id: the conversation to watch.
            after_sequence: only messages with a higher sequence; 0: from the beginning.
            include_events: also the text and tool calls of the open turn, from its first one.
                Only turns that are streamed have them.
            on_retry: called with every error after which the watch is resumed, such as to log it.
        Returns: updates: `message`, `turn` (a state that changed), `event` (a piece of the open
            turn), `progress` (everything up to now has come; also every minute) and, last,
            `deleted`: the conversation was deleted, even between two calls, and the iteration ends.
        Raises:
            ParleyError, while iterating: ConversationNotFound and Unavailable (only as long as
                nothing has come), Overloaded, InvalidRequest, Unauthenticated, ScopeMissing,
                InternalError.
            ValueError, at once: an argument cannot be sent.
        Guarantees: every message once, in order, through restarts of the server and lost
            connections; each new call waits longer than the one before, at most 3 seconds unless
            the server asks for more. Closing the iterator ends the watch.
        """
        stream = WatchStream(conversation_id, after_sequence, include_events=include_events)
        return self._stream(stream, on_retry)

    def watch_turns(
        self,
        *,
        after_cursor: str = "",
        only_new: bool = False,
        labels: Labels | None = None,
        all_owners: bool = False,
        on_retry: OnRetry | None = None,
    ) -> Generator[pb.WatchTurnsResponse, None, None]:
        """Iterate over the turns that end: those that ended behind a cursor, then live, for good.

        Handle an update, then store its `cursor`, in one transaction if possible.

        Args:
            after_cursor: the `cursor` of the last update that was handled, to continue behind it.
                Empty: from the oldest turn that the server keeps, of the last 7 days as a rule.
            only_new: without a cursor, only turns that end from now on.
            labels: only turns of conversations that have all of these labels, at most 16.
            all_owners: the turns of all users of the caller's tenant; the token has to name the
                scope `parley.observe`.
            on_retry: called with every error after which the watch is resumed, such as to log it.
        Returns: updates: `turn` (as the attempt that ended left it; with `all_owners`, the update's
            `user` is whose it is) and `progress` (everything up to now has come; also every
            minute). Each has its `cursor`. A turn that is run again comes each time that it ends.
        Raises:
            ParleyError, while iterating: CursorExpired (turns may be missing: read what is needed,
                then watch without a cursor), InvalidPageToken (the cursor is not one of this feed),
                Overloaded, Unavailable (only as long as nothing has come), InvalidRequest,
                Unauthenticated, ScopeMissing, InternalError.
            ValueError, at once: an argument cannot be sent.
        Guarantees: every end of a turn once, in the same order for every watch, through restarts of
            the server and lost connections; each new call waits longer than the one before, at most
            3 seconds unless the server asks for more. Closing the iterator ends the watch.
        """
        stream = FeedStream(after_cursor, labels, only_new=only_new, all_owners=all_owners)
        return self._stream(stream, on_retry)

    def export(
        self, cursor: str = "", *, on_retry: OnRetry | None = None
    ) -> Generator[pb.ExportConversationsResponse, None, None]:
        """Iterate over everything that the caller has: each conversation, then its messages.

        Conversations come in the order of their ids. What is written meanwhile may be missing.

        Args:
            cursor: the `cursor` of the last part received, to continue behind it. Empty: from the
                beginning.
            on_retry: called with every error after which the export is resumed, such as to log it.
        Returns: parts: `conversation`, `message` (of the conversation before it) and, last, `done`.
            Each has its `cursor` and, but for `done`, its `conversation_id`.
        Raises:
            ParleyError, while iterating: InvalidPageToken (the cursor is not one of the caller's),
                Overloaded, Unavailable, DeadlineExceeded, and what any call may raise:
                InvalidRequest, Unauthenticated, ScopeMissing, InternalError.
        Guarantees: every part once, in order, through restarts of the server and lost connections.
            It gives up after 5 tries without a part, 8 once parts have come. Closing the iterator
            ends the export.
        """
        return self._stream(ExportStream(cursor), on_retry)

    def usage(
        self,
        *,
        start_date: Day | None = None,
        end_date: Day | None = None,
        by_agent: bool = False,
        by_label: str = "",
        labels: Labels | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> pb.GetUsageResponse:
        """Return what the caller's turns used, by day; every attempt counts, failed ones included.

        Args:
            start_date: the first day, in UTC: a date, or a text such as "2026-11-28". None: 30 days
                before `end_date`.
            end_date: the last day, included; at most 366 days after `start_date`. None: today.
            by_agent: a row for each agent as well.
            by_label: the key of a label: a row for each of its values as well. Empty: all together.
            labels: only conversations that had all of these labels, at most 16.
            timeout_s: for the call, retries included, in seconds.
        Returns: `rows`, one for each day with an attempt (and agent, and label value), by day.
        Raises:
            ParleyError: Unavailable, DeadlineExceeded, and what any call may raise: InvalidRequest,
                Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        """
        call = conversation_calls.usage(
            start_date=start_date,
            end_date=end_date,
            by_agent=by_agent,
            by_label=by_label,
            labels=labels,
            timeout_s=timeout_s,
        )
        return self._unary(call)
