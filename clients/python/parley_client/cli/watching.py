"""Shows a conversation live."""

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.answers import Telling
from parley_client.cli.screen import Screen
from parley_client.errors import ParleyError, WatchExpired


class Watching:
    """Shows messages, and the open turn's pieces before they become a message."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._telling: Telling | None = None
        """The answer under way, if any of it was shown."""
        self._is_lost = False
        self._is_up_to_date = False

    def take(self, update: pb.WatchConversationResponse) -> None:
        """Show one update."""
        self._is_lost = False
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
        """Say that the watch is resumed: once for a loss, and not when it only expired."""
        if not (self._is_lost or isinstance(error, WatchExpired)):
            what = error.reason.replace("_", " ").lower() or "connection lost"
            self._screen.notice(f"({what}: reconnecting)")
        self._is_lost = True

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

    def _event(self, event: pb.StreamChatResponse) -> None:
        if self._telling is None:
            self._telling = Telling(self._screen)
            self._screen.begin_message("agent")
        self._telling.take(event)
