"""The asynchronous client: the calls that start, resume and stop turns.

`sync_turns.py` is generated from this file.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls
from parley_client.async_changes import AsyncChanges
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, Id
from parley_client.streams import OnRetry, ResumedStream


class AsyncTurns(AsyncChanges):
    """A server's turns, started for later, resumed, and stopped."""

    async def start_turn(
        self,
        message: str,
        *,
        conversation_id: Id | None = None,
        request_id: Id | None = None,
        allow_missing: bool = False,
        expected_sequence: int | None = None,
        agent: str | None = None,
        tools: Iterable[parts.Tool] = (),
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
            agent: one of `list_agents`. None: the conversation's agent, or the server's default
                agent if it has none.
            tools: tools that the caller runs itself, at most 64. When the model calls one, the turn
                waits for `resume_turn`.
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
            tools=tools,
            timeout_s=timeout_s,
        )
        return await self._unary(call)

    async def resume_turn(
        self,
        results: Iterable[pb.CallResult],
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        on_disconnect: calls.OnDisconnect = "cancel",
        timeout_s: float = CHAT_TIMEOUT_S,
    ) -> pb.ChatResponse:
        """Give a waiting turn what it waits for, and return what becomes of it.

        Args:
            results: one for each pending call, or for some of them: 1 to 64.
            request_id: the request id that the turn was made with. Excludes the two others.
            conversation_id: the turn's conversation. Required with `turn_id`.
            turn_id: the turn's id. Required with `conversation_id`.
            on_disconnect: when this call is lost or its deadline passes, "cancel" the attempt or
                "continue" it.
            timeout_s: for the rest of the turn, waits and retries included, in seconds.
        Returns: the answer, or with `finish_reason` ACTION_REQUIRED and `pending_calls` what the
            turn still waits for, or waits for again.
        Raises:
            ParleyError: TurnNotFound, ResultAlreadyGiven, CallNotPending, TurnSuperseded,
                AttemptsExhausted, AgentRefused, Unavailable, DeadlineExceeded, and what any call
                may raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: a result counts once, however often it is given. When the call returns, the
            results are stored.
        """
        call = calls.resume_turn(
            results,
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            on_disconnect=on_disconnect,
            timeout_s=timeout_s,
        )
        response = await self._unary(call)
        return response.chat

    def stream_resume_turn(
        self,
        results: Iterable[pb.CallResult],
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        on_disconnect: calls.OnDisconnect = "cancel",
        timeout_s: float = CHAT_TIMEOUT_S,
        on_retry: OnRetry | None = None,
    ) -> AsyncGenerator[pb.StreamChatResponse, None]:
        """Give a waiting turn what it waits for, and iterate over its answer as it comes.

        The client resumes a lost stream by itself, behind the last piece seen, on any worker.

        Args:
            results: one for each pending call, or for some of them: 1 to 64.
            request_id: the request id that the turn was made with. Excludes the two others.
            conversation_id: the turn's conversation. Required with `turn_id`.
            turn_id: the turn's id. Required with `conversation_id`.
            on_disconnect: when this call is lost or its deadline passes, "cancel" the attempt or
                "continue" it.
            timeout_s: for the rest of the turn, waits and retries included, in seconds.
            on_retry: called with every error after which the stream is resumed, such as to log it.
        Returns: the events of the turn, from its beginning on, as `stream` has them. `completed` is
            last: the answer, or what the turn waits for.
        Raises:
            ParleyError, while iterating: TurnNotFound, ResultAlreadyGiven, CallNotPending,
                TurnSuperseded, AttemptsExhausted, AgentRefused, Unavailable, DeadlineExceeded, and
                what any call may raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded,
                InternalError. What had come before is not an answer.
            ValueError, at once: an argument cannot be sent.
        Guarantees: a result counts once, however often it is given. The stream ends with
            `completed` or an error, at `timeout_s` at the latest. It gives up after 5 tries without
            a piece, 8 once pieces have come. Closing the iterator cancels the call; `on_disconnect`
            decides what happens to the turn.
        """
        call = calls.resume_turn(
            results,
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            on_disconnect=on_disconnect,
            timeout_s=timeout_s,
        )
        return _events_of(self._stream(ResumedStream(call), on_retry))

    async def cancel_turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> parts.Turn:
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


async def _events_of(
    responses: AsyncGenerator[pb.StreamResumeTurnResponse, None],
) -> AsyncGenerator[pb.StreamChatResponse, None]:
    async with aclosing(responses):
        async for response in responses:
            yield response.event
