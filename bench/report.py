"""What was measured, as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan


def ratio(a: float, b: float) -> float:
    """Return a / b; not a number where b is too small to be measured, as in a smoke run."""
    return a / b if b else nan


@dataclass(frozen=True)
class Bar:
    """A figure that must not be above a bar, and should not be above a goal."""

    name: str
    measured: float
    bar: float
    goal: float | None = None

    @property
    def verdict(self) -> str:
        if isnan(self.measured):
            return "not measured"
        if self.measured > self.bar:
            return "MISSED"
        if self.goal is not None and self.measured <= self.goal:
            return "met, and the goal"
        return "met"


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns, the first one to the left."""
    cells = [list(head), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}\n")
    for number, row in enumerate(cells):
        first, *others = zip(row, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(text.rjust(wide) for text, wide in others)]))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def print_bars(bars: Sequence[Bar]) -> None:
    print_table(
        "Bars",
        ("figure", "measured", "bar", "goal", ""),
        [(bar.name, bar.measured, bar.bar, bar.goal, bar.verdict) for bar in bars],
    )


def _text(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
