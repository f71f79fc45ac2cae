"""Answers to compare: the stored one, and those of rehearsals, which come at the same time."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import Any

from google.protobuf.json_format import MessageToDict

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.text import one_line
from parley_client.cli.words import ended_by, reason_of, state_of, tokens_of
from parley_client.errors import ParleyError
from parley_client.sync_client import ParleyClient

DEFAULT = "the default agent"
_LONGEST = 500
"""The most characters of an error that stand in an answer's place."""

Rehearse = Callable[[str], Iterator[pb.RehearseTurnResponse]]
"""Begins a rehearsal with an agent."""


@dataclass(slots=True)
class Reply:
    """An answer, as far as it has come."""

    agent: str
    """Its name. Empty: the server's default agent, as long as its name is not known."""
    is_stored: bool = False
    text: str = ""
    tool_calls: list[parts.ToolCall] = field(default_factory=list)
    usage: parts.Usage | None = None
    model: str = ""
    finish_reason: parts.FinishReason.ValueType = parts.FINISH_REASON_UNSPECIFIED
    error: ParleyError | None = None
    missing: str = ""
    """Why there is no stored answer."""
    has_ended: bool = False

    @property
    def title(self) -> str:
        name = one_line(self.agent) or DEFAULT
        return f"{name} · {'stored' if self.is_stored else 'rehearsed'}"

    @property
    def ending(self) -> str:
        """What is to be said below its text: its model, its tokens, or why there is none."""
        if self.error is not None:
            name = self.error.reason or self.error.code.name
            return one_line(f"{name}: {self.error.message}", _LONGEST)
        if self.missing or not self.has_ended:
            return self.missing
        tokens = "" if self.usage is None else tokens_of(self.usage)
        said = (one_line(self.model), tokens, ended_by(self.finish_reason))
        return " · ".join(filter(None, said))

    def take(self, event: pb.RehearseTurnResponse) -> None:
        """Take note of a rehearsal's event."""
        match event.WhichOneof("event"):
            case "started":
                self.agent = event.started.agent or self.agent
            case "chunk":
                self.text += event.chunk.text
            case "tool_call":
                self.tool_calls.append(event.tool_call)
            case "completed":
                whole = event.completed
                self.text, self.tool_calls = whole.response, list(whole.tool_calls)
                self.usage = whole.usage if whole.HasField("usage") else None
                self.model, self.finish_reason = whole.model, whole.finish_reason
                self.has_ended = True

    def fail(self, error: ParleyError) -> None:
        """Take note of a rehearsal's end without an answer."""
        self.error, self.has_ended = error, True

    @property
    def as_json(self) -> str:
        """Whose answer it is, and the answer as the contract has a rehearsal's."""
        told: dict[str, Any] = {"agent": self.agent, "is_stored": self.is_stored}
        if self.error is not None:
            reason = self.error.reason or self.error.code.name
            told["error"] = {"reason": reason, "message": self.error.message}
        elif not self.missing:
            answer = pb.RehearsalCompleted(
                response=self.text,
                tool_calls=self.tool_calls,
                usage=self.usage,
                model=self.model,
                finish_reason=self.finish_reason,
            )
            told |= MessageToDict(
                answer,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
        return json.dumps(told, ensure_ascii=False)


def stored_reply(client: ParleyClient, turn: parts.Turn, timeout_s: float) -> Reply:
    """Return a turn's own answer. Raises: ParleyError."""
    reply = Reply(turn.agent, is_stored=True, has_ended=True)
    if not turn.response_sequence:
        reason = reason_of(turn.error_reason)
        reply.missing = f"no answer: {state_of(turn)}" + (f", {reason}" if reason else "")
        return reply
    page = client.history_page(
        turn.conversation_id,
        after_sequence=turn.response_sequence - 1,
        page_size=1,
        timeout_s=timeout_s,
    )
    for message in page.messages:
        reply.text, reply.tool_calls = message.content, list(message.tool_calls)
    reply.model, reply.finish_reason = turn.model, turn.finish_reason
    reply.usage = turn.usage if turn.HasField("usage") else None
    return reply


def rehearsed(
    rehearse: Rehearse, agents: Sequence[str], replies: Sequence[Reply]
) -> Iterator[None]:
    """Begin a rehearsal with each agent; iterate once for each thing that comes into its reply.

    Args:
        agents: whom to ask. Empty: the turn's own agent.
        replies: one for each agent, in the same order.
    Raises: while iterating, what a rehearsal raises that is no ParleyError.
    Guarantees: a rehearsal that fails ends its own reply only. One that is left ends with its
        client.
    """
    came: SimpleQueue[tuple[Reply, pb.RehearseTurnResponse | Exception]] = SimpleQueue()

    def ask(agent: str, reply: Reply) -> None:
        try:
            for event in rehearse(agent):
                came.put((reply, event))
        except Exception as error:  # told by the thread that shows the replies
            came.put((reply, error))

    for agent, reply in zip(agents, replies, strict=True):
        Thread(target=ask, args=(agent, reply), daemon=True).start()
    while not all(reply.has_ended for reply in replies):
        reply, event = came.get()
        if isinstance(event, ParleyError):
            reply.fail(event)
        elif isinstance(event, Exception):
            raise event
        else:
            reply.take(event)
        yield
