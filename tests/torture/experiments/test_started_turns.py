"""Experiment 24: many turns are started, and their workers are killed at random.

Whole, it is `test_every_started_turn_is_answered_and_told_once_while_workers_are_killed`, which
`make test` runs. Here it is run without what it shows, and has to fail.
"""

from pathlib import Path

import psycopg
import pytest

from support import unprotected
from support.databases import as_superuser
from support.started_at_size import Size, prove

pytestmark = [pytest.mark.torture, pytest.mark.timeout(120)]

TESTS = Path(__file__).parents[2]
TURNS, CONVERSATIONS, AGENT = 100, 10, "echo:0.3"
"""Long enough for workers to be killed meanwhile, with some turns under way."""
NEVER = (600.0, 600.0)
"""No worker is killed."""


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


async def fails(database_url: str, size: Size) -> BaseException:
    """Run it with workers that lack a protection. Returns: how it failed."""
    with pytest.raises((AssertionError, TimeoutError)) as caught:
        await prove(database_url, size)
    return caught.value


async def test_turns_out_of_order_are_noticed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest turn begins first."""
    monkeypatch.setenv(unprotected.VARIABLE, "order of the queue")
    size = Size(TURNS, CONVERSATIONS, NEVER, 8, unprotected.MODULE)
    await fails(database_url, size)
    with psycopg.connect(as_superuser(database_url)) as connection:
        said = connection.execute(
            "SELECT array_agg(substr(content, 2)::int ORDER BY sequence) FROM message"
            " WHERE role = 'USER' GROUP BY conversation_id"
        ).fetchall()
    assert any(numbers != sorted(numbers) for (numbers,) in said)


async def test_turns_that_are_forgotten_with_their_worker_are_noticed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The experiment ends by itself when turns are left that no worker will look for."""
    monkeypatch.setenv(unprotected.VARIABLE, "queues of dead workers")
    size = Size(TURNS, CONVERSATIONS, (0.3, 0.8), 10, unprotected.MODULE, AGENT)
    assert isinstance(await fails(database_url, size), TimeoutError)
    with psycopg.connect(as_superuser(database_url)) as connection:
        left = connection.execute(
            "SELECT count(*) FROM queue_due WHERE due_time > now() + interval '1 minute'"
        ).fetchone()
    assert left is not None
    assert left[0] > 0
