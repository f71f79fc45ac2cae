"""ExplainTurnRequests and RehearseTurnRequests to questions for the core."""

from collections.abc import Container

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentUnknown
from parley_server.core.model import RehearsalRequest, TurnRef
from parley_server.rpc.requests import turn_named
from parley_server.rpc.violations import Violations


def explain(request: pb.ExplainTurnRequest) -> TurnRef:
    """Read which turn is to be explained.

    Raises: InvalidRequest.
    """
    violations = Violations()
    named = turn_named(request, violations)
    violations.raise_any()
    return named


def rehearse(request: pb.RehearseTurnRequest, agents: Container[str]) -> RehearsalRequest:
    """Read which turn is to be rehearsed, and by whom.

    Args:
        agents: the names that a caller may ask for.
    Raises: InvalidRequest; alone: AgentUnknown.
    """
    violations = Violations()
    named = turn_named(request, violations)
    if request.agent not in agents:
        violations.add_error(AgentUnknown())
    violations.raise_any()
    return RehearsalRequest(named, request.agent)
