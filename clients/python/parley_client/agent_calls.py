"""Builds requests about agents: which there are, what one was shown and did, what it would answer.

Used by both clients. Nothing here does I/O.
"""

from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import Call, Id, text_of


def list_agents(*, timeout_s: float) -> Call[pb.ListAgentsResponse]:
    """Build a ListAgents call."""
    return Call("ListAgents", pb.ListAgentsRequest(), timeout_s)


def explain_turn(
    *, conversation_id: Id | None, turn_id: Id | None, request_id: Id | None, timeout_s: float
) -> Call[pb.ExplainTurnResponse]:
    """Build an ExplainTurn call."""
    request = pb.ExplainTurnRequest(
        conversation_id=text_of(conversation_id),
        turn_id=text_of(turn_id),
        request_id=text_of(request_id),
    )
    return Call("ExplainTurn", request, timeout_s, request.request_id)


def rehearse_turn(
    *,
    conversation_id: Id | None,
    turn_id: Id | None,
    request_id: Id | None,
    agent: str | None,
    timeout_s: float,
) -> Call[pb.RehearseTurnResponse]:
    """Build a RehearseTurn call. It has no key: `request_id` only names the turn.

    Raises: ValueError: the agent's name cannot be written as UTF-8.
    """
    request = pb.RehearseTurnRequest(
        conversation_id=text_of(conversation_id),
        turn_id=text_of(turn_id),
        request_id=text_of(request_id),
        agent=agent or "",
    )
    return Call("RehearseTurn", request, timeout_s)
