"""The part `overload`: what a worker still does when three times as much comes as it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import processes
from arrivals import ArrivalJob, ArrivalResult
from processes import Databases, run_callers
from report import Bar, print_table, ratio

AGENT_S = 1.0


@dataclass(frozen=True)
class OverloadSize:
    """How much the worker takes, and how long each phase is, in seconds."""

    open_chats: int = 150
    """The worker's admission. Agents take a second, so that it takes as many turns a second."""
    warm_up_s: float = 3.0
    calm_s: float = 10.0
    peak_s: float = 10.0
    overload_s: float = 15.0
    after_s: float = 10.0


ALL_OVERLOAD = OverloadSize()
QUICK_OVERLOAD = OverloadSize(calm_s=5, peak_s=5, overload_s=8, after_s=8)
SMOKE_OVERLOAD = OverloadSize(
    open_chats=20, warm_up_s=1, calm_s=1, peak_s=1, overload_s=2, after_s=1
)


class Phase(NamedTuple):
    name: str
    per_s: float
    seconds: float


class Overload:
    def __init__(
        self, size: OverloadSize, folder: Path, conversations: str, say: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._conversations = conversations
        self._say = say
        self._open_chats = size.open_chats
        capacity = size.open_chats / AGENT_S
        self._phases = [
            Phase("warm-up", capacity / 2, size.warm_up_s),
            Phase("calm", capacity / 10, size.calm_s),
            # A little below: turns take longer than their agent, so not all of it is capacity.
            Phase("peak", capacity * 0.9, size.peak_s),
            Phase("overload", capacity * 3, size.overload_s),
            Phase("afterwards", capacity / 2, size.after_s),
        ]
        self.bars: list[Bar] = []
        self.failed = 0

    def measure(self, made: Databases) -> None:
        """Have turns arrive at a tenth, at all, and at three times of what the worker takes."""
        self._say("overload: a tenth, all, three times, and half of the capacity")
        settings = {"PARLEY_MAX_OPEN_CHATS": str(self._open_chats)}
        with processes.parley(made.parley_url, self._folder, f"echo:{AGENT_S}", settings) as server:
            job = ArrivalJob(
                self._conversations,
                [(phase.per_s, phase.seconds) for phase in self._phases],
                server.port,
            )
            printed, _ = run_callers("arrivals.py", job, server)
        found = {
            phase.name: ArrivalResult(**result)
            for phase, result in zip(self._phases, printed, strict=True)
        }
        self.failed += sum(result.failed for result in found.values())
        print_table(
            f"Turns that arrive at a rate; the worker takes {self._open_chats} at once, "
            f"the agent {AGENT_S} s",
            ("phase", "turns/s offered", "answered/s", "refused", "failed", "p50 ms", "p99 ms",
             "last refusal, s"),
            [
                (phase.name, phase.per_s, result.answered_per_s, result.refused, result.failed,
                 result.p50_ms, result.p99_ms, result.last_refusal_s)
                for phase, result in zip(self._phases, found.values(), strict=True)
            ],
        )  # fmt: skip
        calm, peak, overload = found["calm"], found["peak"], found["overload"]
        self.bars += [
            Bar("peak / goodput at three times the capacity",
                ratio(peak.answered_per_s, overload.answered_per_s), 1 / 0.8),
            Bar("p99 of accepted turns, at three times the capacity / calm",
                ratio(overload.p99_ms, calm.p99_ms), 2),
            Bar("last refusal after the overload, s", found["afterwards"].last_refusal_s, 5),
        ]  # fmt: skip
