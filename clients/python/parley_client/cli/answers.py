"""An answer as it comes: asked for, shown piece by piece, made whole at its end."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import new_request_id
from parley_client.cli.interrupts import CancelOnInterrupt, keys_held_back
from parley_client.cli.screen import Screen
from parley_client.errors import ParleyError
from parley_client.sync_client import ParleyClient


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and under which request id, however often."""

    message: str
    conversation_id: str = ""
    request_id: str = field(default_factory=new_request_id)
    agent: str = ""
    is_new: bool = False
    """The conversation may have to be created under its id."""
    waits: bool = False
    """While the conversation is busy, wait for its turn to end."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and whether Ctrl-C cut it short."""

    response: pb.ChatResponse
    was_interrupted: bool


def ask(
    client: ParleyClient,
    screen: Screen,
    question: Question,
    *,
    timeout_s: float,
    is_shown: bool = True,
) -> Answered:
    """Ask, and show the answer as it comes. Ctrl-C cancels the turn and keeps what was said.

    The agent goes on while a lost connection is made again: the same text goes on, too.

    Raises: ParleyError. KeyboardInterrupt: nothing was kept, or nobody waits for it.
    """
    telling = Telling(screen)
    events = client.stream(
        question.message,
        conversation_id=question.conversation_id,
        request_id=question.request_id,
        allow_missing=question.is_new,
        on_busy="wait" if question.waits else "reject",
        on_disconnect="continue",
        agent=question.agent,
        timeout_s=timeout_s,
        on_retry=telling.lost,
    )
    response = pb.ChatResponse()
    with (
        closing(events),
        keys_held_back(),
        screen.waiting(),
        CancelOnInterrupt(client, question.request_id) as interrupt,
    ):
        for event in events:
            if is_shown:
                telling.take(event)
            response = event.completed
    return Answered(response, interrupt.was_pressed)


class Telling:
    """Shows the pieces of one answer, each once."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._attempt = 0
        self._text = ""
        self._call_ids: set[str] = set()
        self._is_lost = False

    @property
    def has_begun(self) -> bool:
        """Whether anything of it is on the screen."""
        return bool(self._text or self._call_ids)

    def take(self, event: pb.StreamChatResponse) -> None:
        """Show what an event adds."""
        self._is_lost = False
        if event.HasField("completed"):
            self.complete(event.completed.response, event.completed.tool_calls)
            self._screen.finish_reason(event.completed.finish_reason)
            if event.completed.HasField("usage"):
                self._screen.usage(event.completed.usage)
            return
        if event.HasField("index"):
            self._begin(event.attempt)
        if event.HasField("chunk"):
            self._say(event.chunk.text)
        if event.HasField("tool_call"):
            self._call(event.tool_call)

    def complete(self, text: str, tool_calls: Iterable[parts.ToolCall]) -> None:
        """Show what is still missing of the whole answer, and end its line."""
        tool_calls = list(tool_calls)
        whole_ids = {call.id for call in tool_calls}
        if not (text.startswith(self._text) and self._call_ids <= whole_ids):
            self._begin_anew()
        for call in tool_calls:
            self._call(call)
        self._say(text[len(self._text) :])
        self._screen.end_text()

    def lost(self, error: ParleyError) -> None:
        """Say that the answer is interrupted and asked for again: once, and if a person saw it."""
        if self.has_begun and not self._is_lost:
            what = error.reason.replace("_", " ").lower() or "connection lost"
            self._screen.notice(f"({what}: attaching again)")
        self._is_lost = True

    def _begin(self, attempt: int) -> None:
        if attempt != self._attempt and self.has_begun:
            self._begin_anew()
        self._attempt = attempt

    def _begin_anew(self) -> None:
        self._screen.begin_anew(has_text=bool(self._text))
        self._text = ""
        self._call_ids.clear()

    def _say(self, text: str) -> None:
        self._text += text
        self._screen.text(text)

    def _call(self, call: parts.ToolCall) -> None:
        if call.id not in self._call_ids:
            self._call_ids.add(call.id)
            self._screen.tool_call(call)
