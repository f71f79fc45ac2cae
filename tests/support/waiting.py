"""An agent whose tools are its caller's, and what its caller gives."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.attempts.given import read_given
from parley_server.core.model import (
    AgentEvent,
    AgentRun,
    Awaiting,
    Finish,
    FinishReason,
    Given,
    GivenKind,
    PendingCall,
    PendingKind,
    Step,
    StepKind,
    Text,
    ToolCall,
    Usage,
)

Hook = Callable[[AgentRun], Awaitable[None]]

WEATHER = messages.Tool(
    name="weather",
    description="Tells the weather.",
    parameters_schema='{"type": "object", "properties": {"city": {"type": "string"}}}',
)

SPENT = Usage(3, 2, 0, 1)
"""What each run has used."""


async def _nothing(run: AgentRun) -> None:
    """Do nothing."""


@dataclass
class AskingAgent:
    """Asks for calls in rounds, each call's result from its caller, and answers with the results.

    It stores each response as a step, and goes on from its steps.
    """

    rounds: Sequence[Sequence[str]] = (("weather",),)
    """The calls of each response, by name; those that begin with "approve" need an approval."""
    before: Hook = _nothing
    """Called when a run begins."""
    at_end: Hook = _nothing
    """Called when nothing is missing any more."""
    model: str = "asking"
    context_tokens: int | None = 100_000
    runs: list[AgentRun] = field(default_factory=list)

    async def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        self.runs.append(run)
        await self.before(run)
        done = sum(step.kind is StepKind.RESPONSE for step in run.steps.done)
        given = given_in_steps(run.steps.done)
        told: list[str] = []
        for number, names in enumerate(self.rounds, 1):
            yield Text(f"{number}. ")
            calls = calls_of(run.turn_id, number, names)
            if number > done:
                body = json.dumps([call._asdict() for call in calls])
                await run.steps.store(StepKind.RESPONSE, body)
            for call in calls:
                if call.call_key in given:
                    result = as_told(call, given[call.call_key])
                    told.append(result.result)
                    yield result
            missing = tuple(call for call in calls if call.call_key not in given)
            if missing:
                yield Awaiting(missing, "asking-1", Usage(3 * number, 2, 0, number), SPENT)
                return
        await self.at_end(run)
        yield Text("done: " + ", ".join(told))
        yield Finish(FinishReason.STOP, "asking-1", Usage(3 * len(self.rounds), 4, 0, 2), SPENT)

    def retold(self, steps: Sequence[Step]) -> Sequence[AgentEvent]:
        given = given_in_steps(steps)
        events: list[AgentEvent] = []
        for number, step in enumerate((s for s in steps if s.kind is StepKind.RESPONSE), 1):
            events.append(Text(f"{number}. "))
            calls = [PendingCall(**call) for call in json.loads(step.body)]
            events += [as_told(c, given[c.call_key]) for c in calls if c.call_key in given]
        return events


def calls_of(turn_id: UUID, number: int, names: Sequence[str]) -> list[PendingCall]:
    return [
        PendingCall(
            str(uuid5(turn_id, f"{number}/{place}")),
            f"id-{number}-{place}",
            name,
            json.dumps({"city": f"{number}-{place}"}),
            number,
            PendingKind.APPROVAL if name.startswith("approve") else PendingKind.RESULT,
        )
        for place, name in enumerate(names)
    ]


def given_in_steps(steps: Sequence[Step]) -> dict[str, Given]:
    """Return what callers gave, by call_key."""
    found = [read_given(step.body) for step in steps if step.kind is StepKind.GIVEN]
    return {given.call_key: given for given in found}


def as_told(call: PendingCall, given: Given) -> ToolCall:
    """Return a call with what was given for it; one that was approved has run."""
    is_error = given.kind in (GivenKind.ERROR, GivenKind.DENIAL)
    text = "ran" if given.kind is GivenKind.APPROVAL else given.text
    return ToolCall(call.id, call.name, call.arguments, text, is_error, call.step)


def result(call: messages.PendingCall, text: str = "sunny") -> pb.CallResult:
    return pb.CallResult(call_key=call.call_key, result=text)


def error(call: messages.PendingCall, text: str = "no such city") -> pb.CallResult:
    return pb.CallResult(call_key=call.call_key, error=text)


def approval(call: messages.PendingCall, **fields: str) -> pb.CallResult:
    return pb.CallResult(call_key=call.call_key, approval=pb.Approval(**fields))


def denial(call: messages.PendingCall, reason: str = "no") -> pb.CallResult:
    return pb.CallResult(call_key=call.call_key, denial=pb.Denial(reason=reason))
