"""The task that an agent wants to go on with: kept with its answer as opaque state."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from parley_server.core.model import Role, WindowMessage

VERSION = 1
PROVIDER = "a2a"
"""Tells it from other agents' states, which begin in the same way: see agents.opaque_state."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task that waits for the next message. It goes to the agent that it comes from only."""

    task_id: str
    told: Mapping[str, int] = field(default_factory=dict)
    """How many characters of each artifact were told already, by its id."""

    def dumped(self, target: str) -> bytes:
        state = {
            "version": VERSION,
            "provider": [PROVIDER, target],
            "task": self.task_id,
            "told": dict(self.told),
        }
        return json.dumps(state, separators=(",", ":")).encode()

    @classmethod
    def of_window(cls, messages: Sequence[WindowMessage], target: str) -> "TaskState | None":
        """Return the task of the answer right before the newest message; None: it has none."""
        before = messages[-2] if len(messages) > 1 else None
        if before is None or before.role is not Role.ASSISTANT or not before.opaque_state:
            return None
        try:
            state = json.loads(before.opaque_state)
            if (state["version"], state["provider"]) != (VERSION, [PROVIDER, target]):
                return None
            return cls(str(state["task"]), {str(k): int(v) for k, v in state["told"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # another kind of agent's
