"""The synchronous client: what it says. Its surface is the asynchronous one's, call for call."""

from collections.abc import Generator
from contextlib import closing

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, Id
from parley_client.streams import OnRetry, TextOnly, TurnStream
from parley_client.sync_reads import Reads

Events = Generator[pb.StreamChatResponse, None, None]


class ParleyClient(Reads):
    """Parley, for a caller without an event loop.

        with ParleyClient("parley.internal:443", token=fetch_token) as parley:
            answer = parley.chat("Hello!")
            answer = parley.chat("And?", conversation_id=answer.conversation_id)

    One client serves a whole process and any number of its threads. Everything else is as with
    `AsyncParleyClient`. Ctrl-C while a call waits cancels the call.
    """

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

    def stream(
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
        on_retry: OnRetry | None = None,
    ) -> Events:
        """Make one turn and iterate over its answer as it comes.

        Args, Returns, Raises, Guarantees: as for `AsyncParleyClient.stream`.
        """
        turn = calls.chat(
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
        return self._followed(TurnStream(turn), on_retry)

    def stream_text(
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
        on_retry: OnRetry | None = None,
    ) -> Generator[str, None, None]:
        """Make one turn and iterate over its text as it comes.

        Args, Raises: as for `AsyncParleyClient.stream_text`.
        """
        key = str(request_id or calls.new_request_id())
        events = self.stream(
            message,
            conversation_id=conversation_id,
            request_id=key,
            allow_missing=allow_missing,
            expected_sequence=expected_sequence,
            on_busy=on_busy,
            on_disconnect=on_disconnect,
            agent=agent,
            timeout_s=timeout_s,
            on_retry=on_retry,
        )
        return _text_of(events, TextOnly(key))

    def cancel_turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> conversation_pb2.Turn:
        """Stop a turn and keep what was said so far as its answer, for good.

        Args, Returns, Raises: as for `AsyncParleyClient.cancel_turn`.
        """
        call = calls.cancel_turn(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return self._made(call).turn


def _text_of(events: Events, text: TextOnly) -> Generator[str, None, None]:
    with closing(events):
        for event in events:
            if piece := text.added_by(event):
                yield piece
