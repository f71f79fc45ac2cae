"""Asks a question and shows the answer as it comes."""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.caller_tools import waits
from parley_client.calls import new_request_id
from parley_client.cli.interrupts import CancelOnInterrupt, keys_held_back
from parley_client.cli.screen import Screen
from parley_client.cli.words import loss_of
from parley_client.errors import ParleyError
from parley_client.sync_client import ParleyClient


@dataclass(frozen=True, slots=True)
class Question:
    """A message to send, under one request id however often it is sent."""

    message: str
    conversation_id: str = ""
    request_id: str = field(default_factory=new_request_id)
    agent: str = ""
    is_new: bool = False
    """The conversation may have to be created under its id."""
    waits: bool = False
    """While the conversation is busy, wait for its turn to end."""
    replaces: bool = False
    """If the conversation's turn waits for its caller, take its place."""

    @property
    def on_busy(self) -> Literal["reject", "wait", "replace"]:
        if self.replaces:
            return "replace"
        return "wait" if self.waits else "reject"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and whether Ctrl-C cut it short."""

    response: pb.ChatResponse
    was_interrupted: bool


def ask(
    client: ParleyClient,
    screen: Screen,
    question: Question,
    *,
    timeout_s: float,
    telling: "Telling | None" = None,
    is_shown: bool = True,
) -> Answer:
    """Ask, and show the answer as it comes. Ctrl-C cancels the turn and keeps its text so far.

    Raises: ParleyError. KeyboardInterrupt: no part of the answer was kept, or a second Ctrl-C ended
        the wait for it.
    """
    with CancelOnInterrupt(client, question.request_id) as interrupt:
        response = follow(
            client, screen, question, timeout_s=timeout_s, telling=telling, is_shown=is_shown
        )
    return Answer(response, interrupt.was_pressed)


def follow(
    client: ParleyClient,
    screen: Screen,
    question: Question,
    *,
    timeout_s: float,
    telling: "Telling | None" = None,
    is_shown: bool = True,
) -> pb.ChatResponse:
    """Ask, and show the answer as it comes. Ctrl-C leaves, and the turn goes on.

    The agent continues while a lost connection is made again, and so does the text.

    Raises: ParleyError. KeyboardInterrupt.
    """
    telling = telling or Telling(screen)
    events = client.stream(
        question.message,
        conversation_id=question.conversation_id,
        request_id=question.request_id,
        allow_missing=question.is_new,
        on_busy=question.on_busy,
        on_disconnect="continue",
        agent=question.agent,
        timeout_s=timeout_s,
        on_retry=telling.note_loss,
    )
    return shown(screen, telling, events, is_shown=is_shown)


def shown(
    screen: Screen,
    telling: "Telling",
    events: Generator[pb.StreamChatResponse, None, None],
    *,
    is_shown: bool,
) -> pb.ChatResponse:
    """Show a turn's events as they come, and return what they end with. Raises: ParleyError."""
    response = pb.ChatResponse()
    with closing(events), keys_held_back(), screen.waiting():
        for event in events:
            if is_shown:
                telling.take(event)
            response = event.completed
    return response


class Telling:
    """Shows the pieces of one answer, each once."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._attempt = 0
        self._text = ""
        self._told = ""
        """The text that was shown before the turn waited, as far as it has not come again."""
        self._call_ids: set[str] = set()
        self._is_lost = False

    @property
    def has_begun(self) -> bool:
        """Whether any of the answer is on the screen."""
        return bool(self._text or self._told or self._call_ids)

    def go_on(self) -> None:
        """Expect the turn once more from its beginning, by another attempt: it was resumed."""
        self._told, self._text, self._attempt = self._told or self._text, "", 0

    def take(self, event: pb.StreamChatResponse) -> None:
        """Show what an event adds."""
        self._is_lost = False
        if event.HasField("completed"):
            answer = event.completed
            says_something = bool(answer.response) or not waits(answer)
            self.complete(answer.response, answer.tool_calls, ends=says_something)
            self._screen.show_finish_reason(event.completed.finish_reason)
            if event.completed.HasField("usage") and not waits(event.completed):
                self._screen.show_usage(event.completed.usage)
            return
        if event.HasField("index"):
            self._begin(event.attempt)
        if event.HasField("chunk"):
            self._show_text(event.chunk.text)
        if event.HasField("tool_call"):
            self._show_call(event.tool_call)

    def complete(
        self, text: str, tool_calls: Iterable[parts.ToolCall], *, ends: bool = True
    ) -> None:
        """Show what is missing of the whole answer, and end its line, if it ends."""
        tool_calls = list(tool_calls)
        whole_ids = {call.id for call in tool_calls}
        if not (text.startswith(self._told or self._text) and self._call_ids <= whole_ids):
            self._start_over()
        for call in tool_calls:
            self._show_call(call)
        self._show_text(text[len(self._text) :])
        if ends:
            self._screen.end_text()

    def note_loss(self, error: ParleyError) -> None:
        """Say that the stream is resumed: once for a loss, and only if a piece was shown."""
        if self.has_begun and not self._is_lost:
            self._screen.notice(f"({loss_of(error)}: reconnecting)")
        self._is_lost = True

    def _begin(self, attempt: int) -> None:
        if self._attempt not in (0, attempt) and self.has_begun:
            self._start_over()
        self._attempt = attempt

    def _start_over(self) -> None:
        self._screen.start_over(has_text=bool(self._text or self._told))
        self._text = self._told = ""
        self._call_ids.clear()

    def _show_text(self, text: str) -> None:
        self._text += text
        if self._told:
            if self._told.startswith(self._text):
                return  # it was shown before
            if self._text.startswith(self._told):
                text = self._text[len(self._told) :]
            else:
                text = self._text
                self._start_over()
                self._text = text
            self._told = ""
        self._screen.show_text(text)

    def _show_call(self, call: parts.ToolCall) -> None:
        if call.id not in self._call_ids:
            self._call_ids.add(call.id)
            self._screen.show_tool_call(call)
