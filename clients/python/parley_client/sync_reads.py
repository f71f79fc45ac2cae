"""What the synchronous client reads: conversations, messages, turns."""

from collections.abc import Generator, Iterator

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls
from parley_client.calls import READ_TIMEOUT_S, Id
from parley_client.streams import OnRetry, WatchStream
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

    def watch(
        self,
        conversation_id: Id,
        *,
        after_sequence: int = 0,
        include_events: bool = False,
        on_retry: OnRetry | None = None,
    ) -> Generator[pb.WatchConversationResponse, None, None]:
        """Iterate over what happens in a conversation: what is there, then live, without an end.

        Args, Returns, Raises, Guarantees: as for `AsyncParleyClient.watch`.
        """
        stream = WatchStream(conversation_id, after_sequence, include_events=include_events)
        return self._followed(stream, on_retry)
