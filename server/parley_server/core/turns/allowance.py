"""What owners have rehearsed on this worker, so that a rehearsal is no way around their limits.

Nothing of a rehearsal is stored, so each worker knows its own alone: with several workers an owner
gets past its limits by as much as the others have let it rehearse.
"""

import time
from collections import Counter, deque
from uuid import UUID

from parley_server.core.model import Rehearsed, Usage

MINUTE_S = 60.0
DAY_S = 86_400


class Allowance:
    """Counts runs and tokens of rehearsals, by owner."""

    def __init__(self) -> None:
        self._runs: deque[tuple[float, UUID]] = deque()
        self._run_counts: Counter[UUID] = Counter()
        self._tokens: Counter[UUID] = Counter()
        self._agent_tokens: Counter[tuple[UUID, str]] = Counter()
        self._day = 0

    def begin(self, owner_id: UUID) -> None:
        """Count a run that begins now."""
        self._runs.append((time.monotonic(), owner_id))
        self._run_counts[owner_id] += 1

    def spend(self, owner_id: UUID, agent: str, usage: Usage | None) -> None:
        """Count what a run of an agent has used."""
        self._forget()
        if usage is not None:
            used = usage.input_tokens + usage.output_tokens
            self._tokens[owner_id] += used
            self._agent_tokens[owner_id, agent] += used

    def of(self, owner_id: UUID, agent: str) -> Rehearsed:
        """Return what an owner has rehearsed within the last minute, and today."""
        self._forget()
        now = time.monotonic()
        first = next((at for at, of in self._runs if of == owner_id), now)
        return Rehearsed(
            runs=self._run_counts.get(owner_id, 0),
            next_run_s=first + MINUTE_S - now,
            tokens=self._tokens.get(owner_id, 0),
            agent_tokens=self._agent_tokens.get((owner_id, agent), 0),
            day_left_s=DAY_S - time.time() % DAY_S,
        )

    def _forget(self) -> None:
        """Forget runs of more than a minute ago, and the tokens of another day."""
        while self._runs and self._runs[0][0] <= time.monotonic() - MINUTE_S:
            _, owner_id = self._runs.popleft()
            self._run_counts[owner_id] -= 1
            if not self._run_counts[owner_id]:
                del self._run_counts[owner_id]
        today = int(time.time() // DAY_S)
        if today != self._day:
            self._day = today
            self._tokens.clear()
            self._agent_tokens.clear()
