"""Prometheus' own engine, in a program that `make deploy-tools` builds."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.deploy_tools import built


@dataclass(frozen=True)
class Page:
    """A worker's metrics, as scraped at a time, with the labels of the target."""

    at_s: int
    text: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What a query gives: an error, or series with their values."""

    error: str
    series: list[tuple[dict[str, str], float]]


def answers(pages: list[Page], queries: list[str], at_s: int) -> list[Answer]:
    """Ask the engine, which has scraped the pages. Returns: an answer for each query."""
    asked = {"pages": [vars(page) for page in pages], "queries": queries, "query_at_s": at_s}
    return [
        Answer(
            said["error"], [(s["labels"] or {}, float(s["value"])) for s in said["series"] or []]
        )
        for said in _ask(asked)["answers"]
    ]


def fires_at_s(
    rules: Path, series: list[str], step_s: int, until_s: int
) -> dict[str, tuple[int, int]]:
    """Evaluate alerts over series in the notation of promtool's unit tests.

    Returns: the alerts that fire, each with the seconds at which it does first and last.
    """
    asked = {"series": series, "step_s": step_s, "rules": str(rules), "until_s": until_s}
    return {name: (first, last) for name, (first, last) in _ask(asked)["fires_at_s"].items()}


def _ask(asked: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        (str(built("ENGINE")),), input=json.dumps(asked), capture_output=True, text=True, timeout=60
    )
    assert 0 == done.returncode, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said
