"""Experiment 10: a black hole between workers and Postgres, which goes on acknowledging."""

import asyncio

import pytest

from parley_server.storage.driver.connecting import ANSWER_MARGIN_S, STATEMENT_TIMEOUT_S
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.moved_postgres import url_of
from support.paths import Path, to_socket
from support.standbys import folder_of
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import Fleet

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

STORE_WAIT_S = 2
ENDS_S = 2 * (STATEMENT_TIMEOUT_S + ANSWER_MARGIN_S + STORE_WAIT_S)
"""To begin a turn and to end it: a statement is given up, and another connection waited for."""
SILENT_S = STATEMENT_TIMEOUT_S + ANSWER_MARGIN_S + 2
"""Connections that were silent then stay silent, and open, while new ones pass."""
CALL_S = 60

EXPERIMENT = Experiment(
    number=10,
    done="the path between workers and Postgres takes everything and passes nothing on",
    holds=f"every call ends within {ENDS_S:.0f} s, whatever its deadline; then all is as before",
    protection="an answer has a time limit of its own, beside TCP's",
    removal="no such limit",
    short_s=SILENT_S,
    long_s=6 * SILENT_S,
)


@pytest.fixture
def database_url(primary: EmbeddedPostgres) -> str:
    return primary.start()


async def attack(trial: Trial) -> None:
    without = () if trial.is_protected else ("answer_limit",)
    trial.started_within_s = 30 if trial.is_protected else 1
    async with Path(to_socket(folder_of(trial.database_url))).running() as path:
        fleet = Fleet(
            url_of(path), trial.log, without=without, store_wait_s=STORE_WAIT_S, notify="poll"
        )
        settle_s = 45 if trial.is_protected else ENDS_S - SILENT_S + 2
        async with (
            fleet.running(),
            trial.load(fleet.any, call_s=CALL_S, settle_s=settle_s) as load,
        ):
            for _ in range(int(trial.seconds / SILENT_S)):
                await load.until_answered(50)
                trial.log.note("silent")
                path.go_silent()
                await asyncio.sleep(SILENT_S)  # what is left open has had its time
                trial.log.note("passing")
                path.pass_again()
                if trial.is_protected:
                    await load.until_answered(50)
    took = [each.end - each.start for each in trial.log.operations]
    trial.figures["longest call"] = f"{max(took):.1f} s (at most {ENDS_S:.0f} s)"
    trial.expect(max(took) <= ENDS_S, f"late: a call took {max(took):.1f} s")


async def test_calls_end_in_time_when_the_path_to_postgres_is_silent(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_calls_that_wait_for_a_silent_path_are_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="answer_limit", because="late")
