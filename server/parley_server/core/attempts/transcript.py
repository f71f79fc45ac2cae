"""What an agent has said so far in one attempt, within limits and fit to be stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from parley_server.core.attempts.closing import LONGEST_SENTENCE_BYTES, closed
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import (
    AgentEvent,
    AgentLimits,
    Answer,
    Awaiting,
    Finish,
    FinishReason,
    OpaqueState,
    PendingCall,
    Spent,
    Text,
    ToolCall,
    Usage,
    WaitEnd,
)

MAX_TEXT_BYTES = 256 * 1024
MOST_BYTES_A_TOKEN = 16
"""An agent that does not heed its limit of tokens is cut at so many bytes of text for each."""
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
    max_text_bytes: int = MAX_TEXT_BYTES
    max_tool_calls: int = MAX_TOOL_CALLS
    _pieces: list[str] = field(default_factory=list)
    _tool_calls: list[ToolCall] = field(default_factory=list)
    _text_bytes: int = 0
    _message_bytes: int = 0
    _finish: Finish | None = None
    _awaiting: Awaiting | None = None
    _spent: Usage | None = None
    _opaque_state: bytes | None = field(default=None, repr=False)

    @classmethod
    def limited(cls, model: str, limits: AgentLimits) -> "Transcript":
        """Return an empty one that is full where the agent's own limits are reached."""
        return cls(
            model,
            max_text_bytes=least(most_bytes(limits), least(limits.reply_bytes, MAX_TEXT_BYTES)),
            max_tool_calls=least(limits.tool_calls, MAX_TOOL_CALLS),
        )

    def add(self, event: AgentEvent) -> Text | ToolCall | None:
        """Take one event, cut to the limits.

        Finish and Awaiting close, and so does a limit that ends a run.

        Returns: what was taken of it, fit to be stored.
        Raises: AgentUnavailable: the run waits for nothing.
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
        if isinstance(event, Awaiting):
            self._await(event)
            return None
        self._finish = event
        self.is_closed = True
        return None

    def _add_text(self, text: str) -> Text:
        text = storable(text)
        room = min(self.max_text_bytes - self._text_bytes, MAX_MESSAGE_BYTES - self._message_bytes)
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
        size = sum(len(part.encode()) for part in _parts(call))
        is_one_too_many = len(self._tool_calls) >= self.max_tool_calls  # of none that are allowed
        if is_one_too_many or self._message_bytes + size > MAX_MESSAGE_BYTES:
            self._end_at_limit()
            return None
        self._tool_calls.append(call)
        self._message_bytes += size
        if len(self._tool_calls) >= self.max_tool_calls:
            self._end_at_limit()
        return call

    def _await(self, event: Awaiting) -> None:
        """Take what the run waits for, if an answer has room for it with a result for each call."""
        if not event.calls:
            raise AgentUnavailable
        calls = tuple(
            call._replace(
                id=storable(call.id),
                name=storable(call.name),
                arguments=storable(call.arguments),
            )
            for call in event.calls
        )
        arguments = [len(call.arguments.encode()) for call in calls]
        rest = sum(len(call.id.encode()) + len(call.name.encode()) for call in calls)
        size = sum(arguments) + rest + len(calls) * LONGEST_SENTENCE_BYTES
        # Cut arguments would be of no use to the tool.
        is_too_much = max(arguments) > MAX_ARGUMENTS_BYTES or (
            len(self._tool_calls) + len(calls) > self.max_tool_calls
        )
        if is_too_much or self._message_bytes + size > MAX_MESSAGE_BYTES:
            self._end_at_limit()
            return
        self._awaiting = replace(event, calls=calls)
        self.is_closed = True

    def _end_at_limit(self) -> None:
        self._finish = Finish(FinishReason.LENGTH, self.model)
        self.is_closed = True

    @property
    def usage(self) -> Usage | None:
        """What the agent has used in this attempt, as far as it has told."""
        last = self._finish or self._awaiting
        told = believable(last.spent or last.usage) if last else None
        return told or self._spent

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """What the run waits for, if it has ended so."""
        return self._awaiting.calls if self._awaiting else ()

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Those with a result, in order."""
        return tuple(self._tool_calls)

    @property
    def size(self) -> int:
        """How many bytes of text and tool calls it holds."""
        return self._message_bytes

    def answer(self, *, is_cancelled: bool = False) -> Answer:
        """Return what was said as an answer; of a run that waits: so far, as ACTION_REQUIRED.

        Args:
            is_cancelled: the agent was stopped on request. What it waited for gets a result.
        """
        finish = self._finish or Finish(FinishReason.STOP, self.model)
        if self._awaiting:
            waits = self._awaiting
            finish = Finish(FinishReason.ACTION_REQUIRED, waits.model, waits.usage)
        tool_calls = self._tool_calls
        if is_cancelled:
            finish = Finish(FinishReason.CANCELLED, self.model)
            tool_calls = [*tool_calls, *closed(self.pending, WaitEnd.CANCELLED)]
        return Answer(
            text="".join(self._pieces),
            tool_calls=tuple(tool_calls),
            usage=believable(finish.usage),
            model=cut(storable(finish.model or self.model), MAX_MODEL_BYTES, mark=""),
            finish_reason=finish.reason,
            opaque_state=self._opaque_state,
        )


def fitting(calls: Sequence[ToolCall], answer: Answer) -> list[ToolCall]:
    """Return calls for which a turn has waited, their results cut so that its answer has room.

    Args:
        answer: what was said before; `Transcript` has left room for a sentence of each call.
    """
    used = [answer.text, *(part for call in answer.tool_calls for part in _parts(call))]
    used += [part for call in calls for part in _parts(call)[:-1]]
    room = MAX_MESSAGE_BYTES - sum(len(part.encode()) for part in used)
    fitted: list[ToolCall] = []
    for number, call in enumerate(calls, 1):
        result = cut(call.result, room - (len(calls) - number) * LONGEST_SENTENCE_BYTES)
        room -= len(result.encode())
        fitted.append(call._replace(result=result))
    return fitted


def _parts(call: ToolCall) -> tuple[str, ...]:
    """Return what of a call counts for an answer's size."""
    return call.id, call.name, call.arguments, call.result


def most_bytes(limits: AgentLimits) -> int | None:
    """Return where the text is cut of an agent that does not heed how many tokens are left."""
    return limits.output_tokens and limits.output_tokens * MOST_BYTES_A_TOKEN


def least(limit: int | None, most: int) -> int:
    """Return an agent's own limit, but no more than the server's."""
    return most if limit is None else min(limit, most)


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
