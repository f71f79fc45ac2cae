"""What an agent has said so far in one attempt, within limits and fit to be stored."""

from dataclasses import dataclass, field

from parley_server.core.model import (
    AgentEvent,
    Answer,
    Finish,
    FinishReason,
    OpaqueState,
    Spent,
    Text,
    ToolCall,
    Usage,
)

MAX_TEXT_BYTES = 256 * 1024
MAX_TOOL_CALLS = 64
MAX_ARGUMENTS_BYTES = 32 * 1024
MAX_RESULT_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_OPAQUE_BYTES = 256 * 1024
MAX_MODEL_BYTES = 256
MAX_TOKENS = 10**12
"""A count above it is no count."""
MAX_REQUESTS = 2**31 - 1
MARK = "…[cut]"
"""Ends a tool's arguments or result that were too long."""


@dataclass(slots=True)
class Transcript:
    """Gathers the events of one attempt; takes no more once it is closed: full or finished."""

    model: str
    is_closed: bool = False
    _pieces: list[str] = field(default_factory=list)
    _tool_calls: list[ToolCall] = field(default_factory=list)
    _text_bytes: int = 0
    _message_bytes: int = 0
    _finish: Finish | None = None
    _spent: Usage | None = None
    _opaque_state: bytes | None = field(default=None, repr=False)

    def add(self, event: AgentEvent) -> Text | ToolCall | None:
        """Take one event, cut to the limits. Finish closes, and so does a limit that ends a run.

        Returns: what was taken of it, fit to be stored.
        """
        if self.is_closed:
            return None
        if isinstance(event, Text):
            return self._add_text(event.text)
        if isinstance(event, ToolCall):
            return self._add_tool_call(event)
        if isinstance(event, OpaqueState):
            # A part of it is of no use: too large, it is left out, and the answer stays.
            self._opaque_state = event.data if len(event.data) <= MAX_OPAQUE_BYTES else None
            return None
        if isinstance(event, Spent):
            self._spent = believable(event.usage) or self._spent
            return None
        self._finish = event
        self.is_closed = True
        return None

    def _add_text(self, text: str) -> Text:
        text = storable(text)
        room = min(MAX_TEXT_BYTES - self._text_bytes, MAX_MESSAGE_BYTES - self._message_bytes)
        piece = cut(text, room, mark="")
        size = len(piece.encode())
        self._pieces.append(piece)
        self._text_bytes += size
        self._message_bytes += size
        if len(piece) < len(text):
            self._end_at_limit()
        return Text(piece)

    def _add_tool_call(self, call: ToolCall) -> ToolCall | None:
        call = call._replace(
            id=storable(call.id),
            name=storable(call.name),
            arguments=cut(storable(call.arguments), MAX_ARGUMENTS_BYTES),
            result=cut(storable(call.result), MAX_RESULT_BYTES),
        )
        size = sum(len(part.encode()) for part in (call.id, call.name, call.arguments, call.result))
        if self._message_bytes + size > MAX_MESSAGE_BYTES:
            self._end_at_limit()
            return None
        self._tool_calls.append(call)
        self._message_bytes += size
        if len(self._tool_calls) >= MAX_TOOL_CALLS:
            self._end_at_limit()
        return call

    def _end_at_limit(self) -> None:
        self._finish = Finish(FinishReason.LENGTH, self.model)
        self.is_closed = True

    @property
    def usage(self) -> Usage | None:
        """What the agent has used in this attempt, as far as it has told."""
        finish = self._finish
        told = believable(finish.spent or finish.usage) if finish else None
        return told or self._spent

    @property
    def size(self) -> int:
        """How many bytes of text and tool calls it holds."""
        return self._message_bytes

    def answer(self, *, is_cancelled: bool = False) -> Answer:
        """Return what was said as an answer.

        Args:
            is_cancelled: the agent was stopped on request.
        """
        finish = self._finish or Finish(FinishReason.STOP, self.model)
        if is_cancelled:
            finish = Finish(FinishReason.CANCELLED, self.model)
        return Answer(
            text="".join(self._pieces),
            tool_calls=tuple(self._tool_calls),
            usage=believable(finish.usage),
            model=cut(storable(finish.model or self.model), MAX_MODEL_BYTES, mark=""),
            finish_reason=finish.reason,
            opaque_state=self._opaque_state,
        )


def believable(usage: Usage | None) -> Usage | None:
    """Return a usage whose numbers can be counts of tokens and requests; else None."""
    if usage is None:
        return None
    *tokens, requests = usage
    limits = [*((count, MAX_TOKENS) for count in tokens), (requests, MAX_REQUESTS)]
    is_true = all(type(count) is int and 0 <= count <= limit for count, limit in limits)
    return usage if is_true else None


def storable(text: str) -> str:
    """Return the text with NUL and lone surrogates, which no database takes, as U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def cut(text: str, max_bytes: int, mark: str = MARK) -> str:
    """Return the text, or as much of its beginning as fits with the mark behind it."""
    if len(text) * 4 <= max_bytes:
        return text
    data = text.encode()
    if len(data) <= max_bytes:
        return text
    return data[: max_bytes - len(mark.encode())].decode(errors="ignore") + mark
