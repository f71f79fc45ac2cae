"""The command that compares agents: what others would answer where one has answered."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.text import Text
from typer import Option

from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S
from parley_client.cli.completion import complete_agent
from parley_client.cli.failures import exit_codes, row_of, sentences
from parley_client.cli.interrupts import keys_held_back
from parley_client.cli.named_turns import NamedTurn, TurnId, TurnsConversation, TurnsRequestId
from parley_client.cli.options import of_a_server
from parley_client.cli.parameters import Json, Plain
from parley_client.cli.replies import Reply, rehearsed, stored_reply
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.cli.side_by_side import NARROWEST, SideBySide, width_of


@of_a_server
def rehearse(
    server: Server,
    conversation: TurnsConversation = "",
    turn: TurnId = "",
    request_id: TurnsRequestId = "",
    agents: Annotated[
        list[str] | None,
        Option(
            "--agent",
            help="An agent to ask, one of `parley agents` that rehearses. May be given several "
            "times.",
            show_default="the turn's own",
            autocompletion=complete_agent,
        ),
    ] = None,
    as_json: Json = False,
    plain: Plain = False,
) -> None:
    """Let agents answer a turn again, beside its stored answer; nothing is stored, no tool is run.

    The agents answer at the same time. Ctrl-C ends the rehearsals.
    """
    named = NamedTurn(conversation, turn, request_id)
    screen = Screen(plain=plain)
    timeout_s = server.timeout_s or READ_TIMEOUT_S
    with exit_codes(screen, server.address), server.client() as client:
        name = named.found(client, timeout_s)
        found = client.turn(**name, timeout_s=timeout_s)
        stored = stored_reply(client, found, timeout_s)
        asked = agents or [""]
        replies = [Reply(agent or found.agent) for agent in asked]

        def begin(agent: str) -> Iterator[pb.RehearseTurnResponse]:
            return client.rehearse_turn(
                **name, agent=agent, timeout_s=server.timeout_s or CHAT_TIMEOUT_S
            )

        show = _print_json if as_json else _show
        show(screen, stored, replies, rehearsed(begin, asked, replies))
        _complain(screen, replies, server.address)


def _show(screen: Screen, stored: Reply, replies: Sequence[Reply], coming: Iterator[None]) -> None:
    columns = [stored, *replies]
    with keys_held_back():
        if screen.is_smart and width_of(len(columns), screen.width) >= NARROWEST:
            answers = SideBySide(columns, is_markdown=screen.is_markdown)
            with screen.redrawing(answers.draw):
                for _ in coming:
                    pass
        else:
            for reply in columns:
                _tell(screen, reply, coming)


def _tell(screen: Screen, reply: Reply, coming: Iterator[None]) -> None:
    """Show an answer as it comes, below the ones before it. The others come meanwhile."""
    calls, said = 0, ""
    with screen.waiting():
        while not (reply.has_ended or reply.text or reply.tool_calls):
            next(coming)  # with it comes the agent's name
        screen.begin_message(reply.title)
        while True:
            for call in reply.tool_calls[calls:]:
                screen.show_tool_call(call)
            screen.show_text(reply.text[len(said) :])
            calls, said = len(reply.tool_calls), reply.text
            if reply.has_ended:
                break
            next(coming)
    if said:
        screen.end_text()
    if reply.ending:
        screen.show(Text(reply.ending, style="dim"))
    screen.end_message()


def _print_json(
    screen: Screen, stored: Reply, replies: Sequence[Reply], coming: Iterator[None]
) -> None:
    for reply in (stored, *replies):
        while not reply.has_ended:
            next(coming)
        screen.print_line(reply.as_json)


def _complain(screen: Screen, replies: Sequence[Reply], address: str) -> None:
    """Say which rehearsals have failed, and what to do. Raises: Exit: one has."""
    failed = [(reply.agent, reply.error) for reply in replies if reply.error is not None]
    for agent, error in failed:
        first, *advice = sentences(error, address)
        screen.complain(f"{agent}: {first}" if agent else first, *advice)
    if failed:
        raise typer.Exit(row_of(failed[0][1]).exit_code)
