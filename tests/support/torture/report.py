"""`python tests/support/torture/report.py`: one page of what the last `make torture` has found.

It reads build/torture/*.json and writes build/torture.html, and build/torture.md with the same
table for docs/proof.md.
"""

import html
import os
import platform
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from support.torture import records

Record = dict[str, Any]

HELD, REMOVED = True, False
WIDTH, HEIGHT, LEFT = 640, 120, 44
COLOURS = {"answered": "#2a7", "refused": "#bbb", "unknown": "#c33"}
_FOLDER = "../tests/torture/experiments"
"""As docs/proof.md names it."""
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
table { border-collapse: collapse } td, th { border: 1px solid #ccc; padding: .3em .6em;
text-align: left; vertical-align: top } .bad { color: #c33 } .good { color: #196 }
svg { display: block; margin: .3em 0 1em } figcaption, small { color: #555 }
"""


def main() -> None:
    found = records.read()
    if not found:
        sys.exit("there is nothing to report: run `make torture` first")
    rows = _rows(found)
    folder = records.FOLDER.parent
    (folder / "torture.html").write_text(_page(rows))
    (folder / "torture.md").write_text(_markdown(rows))
    held = sum(of.get(HELD, {}).get("problems") == [] for of in rows.values())
    noticed = sum(bool(of.get(REMOVED, {}).get("problems")) for of in rows.values())
    print(
        f"{held} of {len(rows)} experiments hold, {noticed} removals are noticed: "
        f"{folder / 'torture.html'}"
    )


def _rows(found: list[Record]) -> dict[int, dict[bool, Record]]:
    rows: dict[int, dict[bool, Record]] = defaultdict(dict)
    for record in found:
        rows[record["number"]][record["is_protected"]] = record
    return dict(sorted(rows.items()))


def _heading() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} processors, {memory:.0f} GiB, Python {platform.python_version()}"
    )


def _verdict(of: dict[bool, Record]) -> tuple[str, str]:
    """Return whether it holds, and whether it is noticed that its protection is gone."""
    held, removed = of.get(HELD), of.get(REMOVED)
    return (
        "not run" if held is None else "NO" if held["problems"] else "holds",
        "not run" if removed is None else "noticed" if removed["problems"] else "NOT NOTICED",
    )


def _measured(record: Record) -> str:
    calls = sum(record["calls"].values())
    parts = [
        f"{calls} calls" if calls else "",
        *(f"{k}: {v}" for k, v in record["figures"].items()),
    ]
    return "; ".join(part for part in parts if part)


def _markdown(rows: dict[int, dict[bool, Record]]) -> str:
    lines = [
        f"{_heading()}.",
        "",
        "| # | what is done | what must hold | outcome | measured | protection | without it |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, of in rows.items():
        any_of = of.get(HELD) or of[REMOVED]
        outcome, removal = _verdict(of)
        measured = _measured(of[HELD]) if HELD in of else ""
        cells = [
            str(number),
            f"[{any_of['done']}]({_FOLDER}/{any_of['file']})",
            any_of["holds"],
            outcome,
            measured,
            any_of["protection"],
            f"{any_of['removal']}: {removal}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _page(rows: dict[int, dict[bool, Record]]) -> str:
    table, details = [], []
    for number, of in rows.items():
        any_of = of.get(HELD) or of[REMOVED]
        outcome, removal = _verdict(of)
        table.append(
            f"<tr><td><a href='#e{number}'>{number}</a><td>{_text(any_of['done'])}"
            f"<td>{_text(any_of['holds'])}<td class={_class(outcome == 'holds')}>{outcome}"
            f"<td>{_text(any_of['protection'])}"
            f"<br><small>without: {_text(any_of['removal'])}</small>"
            f"<td class={_class(removal == 'noticed')}>{removal}"
        )
        details.append(f"<h2 id=e{number}>{number}. {_text(any_of['done'])}</h2>")
        details += [_detail(of[kind]) for kind in (HELD, REMOVED) if kind in of]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Parley: torture</title>"
        f"<style>{_STYLE}</style><h1>Torture</h1><p>{_text(_heading())}.<table>"
        "<tr><th>#<th>What is done<th>What must hold<th>Outcome<th>Protection<th>Without it"
        f"{''.join(table)}</table>{''.join(details)}</html>\n"
    )


def _detail(record: Record) -> str:
    title = "As it is" if record["is_protected"] else f"Without: {record['removal']}"
    problems = "".join(f"<li>{_text(each[:300])}" for each in record["problems"])
    found = f"<ul class=bad>{problems}</ul>" if problems else "<p class=good>Nothing is wrong."
    takeovers = [seconds for _, seconds in record["takeovers"]]
    slowest = f"; longest time in doubt {max(takeovers):.1f} s" if takeovers else ""
    return (
        f"<h3>{_text(title)}</h3><p>{record['took_s']} s; {_text(_measured(record))}{slowest}"
        f"{found}{_plot(record) if record['seconds'] else ''}"
    )


def _plot(record: Record) -> str:
    """Draw calls by second, as stacked bars; what was done, as lines; takeovers, as dots."""
    seconds, takeovers = record["seconds"], record["takeovers"]
    most = max(map(sum, seconds)) or 1
    longest = max([took for _, took in takeovers], default=1) or 1
    step = WIDTH / max(len(seconds), 1)
    drawn = []
    for second, counts in enumerate(seconds):
        top = float(HEIGHT)
        for count, colour in zip(counts, COLOURS.values(), strict=True):
            height = count / most * HEIGHT
            top -= height
            if count:
                drawn.append(
                    f"<rect x={LEFT + second * step:.1f} y={top:.1f} width={step * 0.9:.1f}"
                    f" height={height:.1f} fill='{colour}'/>"
                )
    for at, what in record["events"]:
        x = LEFT + at * step
        drawn.append(
            f"<line x1={x:.1f} x2={x:.1f} y1=0 y2={HEIGHT} stroke='#333' stroke-dasharray='2 3'>"
            f"<title>{_text(what)}</title></line>"
        )
    for at, took in takeovers:
        y = HEIGHT - took / longest * (HEIGHT - 6)
        drawn.append(
            f"<circle cx={LEFT + at * step:.1f} cy={y:.1f} r=3 fill='#26c'>"
            f"<title>{took} s</title></circle>"
        )
    legend = "; ".join(f"<span style='color:{c}'>■</span> {n}" for n, c in COLOURS.items())
    events = ", ".join(sorted({what for _, what in record["events"]}))
    last = len(seconds)
    axes = ((0, 12, f"{most}/s"), (LEFT, HEIGHT + 14, "0 s"), (WIDTH, HEIGHT + 14, f"{last} s"))
    drawn += [f"<text x={x} y={y} font-size=11>{text}</text>" for x, y, text in axes]
    return (
        f"<figure><svg width={WIDTH + LEFT} height={HEIGHT + 18} role=img>{''.join(drawn)}"
        f"</svg><figcaption>{legend}; dashed: {_text(events) or 'nothing'}; "
        f"<span style='color:#26c'>●</span> calls in doubt until they were answered, at most "
        f"{longest:.1f} s</figcaption></figure>"
    )


def _class(is_good: bool) -> str:
    return "good" if is_good else "bad"


def _text(text: str) -> str:
    return html.escape(text)


if __name__ == "__main__":
    main()
