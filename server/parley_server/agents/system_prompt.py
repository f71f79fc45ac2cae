"""A user's agent keeps its own system prompt, whatever system messages a conversation holds."""

from dataclasses import dataclass
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import ReinjectSystemPrompt


@dataclass
class OwnSystemPrompt(ReinjectSystemPrompt[Any]):
    """Puts the agent's own system prompt first in every request.

    The library's capability does so only for histories without any system message, or else removes
    those that there are. Here they are the application's, and stay.
    """

    replace_existing: bool = True

    async def for_run(self, ctx: RunContext[Any]) -> ReinjectSystemPrompt[Any]:
        capability = await super().for_run(ctx)
        capability._history_parts = []  # noqa: SLF001 - what it would remove; there is no other way
        return capability
