"""The agent of the test: it stands at a gate, and may ask its caller for results of calls."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence

from parley_server.core.errors import AgentRefused
from parley_server.core.model import (
    AgentEvent,
    AgentRun,
    Awaiting,
    Finish,
    FinishReason,
    PendingCall,
    Step,
    StepKind,
    Text,
)
from support.state_machine.values import ASKS, BEGINNING, MODEL, Run
from support.waiting import as_told, calls_of, given_in_steps


class GatedAgent:
    """Goes on from its steps to its gate; then it answers, fails, or asks, as a rule says.

    As long as anything is missing of what it has asked for before, it waits for that again.
    """

    model = "gated"
    context_tokens: int | None = 100_000

    def __init__(self, worker: int, name: str, entered: Callable[[Run], None]) -> None:
        """Make an agent.

        Args:
            name: by which callers name it.
            entered: called when a run stands at its gate.
        """
        self._worker = worker
        self._name = name
        self._entered = entered

    async def run(self, seen: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        gate = asyncio.get_running_loop().create_future()
        run = Run(self._worker, seen, gate, asyncio.Event(), agent=self._name)
        try:
            yield Text(BEGINNING)
            for event in self.retold(seen.steps.done)[1:]:
                yield event
            missing = _missing(seen.steps.done)
            self._entered(run)
            what = await run.gate
            if what == "AGENT_UNAVAILABLE":
                raise RuntimeError("as the rule says")
            if what == "AGENT_REFUSED":
                raise AgentRefused
            if what == ASKS and not missing:
                number = len(_responses(seen.steps.done)) + 1
                missing = calls_of(seen.turn_id, number, run.asks)
                body = json.dumps([call._asdict() for call in missing])
                await seen.steps.store(StepKind.RESPONSE, body)
            if missing:
                yield Awaiting(tuple(missing), MODEL)
                return
            yield Text(f"{seen.turn_id} {seen.attempt}")
            yield Finish(FinishReason.STOP, MODEL)
        finally:
            run.closed.set()

    def retold(self, steps: Sequence[Step]) -> Sequence[AgentEvent]:
        given = given_in_steps(steps)
        calls = [call for response in _responses(steps) for call in response]
        told = [as_told(call, given[call.call_key]) for call in calls if call.call_key in given]
        return [Text(BEGINNING), *told] if steps else []


def _responses(steps: Sequence[Step]) -> list[list[PendingCall]]:
    """Return what each response has asked for."""
    bodies = [json.loads(step.body) for step in steps if step.kind is StepKind.RESPONSE]
    return [[PendingCall(**call) for call in body] for body in bodies]


def _missing(steps: Sequence[Step]) -> list[PendingCall]:
    given = given_in_steps(steps)
    return [c for response in _responses(steps) for c in response if c.call_key not in given]
