"""What the runners say, and the table that is made of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

OK, FAILED, SILENT, SKIPPED = "ok", "FAILED", "?", "-"


@dataclass
class Outcome:
    """What came of one language."""

    language: str
    skipped: str = ""
    """Why it was not run; empty: it was."""
    is_excused: bool = False
    """There is nothing to be run yet."""
    broken: str = ""
    """Why its runner could not do its work; empty: it could."""
    lines: dict[str, dict[str, object]] = field(default_factory=dict)
    """What the runner said of each scenario, by its name."""

    def read(self, output: str) -> None:
        """Take what a runner printed: a line of JSON for each scenario."""
        for line in filter(str.strip, output.splitlines()):
            try:
                told = json.loads(line)
                self.lines[told["name"]] = told
            except (ValueError, TypeError, KeyError):
                self.broken = self.broken or f"it printed what is no result: {line[:200]}"

    def of(self, scenario: str) -> str:
        if self.skipped:
            return SKIPPED
        told = self.lines.get(scenario)
        if told is None:
            return SILENT
        return OK if told.get("ok") is True else FAILED

    def problems(self, scenarios: Sequence[str]) -> list[str]:
        """Return all that is wrong, in sentences."""
        found = [f"{self.language}: {self.broken}"] if self.broken else []
        for scenario in scenarios:
            outcome = self.of(scenario)
            if outcome == FAILED:
                found.append(f"{self.language}: {scenario}: {self.lines[scenario].get('why')}")
            if outcome == SILENT:
                found.append(f"{self.language}: {scenario}: its runner says nothing of it")
        return found


def table(scenarios: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    """Return the table, scenario by language, with the sums below."""
    rows = [["scenario", *(outcome.language for outcome in outcomes)]]
    rows += [[name, *(outcome.of(name) for outcome in outcomes)] for name in scenarios]
    rows.append(["", *(_sum(scenarios, outcome) for outcome in outcomes)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _sum(scenarios: Sequence[str], outcome: Outcome) -> str:
    if outcome.skipped:
        return "skipped"
    return f"{sum(outcome.of(name) == OK for name in scenarios)} of {len(scenarios)}"


def told(scenarios: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    """Return the table, and below it what failed and what was skipped, with the reasons."""
    failed = [problem for outcome in outcomes for problem in outcome.problems(scenarios)]
    skipped = [f"{outcome.language}: {outcome.skipped}" for outcome in outcomes if outcome.skipped]
    parts = [table(scenarios, outcomes)]
    for heading, lines in (("Failed", failed), ("Skipped", skipped)):
        if lines:
            parts.append("\n  ".join([f"{heading}:", *lines]))
    return "\n\n".join(parts)


def exit_code(scenarios: Sequence[str], outcomes: Sequence[Outcome], *, is_ci: bool) -> int:
    """Return 0 if everything passed that could be run; where all is to be run, nothing else."""
    has_failed = any(outcome.problems(scenarios) for outcome in outcomes)
    is_skipped = any(outcome.skipped and not outcome.is_excused for outcome in outcomes)
    return int(has_failed or (is_ci and is_skipped))
