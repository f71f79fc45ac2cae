"""Experiment 7: a worker is stopped past its leases, and goes on when it is overtaken."""

import asyncio
import json
import os
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from support.services import until_true
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import LEASE_S
from support.torture.load import FINAL
from support.torture.operations import Kind

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

A_ROUND_S = 4.0
TOOL_S = 0.5
LOST = "LEASE_LOST"

EXPERIMENT = Experiment(
    number=7,
    done="a worker is stopped (SIGSTOP) past its leases, overtaken, and continued",
    holds="it writes nothing more of these turns, and its tools know their attempt",
    protection="each end of a turn, step and heartbeat compares the fence",
    removal="they do not compare it",
    short_s=2 * A_ROUND_S,
    long_s=20 * A_ROUND_S,
)
KINDS = {Kind.START: 4, Kind.CHAT: 2, Kind.STREAM: 1, Kind.READ: 1}
"""Mostly turns whose caller cannot go away: their worker goes on with them by itself."""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tools write down who they were."""
    monkeypatch.setenv("TORTURE_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("TORTURE_TOOL_S", str(TOOL_S))
    (tmp_path / "notes").touch()
    return tmp_path / "notes"


async def attack(trial: Trial) -> None:
    without = () if trial.is_protected else ("fence",)
    settle_s, trial.started_within_s = (45, 30) if trial.is_protected else (4, 1)
    agent = "python:support.torture.noting:agent"
    async with (
        trial.fleet(agent=agent, without=without) as fleet,
        trial.load(
            fleet.any,
            kinds=KINDS,
            call_s=2 * LEASE_S + 1,
            conversations=12,
            settle_s=settle_s,
        ) as load,
    ):
        for number in range(int(trial.seconds / A_ROUND_S)):
            await load.until_answered(10)
            worker = fleet.workers[number % len(fleet.workers)]
            await in_a_tool(worker.process.pid)
            trial.log.note("worker stopped")
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(LEASE_S + 1)  # the lease's own time is the subject
            trial.log.note("worker continued")
            worker.signal(signal.SIGCONT)
            await load.until_answered(10)
    lost = [each for each in trial.log.operations if each.reason in (LOST, *FINAL)]
    trial.figures["calls that were told of a lost lease"] = str(len(lost))


async def in_a_tool(pid: int) -> None:
    """Wait until a worker begins a tool."""
    notes = Path(os.environ["TORTURE_NOTES"])
    seen = len(read(notes))
    await until_true(
        lambda: any(note["pid"] == pid and "is_begun" in note for note in read(notes)[seen:])
    )


def read(notes: Path) -> list[dict[str, Any]]:
    """Read the notes. The last line may not be whole yet."""
    return [json.loads(line) for line in notes.read_text().splitlines(True) if line[-1] == "\n"]


def check_notes(notes: Path) -> int:
    """Check that each attempt was told to the tools of one worker only, and count those overtaken.

    Returns: how many turns had tools in more than one worker.
    """
    workers: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for note in read(notes):
        workers[note["turn"]][note["attempt"]].add(note["pid"])
    for turn, attempts in workers.items():
        for attempt, pids in attempts.items():
            assert 1 == len(pids), f"attempt {attempt} of {turn} was told to {pids}"
    return sum(len(set().union(*of.values())) > 1 for of in workers.values())


async def test_stopped_worker_that_was_overtaken_writes_nothing(lab: Lab, notes: Path) -> None:
    trial = await lab.holds(attack)
    overtaken = check_notes(notes)
    assert overtaken, "no turn was overtaken in the midst of a tool"
    assert trial.log.events


@of_a_removal
async def test_stopped_worker_that_writes_without_a_fence_is_noticed(lab: Lab, notes: Path) -> None:
    await lab.notices(attack, without="fence", because="doubled|overlap|gap|integrity")
