"""What a step holds, as JSON, and what the steps of earlier attempts say.

    RESPONSE   the messages since the RESPONSE before it: results that the model was told, and its
               newest response, which asks for tools
    RESULT     what came of one call of that response

Nothing but a step's own agent reads them. The messages are pydantic-ai's, in its own form.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import pydantic_core
from pydantic import ValidationError
from pydantic_ai.exceptions import ToolFailedError, ToolRetryError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.usage import RunUsage

from parley_server.agents.history import Form
from parley_server.core.attempts.transcript import storable
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import Step, StepKind, Text, ToolCall

log = logging.getLogger("parley.agents")

Place = tuple[int, int]
"""Of a call: its step, from 1, and its position among the step's calls, from 0."""


class Shown(NamedTuple):
    """How a run's window was shown, so that the next attempt shows it in the same way."""

    halved: int = 0
    """How often it was halved."""
    form: Form = Form.STATES


AS_IT_IS = Shown()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call of a tool."""

    returned: ToolReturnPart
    """Its names and ids are of no meaning: they are the call's."""
    content: str | Sequence[UserContent] | None = None
    """What the model is told beside it."""
    tools: list[str] | None = None
    """Which tools it makes available."""

    @classmethod
    def failed(cls, text: str) -> "Outcome":
        return cls(ToolReturnPart("", text, tool_call_id="", outcome="failed"))

    @classmethod
    def of(cls, result: Any) -> "Outcome":
        """Return the outcome of a call whose tool has returned this."""
        if not isinstance(result, ToolReturn):
            return cls(ToolReturnPart("", result, tool_call_id=""))
        returned = ToolReturnPart("", result.return_value, tool_call_id="")
        return cls(returned, result.content or None, result.tools)

    def again(self, call: ToolCallPart) -> Any:
        """Return what the tool returned.

        Raises: ToolFailedError, ToolRetryError: it failed.
        """
        returned = replace(self.returned, tool_name=call.tool_name, tool_call_id=call.tool_call_id)
        if returned.outcome == "success":
            return ToolReturn(returned.content, content=self.content, tools=self.tools)
        raise (ToolRetryError if returned.outcome == "retried" else ToolFailedError)(returned)


def response_body(messages: Sequence[ModelMessage], outputs: Sequence[str], shown: Shown) -> str:
    """Return the body of a RESPONSE step.

    Args:
        outputs: the ids of calls in it that are the run's output and no tool's.
    """
    return _json(
        {
            "messages": _dumped(messages),
            "outputs": list(outputs),
            "halved": shown.halved,
            "form": shown.form.name,
        }
    )


def result_body(place: Place, outcome: Outcome) -> str:
    """Return the body of a RESULT step.

    Raises: what serialising the result raises, if it has no JSON form.
    """
    told = [] if outcome.content is None else [UserPromptPart(outcome.content)]
    messages = [ModelRequest(parts=[outcome.returned, *told])]
    return _json({"place": place, "messages": _dumped(messages), "tools": outcome.tools})


def _dumped(messages: Sequence[ModelMessage]) -> Any:
    return ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")


def _json(value: Any) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@dataclass(frozen=True)
class Past:
    """What the steps of earlier attempts say."""

    messages: Sequence[ModelMessage] = ()
    """What was exchanged with the model behind the turn's own message, up to its last response."""
    results: Mapping[Place, Outcome] = field(default_factory=dict)
    shown: Shown = AS_IT_IS
    outputs: frozenset[str] = frozenset()

    @classmethod
    def read(cls, steps: Sequence[Step]) -> "Past":
        """Return what steps say.

        Raises: AgentUnavailable: they cannot be read. To begin again would run tools again.
        """
        messages: list[ModelMessage] = []
        results: dict[Place, Outcome] = {}
        shown, outputs = AS_IT_IS, set[str]()
        try:
            for step in steps:
                body = json.loads(step.body)
                said = ModelMessagesTypeAdapter.validate_python(body["messages"])
                if step.kind is StepKind.RESPONSE:
                    messages += said
                    shown = Shown(body["halved"], Form[body["form"]])
                    outputs.update(body["outputs"])
                else:
                    results[tuple(body["place"])] = _outcome(said[0], body["tools"])
        except (ValueError, KeyError, TypeError, IndexError, ValidationError) as error:
            log.error("steps not readable", extra={"error": type(error).__name__})
            raise AgentUnavailable from None
        return cls(messages, results, shown, frozenset(outputs))

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
        """Yield the same, and the last response's calls that have a result."""
        yield from self.told()
        if not self.responses:
            return
        step, last = len(self.responses), self.responses[-1]
        for position, call in enumerate(last.tool_calls):
            if outcome := self.results.get((step, position)):
                yield tool_call(call, outcome.returned, step)

    def _calls(
        self, response: ModelResponse, answered: ModelMessage, step: int
    ) -> Iterator[ToolCall]:
        results = {
            part.tool_call_id: part for part in answered.parts if isinstance(part, ToolReturnPart)
        }
        for call in response.tool_calls:
            if call.tool_call_id in results and call.tool_call_id not in self.outputs:
                yield tool_call(call, results[call.tool_call_id], step)


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


def tool_call(call: ToolCallPart, result: ToolReturnPart, step: int) -> ToolCall:
    """Return a call with its result, as it is part of an answer."""
    arguments = call.args
    if not isinstance(arguments, str):
        arguments = pydantic_core.to_json(arguments or {}).decode()
    text = result.model_response_str(wrap_if_error=False)
    is_error = result.outcome != "success"
    return ToolCall(call.tool_call_id, call.tool_name, arguments, text, is_error, step)
