"""What `make conformance` makes of what its runners say."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[3] / "clients" / "conformance" / "report.py"
SCENARIOS = ["replay", "scopes"]


@pytest.fixture(scope="module")
def report() -> Any:
    """The module, which is part of a program and of no package."""
    spec = importlib.util.spec_from_file_location("conformance_report", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def an_outcome(report: Any, output: str, **fields: Any) -> Any:
    outcome = report.Outcome("go", **fields)
    outcome.read(output)
    return outcome


REPLAY = '{"name": "replay", "ok": true, "why": "", "ms": 3}\n'
SCOPES = '{"name": "scopes", "ok": true, "why": "", "ms": 3}\n'
FAILING = '{"name": "scopes", "ok": false, "why": "step 2, code", "ms": 3}\n'


def test_exit_code_is_0_if_every_scenario_passed(report: Any) -> None:
    outcomes = [an_outcome(report, REPLAY + SCOPES)]

    assert 0 == report.exit_code(SCENARIOS, outcomes, is_ci=True)
    assert "2 of 2" in report.told(SCENARIOS, outcomes)


@pytest.mark.parametrize(
    ("output", "fields", "why"),
    [
        (REPLAY + FAILING, {}, "go: scopes: step 2, code"),
        (REPLAY, {}, "go: scopes: its runner says nothing of it"),
        ("", {}, "go: replay: its runner says nothing of it"),
        (REPLAY + SCOPES + "panic!\n", {}, "go: it printed what is no result: panic!"),
        (REPLAY + SCOPES, {"broken": "its runner ended with 1"}, "go: its runner ended with 1"),
        (REPLAY + '{"name": "scopes", "ok": "no"}\n', {}, "go: scopes: None"),
    ],
)
def test_exit_code_is_1_for_whatever_did_not_pass(
    report: Any, output: str, fields: dict[str, Any], why: str
) -> None:
    outcomes = [an_outcome(report, output, **fields)]

    assert 1 == report.exit_code(SCENARIOS, outcomes, is_ci=False)
    assert why in report.told(SCENARIOS, outcomes)


@pytest.mark.parametrize(
    ("is_ci", "is_excused", "code"),
    [(False, False, 0), (True, False, 1), (True, True, 0)],
    ids=["on one's own machine", "in CI", "in CI, without a client"],
)
def test_skipped_language_fails_where_everything_has_to_run(
    report: Any, is_ci: bool, is_excused: bool, code: int
) -> None:
    skipped = an_outcome(report, "", skipped="go not installed", is_excused=is_excused)
    outcomes = [skipped, an_outcome(report, REPLAY + SCOPES)]

    assert code == report.exit_code(SCENARIOS, outcomes, is_ci=is_ci)
    assert "Skipped:\n  go: go not installed" in report.told(SCENARIOS, outcomes)
