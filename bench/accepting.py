"""The part `accepting`: what it costs to accept a turn, against a turn of Chat."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import processes
from callers import Job, Result
from processes import Callers, Databases
from report import Bar, print_table, ratio
from rounds import rounds

IN_FLIGHT = 32
FULL = {"PARLEY_MAX_OPEN_CHATS": "1", "PARLEY_CHAT_TIMEOUT_S": "600", "PARLEY_DRAIN_S": "0"}
"""One started turn has the worker's only place, so that only acceptances cost anything. The worker
does not wait for it when it is stopped."""
SLOW_AGENT = "echo:3600"


class Accepting:
    def __init__(
        self,
        folder: Path,
        conversations: str,
        say: Callable[[str], None],
        *,
        rounds: int,
        turns: int,
    ) -> None:
        self._folder = folder
        self._say = say
        self._rounds = rounds
        self._job = Job(conversations, IN_FLIGHT, turns, warm_up=turns // 5)
        self.bars: list[Bar] = []
        self.failed = 0

    def measure(self, made: Databases) -> None:
        """Have a worker that answers and one that only accepts take turns."""
        found: dict[str, list[Result]] = {}
        with ExitStack() as running:
            accepted = running.enter_context(made.copied("accepted"))
            chat = processes.parley(made.parley_url, self._folder)
            start = processes.parley(accepted.parley_url, self._folder, SLOW_AGENT, FULL)
            kinds = {
                "a turn of Chat": (Callers(running.enter_context(chat), made), self._job),
                "an acceptance": (
                    Callers(running.enter_context(start), accepted),
                    replace(self._job, is_started=True),
                ),
            }
            for name in rounds("accepting", list(kinds), self._rounds, self._say):
                callers, job = kinds[name]
                result = callers.run(job)
                self.failed += result.failed
                found.setdefault(name, []).append(result)
        turns = found["a turn of Chat"]
        figures = ("turns_per_s", "p50_ms", "p99_ms", "server_cpu_ms", "postgres_cpu_ms")
        print_table(
            f"Accepting a turn, against a turn of Chat, {IN_FLIGHT} in flight",
            ("", "a second", "p50 ms", "p99 ms", "CPU server ms", "CPU Postgres ms", "CPU, ratio"),
            [
                (
                    name,
                    *(median(getattr(result, figure) for result in results) for figure in figures),
                    _ratio(results, turns),
                )
                for name, results in found.items()
            ],
        )
        measured = _ratio(found["an acceptance"], turns)
        self.bars.append(Bar("CPU of an acceptance / of a turn of Chat", measured, 0.5))


def _ratio(some: list[Result], turns: list[Result]) -> float:
    pairs = zip(some, turns, strict=True)
    return median(ratio(_cpu_ms(a), _cpu_ms(b)) for a, b in pairs)


def _cpu_ms(result: Result) -> float:
    return result.server_cpu_ms + result.postgres_cpu_ms
