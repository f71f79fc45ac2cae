"""The agents that callers can name, as they are told: no settings of theirs, no secrets."""

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.attempts.roster import NamedAgent, Roster


def agents(roster: Roster) -> pb.ListAgentsResponse:
    """Return the agents, by name."""
    default = roster.default
    found = sorted(roster, key=lambda named: named.name)
    return pb.ListAgentsResponse(agents=[_agent(named, default) for named in found])


def _agent(named: NamedAgent, default: NamedAgent) -> pb.Agent:
    return pb.Agent(
        name=named.name,
        description=named.description,
        is_default=named.name == default.name,
        can_rehearse=named.can_rehearse,
    )
