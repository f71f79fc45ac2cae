"""The chart, rendered by the real helm, which `make deploy-tools` builds."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations, product
from typing import Any

import yaml

from support.deploy_tools import built
from support.envoys import ROOT

CHART = ROOT / "deploy" / "helm" / "parley"
Values = Mapping[str, Any]


class Refused(Exception):
    """helm has not rendered the chart: what it said."""


def values_of(name: str) -> dict[str, Any]:
    """Return a file of values that is beside the chart, in ci."""
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return values


def helm_says(*command: str, values: Values) -> str:
    """Run helm with values.

    Raises: Refused.
    """
    done = subprocess.run(
        (str(built("HELM")), *command, "--values", "-"),
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def rendered(values: Values, release: str = "parley") -> list[dict[str, Any]]:
    """Return the chart's objects, hooks with them.

    Raises: Refused: the values are wrong.
    """
    text = helm_says("template", release, str(CHART), values=values)
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def the_one(manifests: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the first object of a kind, or the one with that name."""
    return next(m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"]))


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a Deployment's or a Job's pods are."""
    pod: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return pod


def merged(*parts: Values) -> dict[str, Any]:
    """Return values on top of each other, as helm does it."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            is_map = isinstance(value, Mapping) and isinstance(whole.get(key), Mapping)
            whole[key] = merged(whole[key], value) if is_map else value
    return whole


def pairwise(factors: Mapping[str, list[Values]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return combinations in which any two choices of two factors meet, each with its name."""
    names = list(factors)
    open_pairs = {
        ((a, i), (b, j))
        for a, b in combinations(names, 2)
        for i, j in product(range(len(factors[a])), range(len(factors[b])))
    }
    while open_pairs:
        chosen = dict(min(open_pairs))
        for name in names:
            if name not in chosen:
                chosen[name] = max(
                    range(len(factors[name])),
                    key=partial(_newly_met, names, chosen, open_pairs, name),
                )
        open_pairs -= _met(names, chosen)
        label = "-".join(f"{name}{chosen[name]}" for name in names if chosen[name])
        yield label or "plain", merged(*(factors[name][chosen[name]] for name in names))


Pairs = set[tuple[tuple[str, int], tuple[str, int]]]


def _newly_met(
    names: list[str], chosen: Mapping[str, int], open_pairs: Pairs, name: str, choice: int
) -> int:
    return len(_met(names, {**chosen, name: choice}) & open_pairs)


def _met(names: list[str], chosen: Mapping[str, int]) -> Pairs:
    there = [(name, chosen[name]) for name in names if name in chosen]
    return set(combinations(there, 2))
