"""The asynchronous client: what it says."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls
from parley_client.async_reads import AsyncReads
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, Id
from parley_client.streams import OnRetry, TextOnly, TurnStream

Events = AsyncGenerator[pb.StreamChatResponse, None]


class AsyncParleyClient(AsyncReads):
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
            message: 1 to 262,144 bytes of UTF-8 unless the server is set otherwise, not only
                white space.
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
                TurnSuperseded, AttemptsExhausted, AgentRefused, Unavailable, DeadlineExceeded, and
                what any call may raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded,
                InternalError.
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

        A stream that is lost is begun again by itself, under the same request id and behind the
        last piece seen, on any worker.

        Args: as for `chat`; further:
            on_retry: told of every error after which the stream is begun again, such as to log it.
        Returns: events: `started` (first in every call, and so again after a loss), `chunk` (text),
            `tool_call` (with its result), and last `completed`, the answer as `chat` returns it. It
            replaces what was gathered: the last pieces may come only there. If an event's `attempt`
            is higher than before, the agent began anew, and what was gathered until then is void;
            with `on_disconnect="continue"` a lost connection alone does not make it so.
        Raises: while iterating, ParleyError: as for `chat`. What had come before is not an answer.
            At once, ValueError: an argument cannot be sent.
        Guarantees: one turn for one request id. Ends with `completed` or an error, at `timeout_s`
            at the latest; gives up after 5 tries in vain, 8 once pieces have come.
            Closing the iterator cancels the call; `on_disconnect` decides what becomes of the turn.
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
    ) -> AsyncGenerator[str, None]:
        """Make one turn and iterate over its text as it comes, each piece once, the last included.

        Args: as for `stream`.
        Raises: as for `stream`; AttemptLost: the agent began anew, so that the text so far is void.
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

    async def cancel_turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> conversation_pb2.Turn:
        """Stop a turn and keep what was said so far as its answer, for good.

        Whoever streams or waits for the turn gets that answer. A turn that has ended stays as it
        is.

        Args: as for `turn`.
        Returns: the turn as it stands: cancelled, or however it ended before. Still running: it has
            been asked to stop and has not done so within 2 seconds.
        Raises: ParleyError: TurnNotFound, InvalidRequest, Unavailable, DeadlineExceeded.
        """
        call = calls.cancel_turn(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return (await self._made(call)).turn


async def _text_of(events: Events, text: TextOnly) -> AsyncGenerator[str, None]:
    async with aclosing(events):
        async for event in events:
            if piece := text.added_by(event):
                yield piece
