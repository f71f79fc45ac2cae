"""What one answer of an agent may take, as far as only the agent itself can hold it.

    output_tokens   each request tells the model how many are left; below MIN_TOKENS none is made
    tool_calls      no call beyond the limit runs (`RunSteps`); with 0 the model is told of no tool

Time and text are held by the core, for any agent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import ToolDefinition

from parley_server.agents.past import Past
from parley_server.core.attempts.window import BYTES_A_TOKEN
from parley_server.core.model import AgentLimits

MIN_TOKENS = 16
"""Providers refuse to answer in less."""


class AnswerFull(Exception):
    """The answer has no tokens left for another request."""


def holding(limits: AgentLimits, past: Past) -> list[AbstractCapability[Any]]:
    """Return what holds a run to its limits."""
    found: list[AbstractCapability[Any]] = []
    if limits.output_tokens is not None:
        found.append(OutputLimit(limits.output_tokens, past))
    if limits.tool_calls == 0:
        found.append(NoTools())
    return found


@dataclass
class OutputLimit(AbstractCapability[Any]):
    """Tells the model in each request how many tokens are left."""

    tokens: int
    past: Past

    async def prepare_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        own = [message for message in ctx.messages if message.run_id == ctx.run_id]
        left = self.tokens - spoken([*self.past.messages, *own])
        if left < MIN_TOKENS:
            raise AnswerFull
        settings = request_context.model_settings or {}
        # A user's agent may have set less.
        most = min(left, settings.get("max_tokens") or left)
        return replace(request_context, model_settings={**settings, "max_tokens": most})


def spoken(messages: Iterable[ModelMessage]) -> int:
    """Return how many tokens the responses have; an estimate where the provider does not tell."""
    responses = (message for message in messages if isinstance(message, ModelResponse))
    return sum(each.usage.output_tokens or _estimate(each) for each in responses)


def _estimate(response: ModelResponse) -> int:
    size = 0
    for part in response.parts:
        if isinstance(part, TextPart | ThinkingPart):
            size += len(part.content.encode())
        elif isinstance(part, ToolCallPart):
            size += len(part.args_as_json_str().encode())
    return -(-size // BYTES_A_TOKEN)


@dataclass
class NoTools(AbstractCapability[Any]):
    """Leaves the model without tools, the caller's included."""

    async def prepare_tools(
        self, _ctx: RunContext[Any], _tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        return []
