"""The task that an agent wants to go on with: kept with its answer as opaque state."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from parley_server.agents.a2a.texts import Told
from parley_server.core.model import AgentRun, Role

VERSION = 1
TASK_ATTEMPTS = 2
"""How many attempts at a turn go on with a task; later ones are new tasks."""
PROVIDER = "a2a"
"""Tells it from other agents' states, which begin in the same way: see agents.opaque_state."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task that waits for the next message. It goes to the agent that it comes from only."""

    task_id: str
    told: Mapping[str, Told] = field(default_factory=dict)
    """What was told of each artifact already, by its id."""

    def dumped(self, target: str, context_id: str) -> bytes:
        """Return the bytes that are kept with the answer."""
        state = {
            "version": VERSION,
            "provider": [PROVIDER, target],
            "context": context_id,
            "task": self.task_id,
            "told": {key: told.chars for key, told in self.told.items()},
            "digests": {key: told[1:] for key, told in self.told.items()},
        }
        return json.dumps(state, separators=(",", ":")).encode()

    @classmethod
    def of_run(cls, run: AgentRun, target: str) -> "TaskState | None":
        """Return the task of the answer right before the newest message; None: it has none.

        A fork has no part in the tasks of its original. A turn that has failed with its task is
        given to a new one: what an agent cannot go on with must not end a conversation. A rehearsal
        has no part in them either: the task waits for the conversation's next turn.
        """
        if run.rehearsal is not None:
            return None
        messages = run.window.messages
        before = messages[-2] if len(messages) > 1 and run.attempt <= TASK_ATTEMPTS else None
        if before is None or before.role is not Role.ASSISTANT or not before.opaque_state:
            return None
        try:
            state = json.loads(before.opaque_state)
            if (state["version"], state["provider"]) != (VERSION, [PROVIDER, target]):
                return None
            if state["context"] != str(run.conversation_id):
                return None
            digests = state.get("digests", {})
            told = {
                str(key): Told(int(chars), *digests.get(key, ()))
                for key, chars in state["told"].items()
            }
            return cls(str(state["task"]), told)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # another kind of agent's
