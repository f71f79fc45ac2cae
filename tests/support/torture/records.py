"""What a trial has found, as a file that the report is made of."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.torture.operations import Log

if TYPE_CHECKING:
    from support.torture.experiments import Experiment

FOLDER = Path(__file__).parents[3] / "build" / "torture"


def write(
    experiment: "Experiment",
    log: Log,
    *,
    file: str,
    is_protected: bool,
    problems: list[str],
    figures: dict[str, str],
    took_s: float,
    is_long: bool,
) -> None:
    """Write a trial down, in place of an earlier one."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    record = {
        "number": experiment.number,
        "file": file,
        "done": experiment.done,
        "holds": experiment.holds,
        "protection": experiment.protection,
        "removal": experiment.removal,
        "is_protected": is_protected,
        "is_long": is_long,
        "problems": problems,
        "figures": figures,
        "took_s": round(took_s, 1),
        "calls": dict(Counter(each.outcome.value for each in log.operations)),
        "seconds": _by_second(log),
        "takeovers": [
            (round(each.since - log.began, 2), round(each.took_s, 3)) for each in log.takeovers()
        ],
        "events": [(round(at - log.began, 2), what) for at, what in log.events],
    }
    kind = "held" if is_protected else "removed"
    path = FOLDER / f"{experiment.number:02}-{kind}.json"
    path.write_text(json.dumps(record, indent=1))


def read() -> list[dict[str, Any]]:
    """Return what has been written down, by the experiments' numbers."""
    return [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]


def _by_second(log: Log) -> list[tuple[int, int, int]]:
    """Return how many calls ended in each second: answered, refused, unknown."""
    ends = Counter((int(each.end - log.began), each.outcome.value) for each in log.operations)
    last = max((second for second, _ in ends), default=-1)
    return [
        (ends[second, "ok"], ends[second, "refused"], ends[second, "unknown"])
        for second in range(last + 1)
    ]
