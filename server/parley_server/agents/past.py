"""What the steps of a turn's earlier attempts say."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RunUsage

from parley_server.agents.history import Form
from parley_server.agents.step_bodies import (
    AS_IT_IS,
    Outcome,
    Place,
    Shown,
    Wait,
    tool_call,
)
from parley_server.core.attempts.given import read_given
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import Given, Step, StepKind, Text, ToolCall

log = logging.getLogger("parley.agents")


@dataclass(frozen=True)
class Past:
    """What the steps of earlier attempts say."""

    messages: Sequence[ModelMessage] = ()
    """What was exchanged with the model behind the turn's own message, up to its last response."""
    results: Mapping[Place, Outcome] = field(default_factory=dict)
    shown: Shown = AS_IT_IS
    outputs: frozenset[str] = frozenset()
    waits: Mapping[Place, Wait] = field(default_factory=dict)
    """Calls that wait, or waited."""
    given: Mapping[Place, Given] = field(default_factory=dict)
    """What the caller gave for some of them."""
    begun: frozenset[Place] = frozenset()
    """Approved calls that were begun, as far as it matters."""

    @classmethod
    def read(cls, steps: Sequence[Step]) -> "Past":
        """Return what steps say.

        Raises: AgentUnavailable: they cannot be read. To begin again would run tools again.
        """
        reading = _Reading()
        try:
            for step in steps:
                reading.read(step)
        except (ValueError, KeyError, TypeError, IndexError, ValidationError) as error:
            log.error("steps not readable", extra={"error": type(error).__name__})
            raise AgentUnavailable from None
        return reading.past()

    @cached_property
    def responses(self) -> Sequence[ModelResponse]:
        return [message for message in self.messages if isinstance(message, ModelResponse)]

    @cached_property
    def usage(self) -> RunUsage:
        """What they have used."""
        usage = RunUsage(requests=len(self.responses))
        for response in self.responses:
            usage.incr(response.usage)
        return usage

    def told(self) -> Iterator[Text | ToolCall]:
        """Yield what was said and done, but for the last response's calls, which are to be run."""
        step = 0
        for number, message in enumerate(self.messages):
            if isinstance(message, ModelResponse):
                step += 1
                yield from _texts(message)
                if number + 1 < len(self.messages):
                    yield from self._calls(message, self.messages[number + 1], step)

    def told_in_full(self) -> Iterator[Text | ToolCall]:
        """Yield the same, and the last response's calls that have a result, given ones as well."""
        yield from self.told()
        if not self.responses:
            return
        step, last = len(self.responses), self.responses[-1]
        for position, call in enumerate(last.tool_calls):
            if outcome := self._outcome((step, position)):
                yield tool_call(call, outcome.returned, step)

    def _outcome(self, place: Place) -> Outcome | None:
        if place in self.results:
            return self.results[place]
        return Outcome.given(self.given[place]) if place in self.given else None

    def _calls(
        self, response: ModelResponse, answered: ModelMessage, step: int
    ) -> Iterator[ToolCall]:
        results = {
            part.tool_call_id: part for part in answered.parts if isinstance(part, ToolReturnPart)
        }
        for call in response.tool_calls:
            if call.tool_call_id in results and call.tool_call_id not in self.outputs:
                yield tool_call(call, results[call.tool_call_id], step)


@dataclass(slots=True)
class _Reading:
    """Gathers what steps say."""

    messages: list[ModelMessage] = field(default_factory=list)
    results: dict[Place, Outcome] = field(default_factory=dict)
    shown: Shown = AS_IT_IS
    outputs: set[str] = field(default_factory=set)
    waits: dict[Place, Wait] = field(default_factory=dict)
    given: dict[str, Given] = field(default_factory=dict)
    begun: set[Place] = field(default_factory=set)

    def read(self, step: Step) -> None:
        """Take one more step. Raises: what reading a body that is none raises."""
        if step.kind is StepKind.GIVEN:
            given = read_given(step.body)
            self.given.setdefault(given.call_key, given)  # what was given does not change
            return
        body = json.loads(step.body)
        if step.kind is StepKind.RESPONSE:
            self.messages += _said(body)
            self.shown = Shown(body["halved"], Form[body["form"]])
            self.outputs.update(body["outputs"])
            return
        step_number, position = body["place"]
        place = (step_number, position)
        if "waits" in body:
            self.waits[place] = Wait(body["call_key"], body["waits"])
        elif "is_begun" in body:
            self.begun.add(place)
        else:
            self.results[place] = _outcome(_said(body)[0], body["tools"])

    def past(self) -> Past:
        given = {
            place: self.given[wait.call_key]
            for place, wait in self.waits.items()
            if wait.call_key in self.given
        }
        return Past(
            self.messages,
            self.results,
            self.shown,
            frozenset(self.outputs),
            self.waits,
            given,
            frozenset(self.begun),
        )


def _said(body: Any) -> list[ModelMessage]:
    return ModelMessagesTypeAdapter.validate_python(body["messages"])


def _outcome(message: ModelMessage, tools: list[str] | None) -> Outcome:
    """Return the outcome in a message of a RESULT step.

    Raises: ValueError: there is none.
    """
    match message.parts:
        case [ToolReturnPart() as returned]:
            return Outcome(returned, None, tools)
        case [ToolReturnPart() as returned, UserPromptPart() as beside]:
            return Outcome(returned, beside.content, tools)
        case _:
            raise ValueError("no result")


def _texts(response: ModelResponse) -> Iterator[Text]:
    for part in response.parts:
        if isinstance(part, TextPart) and part.content:
            yield Text(part.content)
