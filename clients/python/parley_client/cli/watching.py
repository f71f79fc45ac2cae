"""Shows a conversation live, or the turns that end."""

from rich.text import Text

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.answers import Telling
from parley_client.cli.screen import Screen
from parley_client.cli.text import ago, moment_of, one_line
from parley_client.cli.words import loss_of, reason_of, state_of
from parley_client.errors import ParleyError, WatchExpired


class Losses:
    """Says that a watch is resumed: once for a loss, and not when it only expired."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._is_lost = False

    def note(self, error: ParleyError) -> None:
        """Say so, unless it was said since something came."""
        if not (self._is_lost or isinstance(error, WatchExpired)):
            self._screen.notice(f"({loss_of(error)}: reconnecting)")
        self._is_lost = True

    def end(self) -> None:
        """Take note that something has come."""
        self._is_lost = False


class Watching:
    """Shows messages, and the open turn's pieces before they become a message."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._telling: Telling | None = None
        """The answer under way, if any of it was shown."""
        self._losses = Losses(screen)
        self._is_up_to_date = False

    def take(self, update: pb.WatchConversationResponse) -> None:
        """Show one update."""
        self._losses.end()
        match update.WhichOneof("update"):
            case "message":
                self._message(update.message)
            case "turn":
                self._turn(update.turn)
            case "event":
                self._event(update.event)
            case "progress" if not self._is_up_to_date:
                self._is_up_to_date = True
                self._screen.notice("(up to date; Ctrl-C ends)")
            case "deleted":
                self._screen.notice("(the conversation was deleted)")

    def note_loss(self, error: ParleyError) -> None:
        """Say that the watch is resumed."""
        self._losses.note(error)

    def _message(self, message: parts.Message) -> None:
        telling, self._telling = self._telling, None
        if telling is not None and message.role == parts.ROLE_ASSISTANT:
            telling.complete(message.content, message.tool_calls)
            self._screen.end_message()
        else:
            self._screen.show_message(message)

    def _turn(self, turn: parts.Turn) -> None:
        if turn.state == parts.TURN_STATE_FAILED:
            self._screen.notice(f"(turn failed: {turn.error_text})")
        elif turn.state == parts.TURN_STATE_CANCELLED:
            self._screen.notice("(turn cancelled)")
        elif turn.state == parts.TURN_STATE_RUNNING:
            self._screen.notice("(being answered)")
        elif turn.state == parts.TURN_STATE_WAITING:
            names = ", ".join(one_line(call.name) for call in turn.pending_calls)
            self._screen.notice(f"(waits for its caller: {names})")

    def _event(self, event: pb.StreamChatResponse) -> None:
        if self._telling is None:
            self._telling = Telling(self._screen)
            self._screen.begin_message("agent")
        self._telling.take(event)


class FeedLines:
    """Shows a line for each turn that ended: words to a person, fields to a program."""

    def __init__(self, screen: Screen, *, has_users: bool, goes_on: bool) -> None:
        """Show nothing yet.

        Args:
            has_users: the turns are those of several users: say whose each is.
            goes_on: it does not end with what has ended: say when that has come.
        """
        self._screen = screen
        self._has_users = has_users
        self._goes_on = goes_on
        self._losses = Losses(screen)
        self._is_up_to_date = False

    def take(self, update: pb.WatchTurnsResponse) -> None:
        """Show one update."""
        self._losses.end()
        if update.HasField("turn"):
            show = self._tell if self._screen.is_terminal else self._print
            show(update.turn, one_line(update.user))
        elif self._goes_on and not self._is_up_to_date:
            self._is_up_to_date = True
            self._screen.notice("(up to date; Ctrl-C ends)")

    def note_loss(self, error: ParleyError) -> None:
        """Say that the watch is resumed."""
        self._losses.note(error)

    def _tell(self, turn: parts.Turn, user: str) -> None:
        texts = [user] if self._has_users else []
        texts += [state_of(turn)]
        texts += [ago(moment_of(turn.end_time))] if turn.HasField("end_time") else []
        texts += [f"conversation {turn.conversation_id}", f"turn {turn.turn_id}"]
        texts += [f"attempt {turn.attempt}"] if turn.attempt > 1 else []
        self._screen.show(Text(" · ".join(texts)))
        if turn.state == parts.TURN_STATE_FAILED:
            self._screen.show(Text(f"  {one_line(turn.error_text)}", style="dim"))
        for call in turn.pending_calls:
            line = f"  waits for {one_line(call.name)}({one_line(call.arguments)})"
            self._screen.show(Text(line, style="dim"))

    def _print(self, turn: parts.Turn, user: str) -> None:
        has_ended = turn.HasField("end_time")  # one that waits has not
        moment = moment_of(turn.end_time).isoformat(timespec="seconds") if has_ended else ""
        fields = [moment, state_of(turn), turn.conversation_id, turn.turn_id, str(turn.attempt)]
        fields += [reason_of(turn.error_reason)]
        fields += [user] if self._has_users else []
        self._screen.print_line("\t".join(fields))
