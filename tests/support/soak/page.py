"""What a soak has measured, as one page of HTML: a plot of each figure over time, in plain SVG."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from support.soak.signs import Series

_WIDTH, _HEIGHT, _EDGE = 420, 110, 8
_STYLE = """
:root { color-scheme: light dark; --line: #4a7fb5; --axis: #8886; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1400px; }
main { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; }
table { border-collapse: collapse; } td, th { padding: .1rem .8rem .1rem 0; text-align: left; }
polyline { fill: none; stroke: var(--line); stroke-width: 1.5; }
rect { fill: none; stroke: var(--axis); }
"""


def write(
    path: Path, said: str, series: Sequence[Series], counts: Mapping[str, Mapping[str, int]]
) -> None:
    """Write the page.

    Args:
        said: what ran, where and for how long.
        counts: tables of what was done, by their titles.
    """
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    tables = "".join(_table(title, rows) for title, rows in counts.items())
    plots = "".join(_plot(one) for one in series)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Parley: soak</title>'
        f"<style>{_STYLE}</style><h1>Soak</h1><p>{escape(said)} {when}</p>"
        f"<main>{plots}</main>{tables}</html>\n"
    )


def _table(title: str, rows: Mapping[str, int]) -> str:
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{count:,}</td></tr>" for name, count in rows.items()
    )
    return f"<h2>{escape(title)}</h2><table>{lines}</table>"


def _plot(series: Series) -> str:
    most, last = max(series.figures) or 1, series.seconds[-1]
    width, height = _WIDTH - 2 * _EDGE, _HEIGHT - 2 * _EDGE
    points = " ".join(
        f"{_EDGE + width * second / last:.1f},{_HEIGHT - _EDGE - height * figure / most:.1f}"
        for second, figure in zip(series.seconds, series.figures, strict=True)
    )
    slope = series.slope()
    caption = (
        f"{escape(series.name)}: {series.figures[-1]:,.1f}, at most {most:,.1f}; "
        f"{slope:+.2%} a minute"
    )
    return (
        f'<figure><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{caption}">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}"/><polyline points="{points}"/></svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
