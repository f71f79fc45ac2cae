"""What was measured, as tables: printed at once, and gathered for the page at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

from page import Page, text_of

PAGE = Page()
"""The tables of this run."""


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
    PAGE.add(title, head, rows)
    _print(title, head, rows)


def _print(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [list(head), *([text_of(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}\n")
    for number, row in enumerate(cells):
        first, *others = zip(row, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(text.rjust(wide) for text, wide in others)]))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def print_bars(bars: Sequence[Bar]) -> None:
    head = ("figure", "measured", "bar", "goal", "")
    rows = [(bar.name, bar.measured, bar.bar, bar.goal, bar.verdict) for bar in bars]
    _print("Bars", head, rows)
    # Figures of different units cannot stand in one plot: what they use of their bars can.
    shares = [ratio(bar.measured, bar.bar) for bar in bars]
    used = "measured / bar"
    with_shares = [(*row, share) for row, share in zip(rows, shares, strict=True)]
    PAGE.add("Bars", (*head, used), with_shares, plotted=(used,))
