"""Reads what a remote agent answers: docs/remote-agents.md has the table of what becomes of it."""

import math
from collections.abc import Iterator, Mapping
from enum import Enum, auto

from a2a.types import a2a_pb2
from a2a.types.a2a_pb2 import TaskState
from google.protobuf.struct_pb2 import Struct

from parley_server.agents.a2a.failures import OutOfProtocol
from parley_server.agents.a2a.metadata import FINISH_REASON, MODEL, USAGE
from parley_server.agents.a2a.texts import MAX_ID_CHARS, Texts, Told
from parley_server.core.model import FinishReason, Usage


class Ending(Enum):
    """How an answer ended."""

    ANSWERED = auto()
    FULL = auto()
    """It is longer than an answer may be."""
    INPUT_REQUIRED = auto()
    """The agent asks for more: the next message goes to the same task."""
    FAILED = auto()
    REFUSED = auto()


_ENDINGS = {
    TaskState.TASK_STATE_COMPLETED: Ending.ANSWERED,
    TaskState.TASK_STATE_INPUT_REQUIRED: Ending.INPUT_REQUIRED,
    TaskState.TASK_STATE_FAILED: Ending.FAILED,
    TaskState.TASK_STATE_CANCELED: Ending.FAILED,
    TaskState.TASK_STATE_REJECTED: Ending.REFUSED,
    TaskState.TASK_STATE_AUTH_REQUIRED: Ending.REFUSED,  # Parley has nothing else to show it
}
_UNDER_WAY = frozenset({TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING})
_TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)
_REASONS = {"LENGTH": FinishReason.LENGTH, "CONTENT_FILTER": FinishReason.CONTENT_FILTER}
_NO_USAGE = Usage(0, 0, 0, model_requests=1)._asdict()


class Reader:
    """Reads the events of one answer, up to the first that ends it."""

    def __init__(
        self, context_id: str, task_id: str = "", earlier: Mapping[str, Told] | None = None
    ) -> None:
        """Begin an answer.

        Args:
            context_id: what the agent was told.
            task_id: of the task that goes on; empty: none.
            earlier: see Texts.
        """
        self.task_id = task_id
        """Of the task that answers, once it is known."""
        self.ending: Ending | None = None
        self.usage: Usage | None = None
        self.model = ""
        self.reason = FinishReason.STOP
        self.texts = Texts(earlier)
        self._context_id = context_id
        self._is_task = False
        self._is_terminal = False

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the agent may still be at work on a task that is known."""
        return self._is_task and not self._is_terminal

    def read(self, response: a2a_pb2.StreamResponse) -> Iterator[str]:
        """Take one event.

        Returns: the text that it adds to the answer.
        Raises: OutOfProtocol.
        """
        match response.WhichOneof("payload"):
            case "message":
                yield from self._message(response.message)
            case "task":
                yield from self._task(response.task)
            case "status_update":
                update = response.status_update
                self._belongs(update.task_id, update.context_id)
                self._note(update.metadata)
                yield from self._status(update.status)
            case "artifact_update":
                yield from self._artifact(response.artifact_update)
            case _:
                raise OutOfProtocol("an event without content")
        if self.ending is None and self.texts.is_full:
            yield from self.texts.rest()
            self.ending, self.reason = Ending.FULL, FinishReason.LENGTH

    def _message(self, message: a2a_pb2.Message) -> Iterator[str]:
        if self._is_task:
            raise OutOfProtocol("a message in the place of a task's event")
        if message.role != a2a_pb2.Role.ROLE_AGENT:
            raise OutOfProtocol("a message that is not the agent's")
        _same(message.context_id, self._context_id, "context")
        if self.task_id:
            _same(message.task_id, self.task_id, "task")
        self._note(message.metadata)
        yield from self.texts.say(message.parts)
        self.ending = Ending.ANSWERED

    def _task(self, task: a2a_pb2.Task) -> Iterator[str]:
        self._belongs(task.id, task.context_id)
        self._note(task.metadata)
        for artifact in task.artifacts:
            yield from self.texts.snapshot(artifact.artifact_id, artifact.parts)
        yield from self._status(task.status)

    def _artifact(self, update: a2a_pb2.TaskArtifactUpdateEvent) -> Iterator[str]:
        self._belongs(update.task_id, update.context_id)
        self._note(update.metadata)
        artifact = update.artifact
        take = self.texts.append if update.append else self.texts.begin
        yield from take(artifact.artifact_id, artifact.parts, is_last=update.last_chunk)

    def _status(self, status: a2a_pb2.TaskStatus) -> Iterator[str]:
        if status.state in _UNDER_WAY:
            return  # its message is about the work, and no part of the answer
        ending = _ENDINGS.get(status.state)
        if ending is None:
            raise OutOfProtocol("a state that A2A does not have")
        self._is_terminal = status.state in _TERMINAL
        if ending in (Ending.ANSWERED, Ending.INPUT_REQUIRED):
            self._note(status.message.metadata)
            yield from self.texts.say(status.message.parts)
        self.ending = ending

    def _belongs(self, task_id: str, context_id: str) -> None:
        """Refuse events of another task, or of another conversation."""
        if not task_id or len(task_id) > MAX_ID_CHARS:
            raise OutOfProtocol("a task without an id, or with one that is too long")
        if self.task_id:
            _same(task_id, self.task_id, "task")
        _same(context_id, self._context_id, "context")
        self.task_id = task_id
        self._is_task = True

    def _note(self, metadata: Struct) -> None:
        """Note what the agent tells of its model and its costs; what makes no sense is left out."""
        if not metadata.fields:
            return
        model = metadata.fields.get(MODEL)
        if model is not None and model.string_value:
            self.model = model.string_value
        if FINISH_REASON in metadata.fields:
            self.reason = _REASONS.get(metadata.fields[FINISH_REASON].string_value, self.reason)
        if USAGE in metadata.fields:
            self.usage = _usage(metadata.fields[USAGE].struct_value) or self.usage


def _same(told: str, expected: str, what: str) -> None:
    if told and told != expected:
        raise OutOfProtocol(f"an event of another {what}")


def _usage(told: Struct) -> Usage | None:
    counts = {key: told.fields[key] for key in _NO_USAGE if key in told.fields}
    if not counts or not all(
        count.WhichOneof("kind") == "number_value" and math.isfinite(count.number_value)
        for count in counts.values()
    ):
        return None
    known = {key: int(count.number_value) for key, count in counts.items()}
    return Usage(**{**_NO_USAGE, **known})
