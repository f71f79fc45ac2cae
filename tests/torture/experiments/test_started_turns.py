"""Experiment 24: many turns are started, and their workers are killed at random.

`make test` has it too, with a few hundred turns: tests/server/test_started_faults.py.
"""

from dataclasses import replace

import psycopg
import pytest

from support.databases import as_superuser
from support.started_at_size import Size, prove
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal

pytestmark = [pytest.mark.torture, pytest.mark.timeout(5400)]

EXPERIMENT = Experiment(
    number=24,
    done="120 turns are started (LONG: 10,000), workers are killed (-9) at random",
    holds="each is answered and told by the feed once, in order within its conversation",
    protection="a turn stays in its queue, whose first is looked for once its lease is over",
    removal="queues that no worker looks at again; queues whose newest turn begins first",
    short_s=60,
    long_s=5000,
)
SHORT = Size(120, 20, (0.5, 1.0), 60, agent="echo:0.4")
LONG = Size(10_000, 1000, (0.5, 1.5), 5000)
LEFT = Size(100, 10, (0.3, 0.8), 10, agent="echo:1", without="turns.queues")
"""Turns are long, so that some are under way whenever a worker is killed."""
NEVER = (600.0, 600.0)


async def attack(trial: Trial) -> None:
    size = SHORT
    if trial.without == "turns.queues":
        size = LEFT
    elif not trial.is_protected:
        size = replace(SHORT, within_s=6, kill_s=NEVER, without=trial.without)
    elif trial.is_long:
        size = LONG
    try:
        outcome = await prove(trial.database_url, size)
        trial.figures["workers killed"] = str(outcome.kills)
        trial.figures["turns taken over"] = str(outcome.taken_over)
        trial.expect(outcome.taken_over, "idle: no turn was under way when a worker was killed")
    finally:
        with psycopg.connect(as_superuser(trial.database_url)) as connection:
            left = connection.execute(
                "SELECT FROM queue_due WHERE due_time > now() + interval '1 minute'"
            ).fetchall()
            said = connection.execute(
                "SELECT array_agg(substr(content, 2)::int ORDER BY sequence) FROM message"
                " WHERE role = 'USER' GROUP BY conversation_id"
            ).fetchall()
        trial.expect(not left, "forgotten: queues that no worker will look at")
        trial.expect(all(n == sorted(n) for (n,) in said), "order: a later turn began first")


async def test_every_started_turn_is_answered_once_and_in_order(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_turns_that_are_forgotten_with_their_worker_are_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="turns.queues", because="forgotten")


@of_a_removal
async def test_turns_out_of_order_are_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="turns.order", because="order")
