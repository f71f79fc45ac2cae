"""Runs any `pydantic_ai.Agent` for Parley's turns."""

import logging
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pydantic_ai
from pydantic_ai import Agent, AgentRunResultEvent, UsageLimits
from pydantic_ai.agent import AbstractAgent, AgentRunEvents
from pydantic_ai.exceptions import (
    ContentFilterError,
    OutputTokenLimitExceeded,
    UnsupportedSettingWarning,
)
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models import Model

from parley_server.agents.events import RunReader
from parley_server.agents.guard import ToolGuard
from parley_server.agents.history import Form, conversation_of, plainer, shorter
from parley_server.agents.limits import AnswerFull, holding
from parley_server.agents.model_strings import close_model
from parley_server.agents.more_tools import NO_MORE, MoreTools
from parley_server.agents.opaque_state import Provider, state_of
from parley_server.agents.past import Past
from parley_server.agents.plain_requests import PlainRequests
from parley_server.agents.progress import Progress, StepsSoFar
from parley_server.agents.provider_errors import (
    agent_error,
    is_refused,
    is_refused_for_words,
    is_too_long,
)
from parley_server.agents.step_bodies import Shown
from parley_server.agents.steps import RunSteps
from parley_server.agents.system_prompt import OwnSystemPrompt
from parley_server.agents.tracing import tracing_of
from parley_server.agents.waiting import LastResort, TurnWaits, schema_error
from parley_server.core.attempts.step_log import StepsTooLarge
from parley_server.core.attempts.transcript import MAX_TOOL_CALLS, most_bytes
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import (
    AgentEvent,
    AgentRun,
    FinishReason,
    OpaqueState,
    Step,
    WindowMessage,
)
from parley_server.core.tracing import Trace, current_trace

log = logging.getLogger("parley.agents")

CHATTY_LOGGERS = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
"""Loggers of provider libraries, which at DEBUG write whole requests."""


class PydanticAgent:
    """A `pydantic_ai.Agent` behind the port `core.ports.Agent`.

    A tool that takes a `RunContext` finds in `ctx.metadata`, as strings but for the attempt:

        call_key           of this call, the same over all attempts: the key to being idempotent
        turn_id, conversation_id, attempt, tenant, user
        traceparent        of a call that is traced, for what the tool asks of others: it names the
                           tool's own span, if Parley records traces; so is tracestate

    so that a user's agent needs no import of Parley, and can be tested without it. What a tool has
    returned is stored (`agents.steps`): a turn that failed goes on from there. A call that was cut
    short runs again, under the same key. A run that needs its caller ends with Awaiting
    (`agents.waiting`), and the next attempt goes on with what was given.

    A prompt that the model refuses for its length is sent again with half of the window, until it
    fits: how many tokens a text has is estimated, and a conversation must not end at an estimate.
    One that it refuses otherwise is sent again in plainer forms (`history.Form`), and then with
    less and less of what was said before: what is stored must not end a conversation either.
    """

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        model: Model[Any],
        *,
        context_tokens: int | None = None,
        more_tools: MoreTools | None = None,
        asked: Model[Any] | None = None,
    ) -> None:
        """Make an agent.

        Args:
            agent: a user's own, with its tools, instructions and output type.
            model: the model that the agent asks.
            context_tokens: what the model can read and write at once; None: what the library
                knows of it.
            more_tools: those of MCP servers, and rules for all of its tools.
            asked: the model, if it is another than the agent's own. None: the agent chooses.
        Raises: BadAgent: a rule cannot be followed, or names a tool that the agent has not.
        """
        _quieten()
        self._more_tools = more_tools or NO_MORE
        self._more_tools.check(agent)
        self._agent = agent
        self._model = model
        self._asked = asked
        self._context_tokens = context_tokens or model.context_window

    @classmethod
    def of_model(
        cls,
        model: Model[Any],
        *,
        context_tokens: int | None = None,
        more_tools: MoreTools | None = None,
    ) -> "PydanticAgent":
        """Return an agent without tools of its own. An answer of nothing is an answer."""
        agent = Agent(model, output_type=[str, type(None)], name=model.model_name)
        return cls(agent, model, context_tokens=context_tokens, more_tools=more_tools)

    @property
    def model(self) -> str:
        return self._model.model_name

    @property
    def context_tokens(self) -> int | None:
        return self._context_tokens

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Keep open inside the block what a user's agent has to open, such as servers of tools."""
        async with self._agent:
            yield

    async def close(self) -> None:
        """Give back the model's connections."""
        await close_model(self._model)

    def retold(self, steps: Sequence[Step]) -> Sequence[AgentEvent]:
        """Return what steps say, for a turn that goes on no more."""
        try:
            past = Past.read(steps)
        except AgentUnavailable:
            return []
        state = state_of(past.messages)
        return [*past.told_in_full(), *([OpaqueState(state)] if state is not None else [])]

    async def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        """Answer one turn.

        Raises: AgentRefused, AgentUnavailable, AgentTimeout; what the code of a user's agent raises
            outside of its tools.
        Guarantees: none of the three holds a provider's words, not even as its context.
        """
        steps = StepsSoFar(run.steps)
        run = replace(run, steps=steps)
        past = Past.read(steps.done)
        progress = Progress()
        for said in past.told():
            progress.is_new(said)
            yield said
        shown = past.shown
        messages = _halved(run.window.messages, shown.halved)
        while True:
            progress.begin_again(past)
            failure: Exception
            try:
                async with aclosing(self._answer(run, messages, past, shown, progress)) as events:
                    async for event in events:
                        if progress.is_new(event):
                            yield event
                return
            except Exception as error:
                failure = schema_error(error, run.tools) or error
            past = Past.read(steps.done)
            is_all_stored = progress.ends_with(past)
            again = _again(failure, messages, shown, past) if is_all_stored else None
            if again is None:
                raise agent_error(failure, run.turn_id) or failure
            turn_id = str(run.turn_id)
            if again[1].form is shown.form:
                log.warning("window halved", extra={"turn_id": turn_id, "left": len(again[0])})
            else:
                next_form = again[1].form.name
                log.warning("window refused", extra={"turn_id": turn_id, "next": next_form})
            messages, shown = again

    async def _answer(
        self,
        run: AgentRun,
        messages: Sequence[WindowMessage],
        past: Past,
        shown: Shown,
        progress: Progress,
    ) -> AsyncGenerator[AgentEvent, None]:
        message, history = conversation_of(messages, shown.form, Provider.of_model(self._model))
        prompt: str | None = message
        if past.messages:  # the run goes on with the calls of the last of them
            asked = ModelRequest(parts=[UserPromptPart(message)])
            prompt, history = None, [*history, asked, *past.messages]
        trace = current_trace.get()
        steps = RunSteps(run, past, shown)
        async with self._agent.run_stream_events(
            prompt,
            model=self._asked,
            message_history=history,
            instructions=run.instructions or None,
            conversation_id=str(run.conversation_id),
            metadata=_metadata(run, trace),
            model_settings={"max_retries": 0},  # the caller's retries are enough
            retries={"tools": MAX_TOOL_CALLS},  # so that only the limit on calls ends a run
            usage_limits=UsageLimits(request_limit=None),
            capabilities=[
                ToolGuard(steps, self._more_tools),
                LastResort(steps),
                OwnSystemPrompt(),
                *holding(run.limits, past),
                *([] if shown.form is Form.STATES else [PlainRequests()]),
                *tracing_of(trace),
            ],
            infer_name=False,
        ) as events:
            reader = RunReader(
                events,
                past,
                progress.spent,
                max_calls=steps.max_calls,
                max_bytes=most_bytes(run.limits),
            )
            async with aclosing(_pieces(events, reader, steps)) as pieces:
                async for piece in pieces:
                    yield piece
            for said in reader.end(self.model, steps.pending):
                yield said


async def _pieces(
    events: AgentRunEvents[Any], reader: RunReader, steps: RunSteps
) -> AsyncGenerator[AgentEvent, None]:
    """Yield what a run says until it ends, waits, or is cut short."""
    try:
        async for event in events:
            if steps.pending and isinstance(event, AgentRunResultEvent):
                break  # a user's own code has made an answer out of TurnWaits
            for piece in reader.read(event):
                yield piece
            if reader.is_full:
                break
    except TurnWaits:
        pass
    except ContentFilterError:
        reader.cut_by = FinishReason.CONTENT_FILTER
    except (AnswerFull, OutputTokenLimitExceeded, StepsTooLarge):
        reader.cut_by = FinishReason.LENGTH
    except Exception:
        for spent in reader.spent():
            yield spent
        raise


def _again(
    failure: Exception, messages: Sequence[WindowMessage], shown: Shown, past: Past
) -> tuple[Sequence[WindowMessage], Shown] | None:
    """Return another window, or form of it, for one that was refused; None: there is none."""
    fewer = shorter(messages) if is_too_long(failure) else None
    form = plainer(messages, shown.form, past.messages) if is_refused(failure) else None
    if not fewer and not form and len(messages) > 1 and is_refused_for_words(failure):
        fewer = shorter(messages)
    if fewer is not None:
        return fewer, shown._replace(halved=shown.halved + 1)
    return None if form is None else (messages, shown._replace(form=form))


def _halved(messages: Sequence[WindowMessage], times: int) -> Sequence[WindowMessage]:
    """Return a window as it was shown after it had turned out too long so many times."""
    for _ in range(times):
        messages = shorter(messages) or messages
    return messages


def _metadata(run: AgentRun, trace: Trace | None) -> dict[str, Any]:
    return {
        "turn_id": str(run.turn_id),
        "conversation_id": str(run.conversation_id),
        "attempt": run.attempt,
        "tenant": run.owner.tenant,
        "user": run.owner.user,
        **(trace.headers() if trace is not None else {}),
    }


def _quieten() -> None:
    """Keep the library from printing, and from logging what is said."""
    pydantic_ai.BANNER_ENABLED = False
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # `max_retries` is no setting of every provider's; the others do not retry by themselves.
    warnings.filterwarnings("ignore", category=UnsupportedSettingWarning)
