# Generated from async_client.py by tools/async_to_sync.py. Do not edit: run `make gen`.
"""The synchronous client: the calls that wait for answers."""

from collections.abc import Generator, Iterable
from contextlib import closing

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls
from parley_client.caller_tools import Results, Tools, waits
from parley_client.calls import CHAT_TIMEOUT_S, Id
from parley_client.errors import CallNotPending, ResultAlreadyGiven
from parley_client.streams import OnRetry, TextOnly, TurnStream
from parley_client.sync_tools import Approve, decide_calls, run_calls, toolbox_of
from parley_client.sync_turns import Turns


class ParleyClient(Turns):
    """Parley, for a caller without an event loop.

        with ParleyClient("parley.internal:443", token=fetch_token) as parley:
            answer = parley.chat("Hello!")
            answer = parley.chat("And?", conversation_id=answer.conversation_id)

    One client serves a whole process: it keeps one channel, opened at its first call, so that it
    may be made before a fork. Any number of threads may use it.

    Calls return the contract's own messages and fail with a `ParleyError`. The client retries while
    a server is unreachable or a worker is lost, under the call's deadline and with the same request
    id. Ctrl-C while a call waits cancels it.
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
        tools: Iterable[parts.Tool] = (),
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
            on_busy: while another turn of the conversation is open, "reject" this one, "wait" for
                the other's end, or "replace" it if it waits for its caller.
            on_disconnect: when this call is lost or its deadline passes, "cancel" the turn or
                "continue" it.
            agent: one of `list_agents`. None: the conversation's agent, or the server's default
                agent if it has none.
            tools: tools that the caller runs itself, at most 64. When the model calls one, the turn
                waits for `resume_turn`.
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
            tools=tools,
            timeout_s=timeout_s,
        )
        return self._unary(call)

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
        tools: Iterable[parts.Tool] = (),
        timeout_s: float = CHAT_TIMEOUT_S,
        on_retry: OnRetry | None = None,
    ) -> Generator[pb.StreamChatResponse, None, None]:
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
            on_busy: while another turn of the conversation is open, "reject" this one, "wait" for
                the other's end, or "replace" it if it waits for its caller.
            on_disconnect: when this call is lost or its deadline passes, "cancel" the turn or
                "continue" it.
            agent: one of `list_agents`. None: the conversation's agent, or the server's default
                agent if it has none.
            tools: tools that the caller runs itself, at most 64. When the model calls one, the turn
                waits for `resume_turn`.
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
            tools=tools,
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
    ) -> Generator[str, None, None]:
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
            on_busy: while another turn of the conversation is open, "reject" this one, "wait" for
                the other's end, or "replace" it if it waits for its caller.
            on_disconnect: when this call is lost or its deadline passes, "cancel" the turn or
                "continue" it.
            agent: one of `list_agents`. None: the conversation's agent, or the server's default
                agent if it has none.
            timeout_s: for the turn, waits and retries included, in seconds.
            on_retry: called with every error after which the stream is resumed, such as to log it.
        Returns: the pieces of the text, each once, including what comes only with the answer's end.
        Raises:
            ParleyError, while iterating: AttemptLost (the agent started over, which voids the text
                so far; `chat` with the error's request id returns the answer), ActionRequired (the
                turn waits for `resume_turn`), ConversationNotFound, TurnInProgress,
                SequenceMismatch, RequestIdReused, TurnSuperseded, AttemptsExhausted, AgentRefused,
                Unavailable, DeadlineExceeded, and what any call may raise: InvalidRequest,
                Unauthenticated, ScopeMissing, Overloaded, InternalError. What had come before is
                not an answer.
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

    def run_with_tools(
        self,
        message: str,
        tools: Tools,
        *,
        approve: Approve | None = None,
        conversation_id: Id | None = None,
        request_id: Id | None = None,
        allow_missing: bool = False,
        expected_sequence: int | None = None,
        on_busy: calls.OnBusy = "reject",
        on_disconnect: calls.OnDisconnect = "cancel",
        agent: str | None = None,
        timeout_s: float = CHAT_TIMEOUT_S,
    ) -> pb.ChatResponse:
        """Make one turn with the caller's own functions as tools, and return its answer.

        Runs the functions that the model calls, those of one step at the same time, gives the turn
        their results, and goes on until there is an answer. A function that raises has failed: the
        model is told the exception's type, or the text of a `ToolFailed`.

        Args:
            message: 1 to 262,144 bytes of UTF-8, not only white space. A server may be configured
                for another maximum.
            tools: functions, or what `tool` has made of them. One with a parameter `call_key` gets
                the key of the call, which is the same however often the call is run.
            approve: asked about each call of the server's tools that needs an approval: returns
                True, False, or the reason of a denial. None: they are denied.
            conversation_id: the conversation to continue. None: a new one.
            request_id: the turn's key, 1 to 128 of [A-Za-z0-9._:-]. None: a new UUID, which errors
                show. Pass a stored one, with the same tools, to go on after a crash of the caller.
            allow_missing: create the conversation under `conversation_id` if it does not exist.
            expected_sequence: refuse the turn unless this is the conversation's last sequence; 0:
                unless it is new or empty. None: do not check.
            on_busy: while another turn of the conversation is open, "reject" this one, "wait" for
                the other's end, or "replace" it if it waits for its caller.
            on_disconnect: when a call is lost or its deadline passes, "cancel" the attempt or
                "continue" it.
            agent: one of `list_agents`. None: the conversation's agent, or the server's default
                agent if it has none.
            timeout_s: for each call to the server, waits and retries included, in seconds.
        Returns: the answer; `replayed` if the turn was answered before. A turn that waits only for
            what this client does not know, such as a newer kind of call, is returned as it waits.
        Raises:
            ParleyError: as `chat` and `resume_turn`. The turn then waits or has failed; the same
                call with `error.request_id` goes on with it.
            ValueError: an argument cannot be sent, or no schema can be made of a function.
        Guarantees: a result that was given is not asked for again, whatever happens to this
            process. A call whose result was not given yet may run again, under the same key.
        """
        toolbox = toolbox_of(tools)
        key = str(request_id or calls.new_request_id())
        turn = calls.chat(
            message,
            conversation_id=conversation_id,
            request_id=key,
            allow_missing=allow_missing,
            expected_sequence=expected_sequence,
            on_busy=on_busy,
            on_disconnect=on_disconnect,
            agent=agent,
            tools=toolbox.definitions,
            timeout_s=timeout_s,
        )
        closings = self._transport.closings
        answer = self._unary(turn, closings)
        results = Results()
        while waits(answer):
            results.add(run_calls(toolbox, results.to_run(answer)))
            if not results.of(answer):  # what the caller runs is given before anybody is asked
                results.add(decide_calls(approve, results.to_decide(answer)))
            if not results.of(answer):  # a newer server's kinds of calls stay pending
                return answer
            resumption = calls.resume_turn(
                results.of(answer),
                conversation_id=None,
                turn_id=None,
                request_id=key,
                on_disconnect=on_disconnect,
                timeout_s=timeout_s,
            )
            try:
                resumed = self._unary(resumption, closings)
                answer = resumed.chat
            except (ResultAlreadyGiven, CallNotPending):  # somebody else gave some, or ended it
                before, answer = answer, self._unary(turn, closings)
                if before.pending_calls == answer.pending_calls:
                    raise
        return answer


def _text_of(
    events: Generator[pb.StreamChatResponse, None, None], text: TextOnly
) -> Generator[str, None, None]:
    with closing(events):
        for event in events:
            if piece := text.take(event):
                yield piece
            text.check_end(event)
