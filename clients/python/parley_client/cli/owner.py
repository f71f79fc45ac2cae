"""The commands for all that a user has: what it used, and its erasure."""

import time
from typing import Annotated

import typer
from typer import Option

from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import READ_TIMEOUT_S, new_request_id
from parley_client.cli.failures import INTERRUPTED, exit_codes
from parley_client.cli.options import of_a_server
from parley_client.cli.parameters import Json, labels_from
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.cli.tables import show_usage
from parley_client.cli.text import counted, moment_of
from parley_client.conversation_calls import CHANGE_TIMEOUT_S, ERASURE_PAUSE_S
from parley_client.errors import DeadlineExceeded
from parley_client.sync_client import ParleyClient

MAX_LATE = 10
"""How many calls in a row may end without an answer: the server may be silent for good."""
ERASE = "erase"
"""What a person types to agree, unless it is another user's name."""


@of_a_server
def usage(
    server: Server,
    start: Annotated[
        str,
        Option(
            "--from",
            metavar="DATE",
            help="The first day, such as 2026-11-28, in UTC.",
            show_default="30 days before the last",
        ),
    ] = "",
    end: Annotated[
        str, Option("--to", metavar="DATE", help="The last day, included.", show_default="today")
    ] = "",
    by_agent: Annotated[bool, Option("--by-agent", help="A line for each agent.")] = False,
    by_label: Annotated[
        str,
        Option(
            "--by-label",
            metavar="KEY",
            help="A line for each value of a label.",
            show_default=False,
        ),
    ] = "",
    labels: Annotated[
        list[str] | None,
        Option(
            "--label",
            metavar="KEY=VALUE",
            help="Only conversations with this label. May be given several times.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what your turns used, day by day."""
    screen = Screen()
    wanted_labels = labels_from(labels)
    with exit_codes(screen, server.address), server.client() as client:
        used = client.usage(
            start_date=start,
            end_date=end,
            by_agent=by_agent,
            by_label=by_label,
            labels=wanted_labels,
            timeout_s=server.timeout_s or READ_TIMEOUT_S,
        )
        if as_json:
            for row in used.rows:
                screen.print_json(row)
        else:
            show_usage(screen, used.rows, by_agent=by_agent, label=by_label)


@of_a_server
def erase(
    server: Server,
    yes: Annotated[bool, Option("--yes", help="Do not ask. Required without a terminal.")] = False,
    request_id: Annotated[
        str,
        Option(
            "--request-id",
            help="Wait for the erasure of this id, and show its receipt, instead of beginning one.",
            show_default=False,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Erase all your conversations with everything that was said in them, for good.

    The token has to name the scope parley.erase.
    """
    screen = Screen()
    if not yes and not screen.can_ask:
        raise typer.BadParameter(
            "there is no terminal to ask on: use --yes to erase without a question"
        )
    whose = (
        f"everything of the user {server.for_user}" if server.for_user else "everything you have"
    )
    word = server.for_user or ERASE
    if not yes and not screen.ask_for(word, f"Erase {whose} at {server.address}, for good?"):
        screen.hint("Not erased.")
        raise typer.Exit(1)
    key = request_id or new_request_id()
    with exit_codes(screen, server.address), server.client() as client:
        try:
            receipt = _erase(client, screen, key, server.timeout_s or CHANGE_TIMEOUT_S)
        except KeyboardInterrupt:
            screen.complain(
                "interrupted; the erasure goes on",
                f"Its receipt: {_again(server, key)}",
            )
            raise typer.Exit(INTERRUPTED) from None
        if as_json:
            screen.print_json(receipt)
        else:
            _show_receipt(screen, receipt, key, _again(server, key))


def _erase(
    client: ParleyClient, screen: Screen, key: str, timeout_s: float
) -> pb.EraseOwnerResponse:
    """Erase all, and wait until it is removed; show meanwhile how much was.

    Raises: DeadlineExceeded: the server answers none of MAX_LATE calls. Other ParleyErrors.
    """
    late = 0
    with screen.counting() as show:
        show("erasing", 0)
        while True:
            try:
                receipt = client.erase_owner(key, timeout_s=timeout_s)
            except DeadlineExceeded:
                late += 1
                if late == MAX_LATE:
                    raise
                continue  # it goes on where it was
            late = 0
            show(f"erasing: {_counts(receipt)}", receipt.messages)
            if receipt.state == pb.ERASURE_STATE_DONE:
                return receipt
            time.sleep(ERASURE_PAUSE_S)


def _again(server: Server, key: str) -> str:
    """Return the command that shows a receipt again; for another user it would erase anew."""
    return server.command("erase", "--yes", "--request-id", key)


def _show_receipt(screen: Screen, receipt: pb.EraseOwnerResponse, key: str, again: str) -> None:
    ended = moment_of(receipt.end_time).isoformat(timespec="seconds")
    if screen.is_terminal:
        screen.print_line(f"Erased {_counts(receipt)} by {ended}.")
        screen.hint(f"This receipt again: {again}")
    else:
        numbers = (receipt.conversations, receipt.messages, receipt.turns)
        screen.print_line("\t".join((key, ended, *map(str, numbers))))


def _counts(receipt: pb.EraseOwnerResponse) -> str:
    numbers = (
        (receipt.conversations, "conversation"),
        (receipt.messages, "message"),
        (receipt.turns, "turn"),
    )
    return ", ".join(counted(count, unit) for count, unit in numbers)
