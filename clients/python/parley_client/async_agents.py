"""What the asynchronous client asks about agents: their names, their turns, and rehearsals.

`sync_agents.py` is generated from this file.
"""

from collections.abc import AsyncGenerator

from parley.v1 import conversation_service_pb2 as pb
from parley_client import agent_calls
from parley_client.async_reads import AsyncReads
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S, Id
from parley_client.streams import OnRetry, RehearsalStream


class AsyncAgents(AsyncReads):
    """The calls that show agents, and compare them. They change nothing."""

    async def list_agents(self, *, timeout_s: float = READ_TIMEOUT_S) -> pb.ListAgentsResponse:
        """Return the agents that a caller can name.

        Args:
            timeout_s: for the call, retries included, in seconds.
        Returns: `agents`, by name: at least one, and exactly one of them `is_default`.
        Raises:
            ParleyError: Unavailable, DeadlineExceeded, and what any call may raise: InvalidRequest,
                Unauthenticated, ScopeMissing, Overloaded, InternalError.
        """
        return await self._unary(agent_calls.list_agents(timeout_s=timeout_s))

    async def explain_turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> pb.ExplainTurnResponse:
        """Return what a turn's agent was shown and what it did.

        Args:
            request_id: the request id that the turn was made with. Excludes the two others.
            conversation_id: the turn's conversation. Required with `turn_id`.
            turn_id: the turn's id. Required with `conversation_id`.
            timeout_s: for the call, retries included, in seconds.
        Returns: the `turn`, the `messages` that the agent was shown, those that were `omitted` and
            why, the digest of its instructions, its `tool_calls` and the `attempts`. Of a turn
            without an answer: what the next attempt would be shown.
        Raises:
            ParleyError: TurnNotFound, Unavailable, DeadlineExceeded, and what any call may raise:
                InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        """
        call = agent_calls.explain_turn(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return await self._unary(call)

    def rehearse_turn(
        self,
        *,
        request_id: Id | None = None,
        conversation_id: Id | None = None,
        turn_id: Id | None = None,
        agent: str | None = None,
        timeout_s: float = CHAT_TIMEOUT_S,
        on_retry: OnRetry | None = None,
    ) -> AsyncGenerator[pb.RehearseTurnResponse, None]:
        """Give a turn's window and message to an agent again, and iterate over what it answers.

        Nothing is stored, and no tool is run: a call that the turn itself made, with the same
        arguments, gets the result that it got then, any other one an error.

        Args:
            request_id: the request id that the turn was made with. Excludes the two others.
            conversation_id: the turn's conversation. Required with `turn_id`.
            turn_id: the turn's id. Required with `conversation_id`.
            agent: the agent to ask, one of `list_agents` that can rehearse. None: the turn's own.
            timeout_s: for the rehearsal, retries included, in seconds.
            on_retry: called with every error after which the rehearsal begins again, such as to
                log it.
        Returns: events: `started` (the first), `chunk` (text), `tool_call` (with its result), and
            last `completed`: the whole answer, with its tokens.
        Raises:
            ParleyError, while iterating: TurnNotFound, AgentUnknown, WindowIncomplete, NoRehearsal,
                AgentRefused, TurnLimitReached, BudgetExhausted, Unavailable, DeadlineExceeded, and
                what any call may raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded,
                InternalError. What had come before is not an answer.
            ValueError, at once: an argument cannot be sent.
        Guarantees: the stream ends with `completed` or an error, at `timeout_s` at the latest. It
            is tried up to 5 times before an event has come. Once one has, a lost rehearsal is not
            begun again: it would use the tokens again, and answer differently. Closing the iterator
            ends it.
        """
        call = agent_calls.rehearse_turn(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request_id=request_id,
            agent=agent,
            timeout_s=timeout_s,
        )
        return self._stream(RehearsalStream(call), on_retry)
