"""Builders of what an agent is given, and what it answers, gathered."""

import uuid
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from parley_server.core.model import (
    AgentRun,
    Awaiting,
    Context,
    Finish,
    OpaqueState,
    Owner,
    Role,
    Text,
    ToolCall,
    Window,
    WindowMessage,
)
from parley_server.core.ports import Agent


def a_user_message(content: str, sequence: int = 1) -> WindowMessage:
    return WindowMessage(sequence, Role.USER, content)


def an_answer(content: str, *calls: ToolCall, sequence: int = 2) -> WindowMessage:
    return WindowMessage(sequence, Role.ASSISTANT, content, calls)


def a_call(call_id: str = "c1", step: int = 1, **changes: object) -> ToolCall:
    call = ToolCall(call_id, "look", '{"x":1}', "found", is_error=False, step=step)
    return call._replace(**changes)  # type: ignore[arg-type]  # names are checked at run time


def a_run(
    message: str = "Hi",
    *,
    earlier: Sequence[WindowMessage] = (),
    instructions: str = "",
    turn_id: uuid.UUID | None = None,
) -> AgentRun:
    own = a_user_message(message, sequence=len(earlier) + 1)
    messages = [*earlier, own]
    return AgentRun(
        owner=Owner.of("acme", "ann"),
        conversation_id=uuid.uuid4(),
        turn_id=turn_id or uuid.uuid4(),
        attempt=1,
        window=Window(messages, Context(1, len(messages), 0)),
        instructions=instructions,
        time_left_s=30.0,
    )


@dataclass
class Told:
    """Everything that a run yielded."""

    pieces: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    states: list[OpaqueState] = field(default_factory=list)
    finish: Finish | None = None
    awaiting: Awaiting | None = None
    """What it waits for, in the place of a Finish."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def told_by(agent: Agent, run: AgentRun | None = None, into: Told | None = None) -> Told:
    """Run the agent to its end. What it says before it raises is in `into`."""
    told = into or Told()
    async with aclosing(agent.run(run or a_run())) as events:
        async for event in events:
            assert told.finish is None, "an event after Finish"
            assert told.awaiting is None, "an event after Awaiting"
            match event:
                case Text(text):
                    told.pieces.append(text)
                case ToolCall():
                    told.calls.append(event)
                case OpaqueState():
                    told.states.append(event)
                case Finish():
                    told.finish = event
                case Awaiting():
                    told.awaiting = event
    return told
