"""The command that gives a waiting turn what it waits for."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.caller_tools import waits
from parley_client.calls import CHAT_TIMEOUT_S, READ_TIMEOUT_S
from parley_client.cli.failures import INTERRUPTED, WAITS, exit_codes
from parley_client.cli.options import of_a_server
from parley_client.cli.parameters import Json, Plain, ToContinue, contents_of
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.cli.text import one_line
from parley_client.cli.waiting import Waiting, decisions, pending_of, say_how_to_go_on
from parley_client.cli.waiting import resume as resumed


@of_a_server
def resume(
    server: Server,
    request_id: Annotated[
        str,
        Option("--request-id", help="The turn's request id.", show_default=False),
    ] = "",
    conversation: ToContinue = "",
    turn_id: Annotated[
        str, Option("--turn", help="The turn's id, with --conversation.", show_default=False)
    ] = "",
    approve: Annotated[
        list[str] | None,
        Option("--approve", metavar="KEY", help="Let this call run. May be given several times."),
    ] = None,
    deny: Annotated[
        list[str] | None,
        Option(
            "--deny",
            metavar="KEY[=REASON]",
            help="Do not let this call run, and tell the agent why. May be given several times.",
        ),
    ] = None,
    result: Annotated[
        list[str] | None,
        Option(
            "--result",
            metavar="KEY=TEXT|@FILE",
            help="What this call has returned; @FILE reads it from a file, @- from standard input, "
            "@@ stands for an @. May be given several times.",
        ),
    ] = None,
    error: Annotated[
        list[str] | None,
        Option(
            "--error",
            metavar="KEY=TEXT",
            help="How this call has failed. May be given several times.",
        ),
    ] = None,
    as_json: Json = False,
    plain: Plain = False,
) -> None:
    """Give a turn what it waits for, and print its answer as it comes.

    Without results, it asks about each call that needs an approval, or prints what the turn waits
    for: each call's key, what it needs, its tool and its arguments.
    """
    turn = _turn(request_id, conversation, turn_id)
    screen = Screen(plain=plain)
    timeout_s = server.timeout_s or CHAT_TIMEOUT_S
    with exit_codes(screen, server.address), server.client() as client:
        results = _results(approve, deny, result, error)
        if not results:
            found = client.turn(
                request_id=turn.request_id or None,
                conversation_id=turn.conversation_id or None,
                turn_id=turn.turn_id or None,
                timeout_s=server.timeout_s or READ_TIMEOUT_S,
            )
            if found.state != parts.TURN_STATE_WAITING:
                screen.complain("the turn does not wait for anything")
                raise typer.Exit(1)
            results = decisions(screen, pending_of(found)) if _asks(screen, as_json) else []
            if not results:
                _print_pending(screen, found, as_json=as_json)
                raise typer.Exit(WAITS)
        answered = resumed(client, screen, turn, results, timeout_s=timeout_s, is_shown=not as_json)
        if as_json:
            screen.print_json(answered.response)
        if answered.was_interrupted:
            raise typer.Exit(INTERRUPTED)
        if waits(answered.response):
            say_how_to_go_on(screen, turn, answered.response, server.command)
            raise typer.Exit(WAITS)


def _turn(request_id: str, conversation_id: str, turn_id: str) -> Waiting:
    """Return the turn that the options name. Raises: BadParameter: they name none, or two."""
    by_ids = bool(conversation_id) or bool(turn_id)
    if bool(request_id) == by_ids or bool(conversation_id) != bool(turn_id):
        raise typer.BadParameter("name the turn: --request-id, or --conversation and --turn")
    return Waiting(request_id, conversation_id, turn_id)


def _asks(screen: Screen, as_json: bool) -> bool:
    return screen.can_ask and not as_json


def _results(
    approve: list[str] | None,
    deny: list[str] | None,
    result: list[str] | None,
    error: list[str] | None,
) -> list[pb.CallResult]:
    """Return what is given. Raises: BadParameter: a key has no text, or is given twice."""
    results = [pb.CallResult(call_key=key, approval=pb.Approval()) for key in approve or ()]
    for given in deny or ():
        key, _, reason = given.partition("=")
        results.append(pb.CallResult(call_key=key, denial=pb.Denial(reason=reason)))
    for key, text in map(_pair, result or ()):
        results.append(pb.CallResult(call_key=key, result=_read(text)))
    results += [pb.CallResult(call_key=key, error=text) for key, text in map(_pair, error or ())]
    keys = [given.call_key for given in results]
    if len(set(keys)) < len(keys):
        raise typer.BadParameter("a call is given two results")
    return results


def _pair(given: str) -> tuple[str, str]:
    key, equals, text = given.partition("=")
    if not equals:
        raise typer.BadParameter(f"a result is written KEY=TEXT, which {given!r} is not")
    return key, text


def _read(text: str) -> str:
    """Return a text, or what is in the file that it names. Raises: OSError, BadParameter."""
    if not text.startswith("@") or text.startswith("@@"):
        return text.removeprefix("@")
    name = text[1:]
    try:
        return contents_of(Path(name)).decode()
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{name} is not UTF-8") from None


def _print_pending(screen: Screen, turn: parts.Turn, *, as_json: bool) -> None:
    if as_json:
        screen.print_json(turn)
        return
    for call in turn.pending_calls:
        needs = parts.PendingCallKind.Name(call.kind).removeprefix("PENDING_CALL_KIND_").lower()
        arguments = one_line(call.arguments, None)
        screen.print_line("\t".join((call.call_key, needs, one_line(call.name), arguments)))
