"""The frame of an experiment: what is done, what must hold, and what is taken away to see it fail.

An experiment is a file of tests/torture/experiments:

    EXPERIMENT = Experiment(number=1, done="…", holds="…", protection="…", removal="…", …)

    async def attack(trial: Trial) -> None:
        async with trial.fleet() as fleet, trial.load(fleet.any) as load:
            … trial.seconds …

    async def test_…_holds(lab: Lab) -> None:
        await lab.holds(attack)

    @of_a_removal
    async def test_…_is_noticed(lab: Lab) -> None:
        await lab.notices(attack, without="fence", because="doubled")

What `attack` finds wrong itself it tells with `trial.expect` or an assertion; what callers were
told is compared with the database after it. Each trial is written down for the report.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.torture import records
from support.torture.checker import check, said_back
from support.torture.fleet import Fleet
from support.torture.load import Load
from support.torture.operations import Log
from support.torture.storage import broken_rules, read_stored, until_started_turns_end

IS_LONG = os.environ.get("LONG", "") not in ("", "0")
"""`make torture LONG=1`."""

of_a_removal = pytest.mark.flaky(reruns=2, only_rerun=["AssertionError"])
"""Of a test that must notice a removal: chance may spare what has no protection, so one of three
attacks has to find it. What must hold is attacked once, and has to hold then."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A row of the report."""

    number: int
    done: str
    """What is done to the service."""
    holds: str
    """What must hold."""
    protection: str
    """What it holds by."""
    removal: str
    """How that is taken away, to see that the experiment then fails."""
    short_s: float
    long_s: float
    """How long it is attacked, without what it takes to start and to settle."""


@dataclass
class Trial:
    """One run of an experiment."""

    experiment: Experiment
    database_url: str
    seconds: float
    """How long to attack."""
    is_long: bool = False
    without: str = ""
    """The protection that is missing, by name; none: all are there."""
    answer: Callable[[str], str] = said_back
    """What the agent says to a message."""
    started_within_s: float = 30
    """How long started turns may take to end, once the load is over."""
    is_compared: bool = True
    """Whether what is stored is checked; not where owners share the ids of conversations."""
    log: Log = field(default_factory=Log)
    problems: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    """What was measured, for the report."""

    @property
    def is_protected(self) -> bool:
        """Whether nothing is missing."""
        return not self.without

    def expect(self, is_so: object, otherwise: str) -> None:
        """Take note of a problem unless something is so."""
        if not is_so:
            self.problems.append(otherwise)

    @asynccontextmanager
    async def fleet(
        self, workers: int = 2, *, without: tuple[str, ...] = (), **settings: Any
    ) -> AsyncIterator[Fleet]:
        """Run workers for the block, and at its end until started turns have ended.

        Args:
            without: what is taken out of them; see `unprotected`.
        """
        fleet = Fleet(self.database_url, self.log, without=without, **settings)
        async with fleet.running(workers):
            yield fleet
            await self.settle()

    @asynccontextmanager
    async def load(self, any_stub: Callable[[], Any], **options: Any) -> AsyncIterator[Load]:
        """Have callers talk for the block, and then until what they asked for is decided."""
        load = Load(any_stub, self.log, **options)
        async with load.running():
            yield load
        self.expect(not load.unanswered, f"stuck: {load.unanswered} requests stay undecided")

    async def settle(self) -> None:
        """Wait until started turns have ended; one that has not is a problem."""
        is_done = await until_started_turns_end(self.database_url, self.started_within_s)
        self.expect(is_done, "stuck: a started turn has not ended")

    def check(self) -> None:
        """Compare what callers were told with what is stored."""
        if self.is_compared:
            stored = read_stored(self.database_url)
            self.problems += check(self.log.operations, stored, answer=self.answer)
        self.problems += broken_rules(self.database_url)


Attack = Callable[[Trial], Awaitable[None]]


class Lab:
    """Runs an experiment's trials, each in a test of its own."""

    def __init__(self, experiment: Experiment, database_url: str, file: str = "") -> None:
        """Prepare an experiment.

        Args:
            file: where it is written, for the report.
        """
        self.experiment = experiment
        self.file = file
        self.database_url = database_url
        self.is_long = IS_LONG

    async def holds(self, attack: Attack) -> Trial:
        """Attack the service as it is.

        Asserts: nothing is wrong.
        """
        seconds = self.experiment.long_s if self.is_long else self.experiment.short_s
        trial = await self._try(attack, seconds, without="")
        assert [] == trial.problems
        return trial

    async def notices(
        self, attack: Attack, *, without: str, because: str, seconds: float | None = None
    ) -> Trial:
        """Attack a service that misses a protection; always for the short time.

        Args:
            because: how a problem begins that must be found, or several, divided by "|".
            seconds: how long; default: the experiment's short time.
        Asserts: it is found, so the experiment can fail, and fails for this reason.
        """
        trial = await self._try(attack, seconds or self.experiment.short_s, without=without)
        wanted = tuple(because.split("|"))
        assert any(each.startswith(wanted) for each in trial.problems), trial.problems
        return trial

    async def _try(self, attack: Attack, seconds: float, *, without: str) -> Trial:
        trial = Trial(
            self.experiment, self.database_url, seconds, is_long=self.is_long, without=without
        )
        try:
            await attack(trial)
        except (AssertionError, TimeoutError) as error:
            trial.problems.append(f"{type(error).__name__}: {error}")
        trial.check()
        records.write(
            self.experiment,
            trial.log,
            file=self.file,
            is_protected=trial.is_protected,
            problems=trial.problems,
            figures=trial.figures,
            took_s=time.monotonic() - trial.log.began,
            is_long=self.is_long,
        )
        return trial


@pytest.fixture
def lab(request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The experiment of this file, on a database of this test's own.

    A file whose experiment needs a server of its own has a fixture `database_url`.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # workers import `support`
    return Lab(request.module.EXPERIMENT, database_url, request.path.name)
