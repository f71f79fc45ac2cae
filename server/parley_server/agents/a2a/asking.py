"""A turn as a request of A2A: docs/remote-agents.md has an example."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

from a2a.types import a2a_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from parley_server.agents.a2a import metadata as names
from parley_server.agents.a2a.state import TaskState
from parley_server.core.model import AgentRun, Role, WindowMessage

OUTPUT_MODES = ("text/plain", "text/markdown", "application/json")
MAX_HISTORY_BYTES = 2 * 1024 * 1024
"""Of earlier messages with their tool calls: gRPC's servers take 4 MiB in one request."""

_ROLES = {Role.USER: "user", Role.ASSISTANT: "assistant", Role.SYSTEM: "system"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What one turn asks of an agent."""

    message: a2a_pb2.Message
    about: Struct = field(repr=False)
    """Of the request: what the agent needs to know, and does not store with the message."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """For gRPC's metadata."""
    time_left_s: float | None
    is_rehearsal: bool

    @classmethod
    def of(cls, run: AgentRun, tracing: dict[str, str]) -> "Asked":
        """Return what a run asks.

        Args:
            run: what is asked.
            tracing: the headers that name its trace; empty: it has none.
        """
        *earlier, newest = run.window.messages
        key = str(uuid5(run.turn_id, "a2a"))
        message = a2a_pb2.Message(
            message_id=f"{run.turn_id}-{run.attempt}",
            context_id=str(run.conversation_id if run.rehearsal is None else run.turn_id),
            role=a2a_pb2.Role.ROLE_USER,
            parts=[a2a_pb2.Part(text=newest.content, media_type="text/plain")],
        )
        headers = {
            "parley-turn-id": str(run.turn_id),
            "parley-attempt": str(run.attempt),
            "parley-call-key": key,
            **tracing,
        }
        time_left_s = run.time_left_s if math.isfinite(run.time_left_s) else None
        about = {
            names.TURN_ID: str(run.turn_id),
            names.ATTEMPT: run.attempt,
            names.CALL_KEY: key,
            **_times(time_left_s),
            **({names.INSTRUCTIONS: run.instructions} if run.instructions else {}),
            **_limits(run),
            **({names.REHEARSAL: True} if run.rehearsal is not None else {}),
            **_history(earlier, run.window.context.omitted_count),
            **tracing,
        }
        return cls(
            message,
            ParseDict(about, Struct()),
            tuple(headers.items()),
            time_left_s,
            is_rehearsal=run.rehearsal is not None,
        )

    def request(self, task: TaskState | None) -> a2a_pb2.SendMessageRequest:
        """Return the request, to go on with a task, or not."""
        request = a2a_pb2.SendMessageRequest(
            message=self.message,
            metadata=self.about,
            # The agent's own copy of what was said is of no use here, and may be long.
            configuration=a2a_pb2.SendMessageConfiguration(
                accepted_output_modes=OUTPUT_MODES, history_length=0
            ),
        )
        if task is not None:
            request.message.task_id = task.task_id
        return request


def _times(time_left_s: float | None) -> dict[str, Any]:
    """Return the time limit: SDKs run tasks on without the call, and without its deadline."""
    if time_left_s is None:
        return {}
    deadline = datetime.now(UTC) + timedelta(seconds=time_left_s)
    return {
        names.DEADLINE: deadline.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        names.TIME_LEFT: round(time_left_s, 3),
    }


def _limits(run: AgentRun) -> dict[str, Any]:
    limit = run.limits.output_tokens
    return {} if limit is None else {names.MAX_OUTPUT_TOKENS: limit}


def _history(earlier: Sequence[WindowMessage], omitted: int) -> dict[str, Any]:
    """Return as many of the earlier messages as fit, the newest ones, oldest first."""
    told: list[dict[str, Any]] = []
    room = MAX_HISTORY_BYTES
    for message in reversed(earlier):
        said = _said(message)
        room -= len(json.dumps(said, ensure_ascii=False).encode(errors="replace"))
        if room < 0:
            break
        told.append(said)
    omitted += len(earlier) - len(told)
    about: dict[str, Any] = {names.HISTORY: told[::-1]} if told else {}
    return {**about, **({names.OMITTED: omitted} if omitted else {})}


def _said(message: WindowMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"role": _ROLES[message.role], "text": message.content}
    if message.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "name": call.name,
                "arguments": call.arguments,
                "result": call.result,
                "is_error": call.is_error,
            }
            for call in message.tool_calls
        ]
    return said
