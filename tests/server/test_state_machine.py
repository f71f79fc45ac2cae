"""The whole service against a model of it: the tables of the turn machine, kept in memory.

Two workers on one database are called through real channels. Hypothesis chooses what callers and
agents do; agents wait at a gate until a rule lets them answer, fail, or leaves them there. After
every rule the test waits until nothing is left to happen, so that the model knows what must be.

It fails, among other things, when a claim does not test the row it locked, when a finish does not
test the fence, and when what was never answered is shown to an agent; when started turns begin in
another order, or a call's turn goes before them; when retention deletes what is in use; when the
end of a turn, or the beginning of its wait, is not told by the feed, or twice; and when a call
whose wait has ended is left without a result.
"""

import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from parley_server.storage.schema import integrity
from support.databases import as_superuser
from support.services import WITH_AND_WITHOUT_ROW_SECURITY
from support.state_machine.feed import Feed
from support.state_machine.histories import Histories
from support.state_machine.reads import Reads
from support.state_machine.retention import Retention
from support.state_machine.started import Started
from support.state_machine.turns import Turns
from support.state_machine.waiting import WaitingTurns
from support.state_machine.world import WORKERS, World

EXAMPLES = int(os.environ.get("PARLEY_TEST_EXAMPLES", "50"))
STEPS = 40


class Machine(Turns, WaitingTurns, Started, Retention, Histories, Reads, Feed):
    """All the rules."""

    def teardown(self) -> None:
        """Let everything end, and read it all once more."""
        try:
            self.world.do(self._end())
        finally:
            self.world.do(self.world.clear())

    async def _end(self) -> None:
        while self.model.runs or self._waiting():
            if self.model.runs:
                await self._lets_go(self.model.runs[0], "")
            elif (turn := self._waiting()[0].waiting_turn) is not None:
                await self.stops_waiting(turn)
        assert {True} >= {call.done() for call in self.world.calls}
        for worker, owner in itertools.product(WORKERS, self._owners()):
            await self.read_all(owner, worker, newest_first=False, after=0)
            await self.feed_is_whole(owner, worker)


@pytest.mark.slow
@pytest.mark.timeout(300 if EXAMPLES <= 60 else 0)
@WITH_AND_WITHOUT_ROW_SECURITY
def test_service_behaves_as_its_model(
    database_url: str, usual: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What nobody signals, a lease that passes, is looked for more often: examples become shorter.
    monkeypatch.setattr("parley_server.core.bells.LOOK_S", 0.03)
    monkeypatch.setattr("parley_server.core.bells.LOOK_WITH_SIGNALS_S", 0.03)
    # Who runs beside whom is not for the model to say: suspects do not wait for each other.
    monkeypatch.setattr("parley_server.core.turns.suspects.WAIT_S", 0.0)
    monkeypatch.setattr("parley_server.core.turns.suspects.REPEATED_WAIT_S", 0.0)
    # A cancel whose signal is lost stays unnoticed: nobody looks, not even after a gap in the
    # signals, which workers that have just met, or a slow machine, may have at any time.
    monkeypatch.setattr("parley_server.core.attempts.keeping.CANCEL_LOOK_S", 3600.0)
    monkeypatch.setattr("parley_server.core.attempts.keeping.Keeping.missed", lambda _: None)
    world = World(database_url, usual)
    try:
        world.do(world.start())
        machine = type("ServiceMachine", (Machine,), {"world": world})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                # What never comes takes SETTLED_S to be missed: shrinking would take many minutes.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        world.close()
    assert () == integrity.examine(as_superuser(database_url)).problems
