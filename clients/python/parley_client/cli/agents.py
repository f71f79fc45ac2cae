"""The commands that show agents: which there are, and what one was shown and did."""

from parley_client.calls import READ_TIMEOUT_S
from parley_client.cli.explaining import show_explanation
from parley_client.cli.failures import exit_codes
from parley_client.cli.named_turns import NamedTurn, TurnId, TurnsConversation, TurnsRequestId
from parley_client.cli.options import of_a_server
from parley_client.cli.parameters import Json
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.cli.tables import show_agents


@of_a_server
def agents(server: Server, as_json: Json = False) -> None:
    """Print the agents that you can name, and which of them can rehearse."""
    screen = Screen()
    with exit_codes(screen, server.address), server.client() as client:
        found = client.list_agents(timeout_s=server.timeout_s or READ_TIMEOUT_S).agents
        if as_json:
            for agent in found:
                screen.print_json(agent)
        else:
            show_agents(screen, found)


@of_a_server
def explain(
    server: Server,
    conversation: TurnsConversation = "",
    turn: TurnId = "",
    request_id: TurnsRequestId = "",
    as_json: Json = False,
) -> None:
    """Print what a turn's agent was shown and what it did.

    Of a turn without an answer: what the next attempt would be shown.
    """
    named = NamedTurn(conversation, turn, request_id)
    screen = Screen()
    timeout_s = server.timeout_s or READ_TIMEOUT_S
    with exit_codes(screen, server.address), server.client() as client:
        explained = client.explain_turn(**named.found(client, timeout_s), timeout_s=timeout_s)
        if as_json:
            screen.print_json(explained)
        else:
            show_explanation(screen, explained)
