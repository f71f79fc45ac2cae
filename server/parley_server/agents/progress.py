"""What an attempt has stored and told, so that a window that is refused is shown again behind that.

A model may refuse a window only with what the turn's tools have returned. They do not run again,
and nothing is told twice: the next run goes on from the steps, as another attempt would.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from parley_server.agents.past import Past
from parley_server.core.model import AgentEvent, Spent, Step, StepKind, Steps, Text, ToolCall, Usage


class StepsSoFar:
    """The steps of a turn, with those that its run stores."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.done = list(steps.done)

    async def store(self, kind: StepKind, body: str) -> None:
        """Store one more step, as `Steps.store`."""
        await self._steps.store(kind, body)
        self.done.append(Step(len(self.done) + 1, kind, body))


@dataclass(slots=True)
class Progress:
    """What an attempt has told, in one run after another."""

    spent: Usage | None = None
    """What was used so far."""
    _calls: int = 0
    """How many tool calls were told."""
    _repeats: int = 0
    """How many of them come again."""
    _has_text: bool = False
    """Text was told behind the last call: it is in no step."""

    def begin_again(self, past: Past) -> None:
        """Expect a run that goes on from steps: it tells the calls of the last one of them."""
        self._repeats = self._calls - _count_of_calls(past.told())
        self._has_text = False

    def is_new(self, event: AgentEvent) -> bool:
        """Take an event. Returns: whether it is to be told."""
        match event:
            case Text():
                self._has_text = True
            case Spent(usage):
                self.spent = usage
            case ToolCall() if self._repeats:
                self._repeats -= 1
                return False
            case ToolCall():
                self._calls += 1
                self._has_text = False
        return True

    def ends_with(self, past: Past) -> bool:
        """Return whether steps have all that was told."""
        return not self._has_text and self._calls == _count_of_calls(past.told_in_full())


def _count_of_calls(told: Iterable[Text | ToolCall]) -> int:
    return sum(isinstance(said, ToolCall) for said in told)
