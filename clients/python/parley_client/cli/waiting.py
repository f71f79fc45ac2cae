"""What a turn waits for: asks a person to approve it, or says how to go on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.caller_tools import decided, waits
from parley_client.cli.answers import Answer, Question, Telling, ask, shown
from parley_client.cli.interrupts import CancelOnInterrupt, discard_typed
from parley_client.cli.screen import Screen
from parley_client.cli.text import one_line
from parley_client.errors import CallNotPending, ResultAlreadyGiven
from parley_client.sync_client import ParleyClient

MAX_REASON_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn to resume: by the request id that it was made with, or by its ids."""

    request_id: str = ""
    conversation_id: str = ""
    turn_id: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """The options with which `parley resume` finds it."""
        if self.request_id:
            return "--request-id", self.request_id
        return "--conversation", self.conversation_id, "--turn", self.turn_id


def ask_and_decide(
    client: ParleyClient,
    screen: Screen,
    question: Question,
    *,
    timeout_s: float,
    is_shown: bool = True,
    can_ask: bool = True,
) -> Answer:
    """Ask, and show the answer; let a person decide about each call that needs an approval.

    Returns: the answer, or what the turn waits for, if nobody is there to decide, or Ctrl-C or
        Ctrl-D puts the decision off.
    Raises: ParleyError. KeyboardInterrupt: as `ask`.
    """
    telling = Telling(screen)
    answered = ask(
        client, screen, question, timeout_s=timeout_s, telling=telling, is_shown=is_shown
    )
    while can_ask and screen.can_ask:
        try:
            results = decisions(screen, answered.response)
        except KeyboardInterrupt:
            return answered  # to be decided later
        if not results:
            return answered
        telling.go_on()
        turn = Waiting(request_id=question.request_id)
        try:
            answered = resume(client, screen, turn, results, timeout_s=timeout_s, telling=telling)
        except (ResultAlreadyGiven, CallNotPending):
            screen.notice("(somebody else has decided)")
            answered = ask(client, screen, question, timeout_s=timeout_s, telling=telling)
    return answered


def resume(
    client: ParleyClient,
    screen: Screen,
    turn: Waiting,
    results: Sequence[pb.CallResult],
    *,
    timeout_s: float,
    telling: Telling | None = None,
    is_shown: bool = True,
) -> Answer:
    """Give a turn what it waits for, and show its answer as it comes.

    Ctrl-C cancels a turn that is known by its request id, and leaves any other one alone.

    Raises: ParleyError. KeyboardInterrupt.
    """
    telling = telling or Telling(screen)
    events = client.stream_resume_turn(
        results,
        request_id=turn.request_id or None,
        conversation_id=turn.conversation_id or None,
        turn_id=turn.turn_id or None,
        on_disconnect="continue",
        timeout_s=timeout_s,
        on_retry=telling.note_loss,
    )
    if not turn.request_id:
        return Answer(shown(screen, telling, events, is_shown=is_shown), was_interrupted=False)
    with CancelOnInterrupt(client, turn.request_id) as interrupt:
        response = shown(screen, telling, events, is_shown=is_shown)
    return Answer(response, interrupt.was_pressed)


def decisions(screen: Screen, response: pb.ChatResponse) -> list[pb.CallResult]:
    """Ask a person about each call that needs an approval.

    Raises: KeyboardInterrupt: the person wants to decide later.
    """
    return [decided(call, _decision(screen, call)) for call in _to_approve(response)]


def say_how_to_go_on(
    screen: Screen, turn: Waiting, response: pb.ChatResponse, command: Callable[..., str]
) -> None:
    """Say what a turn waits for, and which command gives it that.

    Args:
        command: returns a command for the same server from its words.
    """
    lines = []
    for call in response.pending_calls:
        is_approval = call.kind == parts.PENDING_CALL_KIND_APPROVAL
        needs = "an approval" if is_approval else "a result"
        # On one line: the model wrote it, and could write a command below it.
        lines.append(f"{one_line(call.name)} needs {needs}: {one_line(call.arguments, None)}")
        key = call.call_key
        option = ("--approve", key) if is_approval else ("--result", f"{key}=TEXT")
        how = command("resume", *turn.options, *option)
        lines.append(f"  {how}{f' or --deny {key}' if is_approval else ''}")
    screen.complain("the turn waits, and nothing has been decided", *lines)


def pending_of(turn: parts.Turn) -> pb.ChatResponse:
    """Return what a turn waits for, as an answer says it."""
    return pb.ChatResponse(
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        finish_reason=parts.FINISH_REASON_ACTION_REQUIRED,
        pending_calls=turn.pending_calls,
    )


def _to_approve(response: pb.ChatResponse) -> list[parts.PendingCall]:
    if not waits(response):
        return []
    approval = parts.PENDING_CALL_KIND_APPROVAL
    return [call for call in response.pending_calls if call.kind == approval]


def _decision(screen: Screen, call: parts.PendingCall) -> bool | str:
    discard_typed()  # what was typed before the question is no answer to it
    screen.show_request(call)
    if screen.ask_or_leave("Let it run? [y/N]").lower() in ("y", "yes"):
        return True
    reason = screen.ask_or_leave("Why not? (Enter: no reason)")
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore") or False
