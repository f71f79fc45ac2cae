"""What a step holds, as JSON; `agents.past` reads it.

    RESPONSE   the messages since the RESPONSE before it: results that the model was told, and its
               newest response, which asks for tools
    RESULT     what came of one call of that response; or, before that, that it waits for the
               turn's caller, or that it was begun after an approval and must not be begun again
    GIVEN      what the caller gave for a call that waits (`core.attempts.given`)

Nothing but a step's own agent reads them. The messages are pydantic-ai's, in its own form.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pydantic_core
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ToolFailedError,
    ToolRetryError,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.tools import DeferredToolKind

from parley_server.agents.history import Form
from parley_server.core.attempts.closing import DENIED
from parley_server.core.attempts.transcript import MAX_RESULT_BYTES, cut, storable
from parley_server.core.model import Given, GivenKind, ToolCall

log = logging.getLogger("parley.agents")

Place = tuple[int, int]
"""Of a call: its step, from 1, and its position among the step's calls, from 0."""


class Shown(NamedTuple):
    """How a run's window was shown, so that the next attempt shows it in the same way."""

    halved: int = 0
    """How often it was halved."""
    form: Form = Form.STATES


AS_IT_IS = Shown()


class Wait(NamedTuple):
    """That a call waits for the turn's caller."""

    call_key: str
    kind: DeferredToolKind

    def signal(self) -> ApprovalRequired | CallDeferred:
        """Return what the tool raised, or would have."""
        if self.kind == "approval":
            return ApprovalRequired()
        return CallDeferred(kind=self.kind)


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
        return cls.told(ToolReturnPart("", text, tool_call_id="", outcome="failed"))

    @classmethod
    def told(cls, part: ToolReturnPart) -> "Outcome":
        """Return the outcome of a call that failed: as much of its text as is stored."""
        if isinstance(part.content, str):
            part = replace(part, content=cut(storable(part.content), MAX_RESULT_BYTES))
        return cls(part)

    @classmethod
    def given(cls, given: Given) -> "Outcome | None":
        """Return the outcome that a caller gave; None: it may be run, so there is none yet."""
        match given.kind:
            case GivenKind.RESULT:
                return cls.of(given.text)
            case GivenKind.ERROR:
                return cls.failed(given.text)
            case GivenKind.DENIAL:
                text = given.text or DENIED
                return cls(ToolReturnPart("", text, tool_call_id="", outcome="denied"))
            case GivenKind.APPROVAL:
                return None

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


def wait_body(place: Place, wait: Wait) -> str:
    """Return the body of a RESULT step of a call that waits."""
    return _json({"place": place, "waits": wait.kind, "call_key": wait.call_key})


def begun_body(place: Place) -> str:
    """Return the body of a RESULT step of an approved call that was begun."""
    return _json({"place": place, "is_begun": True})


def _dumped(messages: Sequence[ModelMessage]) -> Any:
    return ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")


def _json(value: Any) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def arguments_of(call: ToolCallPart) -> str:
    """Return a call's arguments as the model wrote them; JSON, if the model wrote JSON."""
    if isinstance(call.args, str):
        return call.args
    return pydantic_core.to_json(call.args or {}).decode()


def tool_call(call: ToolCallPart, result: ToolReturnPart, step: int) -> ToolCall:
    """Return a call with its result, as it is part of an answer."""
    text = result.model_response_str(wrap_if_error=False)
    is_error = result.outcome != "success"
    return ToolCall(call.tool_call_id, call.tool_name, arguments_of(call), text, is_error, step)
