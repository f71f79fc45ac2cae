"""The asynchronous client: the calls that make and stop turns.

`sync_client.py` is generated from this file.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls
from parley_client.async_changes import AsyncChanges
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, Id
from parley_client.streams import OnRetry, TextOnly, TurnStream


class AsyncParleyClient(AsyncChanges):
    """Parley, for a caller with an event loop.

        async with AsyncParleyClient("parley.internal:443", token=fetch_token) as parley:
            answer = await parley.chat("Hello!")
            answer = await parley.chat("And?", conversation_id=answer.conversation_id)

    One client serves a whole process: it keeps one channel, opened at its first call, so that it
    may be made before a fork or outside of an event loop. All its calls belong to one event loop.

    Calls return the contract's own messages and fail with a `ParleyError`. The client retries while
    a server is unreachable or a worker is lost, under the call's deadline and with the same request
    id. Cancelling the task that waits cancels the call.
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
            message: 1 to 262,144 bytes of UTF-8, not only white space. A server may be configured
                for another maximum.
            conversation_id: the conversation to continue. None: a new one.
            request_id: the turn's key, 1 to 128 of [A-Za-z0-9._:-]. None: a new UUID, which errors
                show. Pass a stored one to repeat the turn after a crash of the caller.
            allow_missing: create the conversation under `conversation_id` if it does not exist.
            expected_sequence: refuse the turn unless this is the conversation's last sequence; 0:
                unless it is new or empty. None: do not check.
            on_busy: while another turn of the conversation is open, "reject" this one or "wait" for
                the other's end.
            on_disconnect: when this call is lost or its deadline passes, "cancel" the turn or
                "continue" it.
            agent: a configured agent's name. None: the default agent.
            timeout_s: for the turn, waits and retries included, in seconds.
        Returns: the answer; `replayed` if the turn was answered before.
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
        return await self._unary(call)

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
    ) -> AsyncGenerator[pb.StreamChatResponse, None]:
        """Make one turn and iterate over its answer as it comes.

        The client resumes a lost stream by itself, under the same request id and behind the last
        piece seen, on any worker.

        Args:
            message: 1 to 262,144 bytes of UTF-8, not only white space. A server may be configured
                for another maximum.
            conversation_id: the conversation to continue. None: a new one.
            request_id: the turn's key, 1 to 128 of [A-Za-z0-9._:-]. None: a new UUID, which errors
                show. Pass a stored one to repeat the turn after a crash of the caller.
            allow_missing: create the conversation under `conversation_id` if it does not exist.
            expected_sequence: refuse the turn unless this is the conversation's last sequence; 0:
                unless it is new or empty. None: do not check.
            on_busy: while another turn of the conversation is open, "reject" this one or "wait" for
                the other's end.
            on_disconnect: when this call is lost or its deadline passes, "cancel" the turn or
                "continue" it.
            agent: a configured agent's name. None: the default agent.
            timeout_s: for the turn, waits and retries included, in seconds.
            on_retry: called with every error after which the stream is resumed, such as to log it.
        Returns: events: `started` (the first of every call, so that it comes again after a loss),
            `chunk` (text), `tool_call` (with its result), and last `completed`, the answer as
            `chat` returns it. `completed` replaces what was gathered: the last pieces may come only
            there. An event with a higher `attempt` than before means that the agent started over,
            and voids what was gathered; with `on_disconnect="continue"` a lost connection alone
            does not cause that.
        Raises:
            ParleyError, while iterating: ConversationNotFound, TurnInProgress, SequenceMismatch,
                RequestIdReused, TurnSuperseded, AttemptsExhausted, AgentRefused, Unavailable,
                DeadlineExceeded, and what any call may raise: InvalidRequest, Unauthenticated,
                ScopeMissing, Overloaded, InternalError. What had come before is not an answer.
            ValueError, at once: an argument cannot be sent.
        Guarantees: one turn for one request id. The stream ends with `completed` or an error, at
            `timeout_s` at the latest. It gives up after 5 tries without a piece, 8 once pieces have
            come. Closing the iterator cancels the call; `on_disconnect` decides what happens to the
            turn.
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
        return self._stream(TurnStream(turn), on_retry)

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
        """Make one turn and iterate over its text as it comes.

        The client resumes a lost stream by itself, under the same request id and behind the last
        piece seen, on any worker.

        Args:
            message: 1 to 262,144 bytes of UTF-8, not only white space. A server may be configured
                for another maximum.
            conversation_id: the conversation to continue. None: a new one.
            request_id: the turn's key, 1 to 128 of [A-Za-z0-9._:-]. None: a new UUID, which errors
                show. Pass a stored one to repeat the turn after a crash of the caller.
            allow_missing: create the conversation under `conversation_id` if it does not exist.
            expected_sequence: refuse the turn unless this is the conversation's last sequence; 0:
                unless it is new or empty. None: do not check.
            on_busy: while another turn of the conversation is open, "reject" this one or "wait" for
                the other's end.
            on_disconnect: when this call is lost or its deadline passes, "cancel" the turn or
                "continue" it.
            agent: a configured agent's name. None: the default agent.
            timeout_s: for the turn, waits and retries included, in seconds.
            on_retry: called with every error after which the stream is resumed, such as to log it.
        Returns: the pieces of the text, each once, including what comes only with the answer's end.
        Raises:
            ParleyError, while iterating: AttemptLost (the agent started over, which voids the text
                so far; `chat` with the error's request id returns the answer),
                ConversationNotFound, TurnInProgress, SequenceMismatch, RequestIdReused,
                TurnSuperseded, AttemptsExhausted, AgentRefused, Unavailable, DeadlineExceeded, and
                what any call may raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded,
                InternalError. What had come before is not an answer.
            ValueError, at once: an argument cannot be sent.
        Guarantees: one turn for one request id. The text ends when the answer is stored, or with an
            error, at `timeout_s` at the latest. Closing the iterator cancels the call;
            `on_disconnect` decides what happens to the turn.
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

    async def start_turn(
        self,
        message: str,
        *,
        conversation_id: Id | None = None,
        request_id: Id | None = None,
        allow_missing: bool = False,
        expected_sequence: int | None = None,
        agent: str | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> pb.StartTurnResponse:
        """Store a turn that a worker runs later, and return at once.

        `turn` tells what became of it, `chat` and `stream` with the same arguments and request id
        wait for its answer, and `watch_turns` yields it when it ends.

        Args:
            message: 1 to 262,144 bytes of UTF-8, not only white space. A server may be configured
                for another maximum.
            conversation_id: the conversation to continue. None: a new one.
            request_id: the turn's key, 1 to 128 of [A-Za-z0-9._:-]. None: a new UUID, which `turn`
                has in the response, and which errors show. Pass a stored one to repeat the call
                after a crash of the caller.
            allow_missing: create the conversation under `conversation_id` if it does not exist.
            expected_sequence: the turn fails with SEQUENCE_MISMATCH unless this is the
                conversation's last sequence when it begins; 0: unless it is new or empty. None: do
                not check.
            agent: a configured agent's name. None: the default agent.
            timeout_s: for the call, retries included, in seconds. The turn has the server's limit.
        Returns: `turn`, queued; `replayed` if an earlier call had stored it, then `turn` is as it
            is now. A turn that has failed is queued for another attempt.
        Raises:
            ParleyError: ConversationNotFound, RequestIdReused, TurnSuperseded, SequenceMismatch,
                AttemptsExhausted, QueueFull, TurnLimitReached, BudgetExhausted, Unavailable,
                DeadlineExceeded, and what any call may raise: InvalidRequest, Unauthenticated,
                ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: one turn for one request id, however often it is sent. When it returns, the turn
            is stored and will be run, whatever happens to workers and connections. Turns of a
            conversation begin in the order in which they were accepted.
        """
        call = calls.start_turn(
            message,
            conversation_id=conversation_id,
            request_id=request_id,
            allow_missing=allow_missing,
            expected_sequence=expected_sequence,
            agent=agent,
            timeout_s=timeout_s,
        )
        return await self._unary(call)

    async def cancel_turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> conversation_pb2.Turn:
        """Stop a turn and keep its text so far as its answer, for good.

        Callers that stream the turn or wait for it get that answer. A turn that has ended does not
        change.

        Args:
            request_id: the request id that the turn was made with. Excludes the two others.
            conversation_id: the turn's conversation. Required with `turn_id`.
            turn_id: the turn's id. Required with `conversation_id`.
            timeout_s: for the call, retries included, in seconds.
        Returns: the turn: cancelled, or as it ended before. If it still runs, it was asked to stop
            and has not stopped within 2 seconds.
        Raises:
            ParleyError: TurnNotFound, Unavailable, DeadlineExceeded, and what any call may raise:
                InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        """
        call = calls.cancel_turn(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        response = await self._unary(call)
        return response.turn


async def _text_of(
    events: AsyncGenerator[pb.StreamChatResponse, None], text: TextOnly
) -> AsyncGenerator[str, None]:
    async with aclosing(events):
        async for event in events:
            if piece := text.take(event):
                yield piece
