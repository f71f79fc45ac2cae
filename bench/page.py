"""What was measured, as one page of HTML: each table, beside it its plots, in plain SVG.

A plot is drawn from a table: a column of figures, with a bar for each row. Nothing is loaded from
elsewhere, and nothing in it runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path

MAX_PLOTS = 4
"""Beside one table."""
MAX_ROWS = 24
_WIDTH, _LABEL, _ROW, _VALUE = 460, 170, 20, 70
_STYLE = """
:root { color-scheme: light dark; --bar: #4a7fb5; --missed: #b5483a; --line: #8886; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; }
section { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
h2 { flex-basis: 100%; font-size: 1.05rem; margin: 1rem 0 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
figure { margin: 0; } figcaption { font-size: 12px; }
.MISSED { color: var(--missed); font-weight: bold; }
"""


@dataclass(frozen=True)
class Table:
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    plotted: tuple[str, ...] | None
    """The columns that are plotted; None: the first ones with figures that differ."""


@dataclass
class Page:
    """What is gathered while a run prints its tables."""

    tables: list[Table] = field(default_factory=list)

    def add(
        self,
        title: str,
        head: Sequence[str],
        rows: Sequence[Sequence[object]],
        plotted: tuple[str, ...] | None = None,
    ) -> None:
        self.tables.append(Table(title, tuple(head), tuple(tuple(row) for row in rows), plotted))

    def write(self, path: Path, said: str) -> None:
        """Write the page.

        Args:
            said: where and how it was measured.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.html(said), encoding="utf-8")

    def html(self, said: str) -> str:
        when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        body = "\n".join(_section(table) for table in self.tables)
        return (
            '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
            f"<title>Parley: benchmarks</title>\n<style>{_STYLE}</style>\n"
            f"<h1>Parley: benchmarks</h1>\n<p>{escape(said)}, {when}. bench/README.md says what "
            f"each figure is.</p>\n{body}\n</html>\n"
        )


def text_of(value: object) -> str:
    """Return a figure as tables show it."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _section(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}" for name in table.head)
    rows = "\n".join(f"<tr>{''.join(_cell(value) for value in row)}" for row in table.rows)
    plots = "\n".join(_figure(table, column) for column in _plotted(table))
    return (
        f"<section>\n<h2>{escape(table.title)}</h2>\n<table><thead><tr>{head}</thead>\n"
        f"<tbody>{rows}</tbody></table>\n{plots}\n</section>"
    )


def _cell(value: object) -> str:
    text = text_of(value)
    return f'<td class="{text}">{text}' if text == "MISSED" else f"<td>{escape(text)}"


def _plotted(table: Table) -> list[int]:
    """Return the columns that are plotted: figures, that differ."""
    if table.plotted is not None:
        return [table.head.index(name) for name in table.plotted] if table.rows else []
    if not 2 <= len(table.rows) <= MAX_ROWS:
        return []
    found = []
    for column in range(_labelling(table), len(table.head)):
        values = [row[column] for row in table.rows]
        numbers = [number for value in values if (number := _number(value)) is not None]
        if len(numbers) >= 2 and max(numbers) > 0 and len(set(numbers)) > 1:
            found.append(column)
    return found[:MAX_PLOTS]


def _labelling(table: Table) -> int:
    """Return how many columns at the left tell the rows apart: the first, and more if needed."""
    for count in range(1, len(table.head)):
        if len({row[:count] for row in table.rows}) == len(table.rows):
            return count
    return 1


def _number(value: object) -> float | None:
    """Return a figure that can be drawn; None: it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _figure(table: Table, column: int) -> str:
    """Draw a column: a bar for each row, from 0."""
    count = _labelling(table)
    values = [_number(row[column]) for row in table.rows]
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    wide = _WIDTH - _LABEL - _VALUE
    drawn = []
    for number, (row, value) in enumerate(zip(table.rows, values, strict=True)):
        y = number * _ROW
        label = ", ".join(text_of(cell) for cell in row[:count])
        shown = label if len(label) <= 30 else f"{label[:29]}…"
        drawn.append(
            f'<text x="{_LABEL - 6}" y="{y + 14}" text-anchor="end">{escape(shown)}'
            f"<title>{escape(label)}</title></text>"
        )
        if value is not None:
            length = wide * value / most
            drawn.append(
                f'<rect x="{_LABEL}" y="{y + 4}" width="{length:.1f}" height="{_ROW - 7}" '
                f'fill="var(--bar)"/><text x="{_LABEL + length + 4:.1f}" y="{y + 14}">'
                f"{text_of(row[column])}</text>"
            )
    tall = len(table.rows) * _ROW + 4
    name = escape(table.head[column])
    return (
        f"<figure><figcaption>{name}</figcaption>"
        f'<svg role="img" aria-label="{name}" width="{_WIDTH}" height="{tall}" '
        f'viewBox="0 0 {_WIDTH} {tall}">\n{"".join(drawn)}\n</svg></figure>'
    )
