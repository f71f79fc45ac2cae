"""An agent that says what it was told, for tests and for load."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

from parley_server.core.attempts.window import BYTES_A_TOKEN
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, Text, Usage

ONE_PIECE = 256
"""How many characters are answered in one piece; longer texts come in several."""
PIECES = 4


class EchoAgent:
    """Answers with the text of the newest message. Deterministic, and cheap."""

    model = "echo"
    context_tokens = None

    def __init__(self, delay_s: float = 0.0) -> None:
        """Make an agent.

        Args:
            delay_s: how long it thinks before it answers, in seconds; 0: not at all.
        """
        self._delay_s = delay_s

    async def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        """Answer with the newest message. Usage counts a token for four characters."""
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        messages = run.window.messages
        said, most = messages[-1].content, run.limits.output_tokens
        text = said if most is None else said[: most * BYTES_A_TOKEN]
        for piece in _pieces(text):
            yield Text(piece)
        usage = Usage(
            input_tokens=sum(len(message.content) for message in messages) // BYTES_A_TOKEN,
            output_tokens=len(text) // BYTES_A_TOKEN,
            cached_input_tokens=0,
            model_requests=1,
        )
        reason = FinishReason.STOP if text == said else FinishReason.LENGTH
        yield Finish(reason, self.model, usage)


def _pieces(text: str) -> Iterator[str]:
    if len(text) <= ONE_PIECE:
        yield text
        return
    size = -(-len(text) // PIECES)
    for start in range(0, len(text), size):
        yield text[start : start + size]
