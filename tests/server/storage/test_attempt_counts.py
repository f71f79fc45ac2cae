"""RECLAIM counts attempts and keeps to the maximum, on the row that it locks."""

import threading
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor, Connection

from parley_server.core import failures
from parley_server.core.errors import AttemptsExhausted
from parley_server.core.model import UNCOUNTED, FailureReason
from parley_server.storage.statements import sql
from support.two_owners import OPEN_TURN, OURS, parameters, twins, with_names  # noqa: F401

Twins = Connection[tuple[Any, ...]]


def reclaimed(connection: Twins, *, max_attempts: int = 5) -> list[tuple[Any, ...]]:
    given = parameters("RECLAIM") | {"max_attempts": max_attempts}
    return connection.execute(with_names(sql.RECLAIM), given).fetchall()


def stands(connection: Twins, **columns: Any) -> None:
    """Let our open turn stand as given, with nobody holding it."""
    connection.execute("UPDATE conversation SET lease_expires_at = now()")
    for name, value in columns.items():
        connection.execute(
            f"UPDATE turn SET {name} = %s WHERE owner_id = %s AND id = %s", [value, OURS, OPEN_TURN]
        )


def counts(connection: Twins) -> tuple[int, int]:
    found = connection.execute(
        "SELECT spent_attempts, abandoned_attempts FROM turn WHERE owner_id = %s AND id = %s",
        [OURS, OPEN_TURN],
    ).fetchone()
    assert found is not None
    return found


@pytest.mark.parametrize("reason", [*FailureReason, None])
def test_each_end_counts_but_lost_callers_and_drains(
    twins: Twins,  # noqa: F811 - the fixture
    reason: FailureReason | None,
) -> None:
    """None: its lease has passed, and nothing is written down yet."""
    if reason is None:
        stands(twins, spent_attempts=2, abandoned_attempts=1)
        expected = (3, 2)
    else:
        stands(twins, state="FAILED", error_reason=reason.value, spent_attempts=2)
        stands(twins, abandoned_attempts=1)
        expected = (2 if reason in UNCOUNTED else 3, 0)
    assert reclaimed(twins)

    assert expected == counts(twins)


@pytest.mark.parametrize(("spent", "is_taken"), [(3, True), (4, False), (7, False)])
def test_no_attempt_is_made_beyond_the_maximum(
    twins: Twins,  # noqa: F811 - the fixture
    spent: int,
    is_taken: bool,
) -> None:
    stands(twins, state="FAILED", error_reason="INTERNAL", spent_attempts=spent)

    assert is_taken == bool(reclaimed(twins, max_attempts=5))


def test_no_attempt_is_made_of_a_turn_that_is_to_be_stopped(twins: Twins) -> None:  # noqa: F811
    stands(twins, cancel_requested_time="now")

    assert [] == reclaimed(twins)


def test_takeover_records_that_the_turn_is_to_be_stopped(twins: Twins) -> None:  # noqa: F811
    """The worker that ends it may die before it does: the next one goes on with that."""
    stands(twins)
    assert twins.execute(with_names(sql.TAKE_OVER), parameters("TAKE_OVER")).fetchall()
    stands(twins)

    assert [] == reclaimed(twins)


@pytest.mark.parametrize("change", ["spent_attempts = 4", "cancel_requested_time = now()"])
def test_what_changes_before_the_lock_is_had_counts(
    twins: Twins,  # noqa: F811 - the fixture
    database_url: str,
    change: str,
) -> None:
    """Fails when the statement decides by what it read before it had the turn's lock."""
    stands(twins, state="FAILED", error_reason="INTERNAL")
    twins.commit()
    with psycopg.connect(database_url, cursor_factory=ClientCursor) as other:
        other.execute(f"UPDATE turn SET {change}")
        found: list[Any] = []
        taking = threading.Thread(target=lambda: found.append(reclaimed(twins)))
        taking.start()
        wait_for_a_lock(database_url)
        other.commit()
        taking.join(20)

    assert [[]] == found


def test_release_before_goes_on_with_turns_of_this_one(twins: Twins) -> None:  # noqa: F811
    """It neither reads nor fills the counts; the reason that it does not know is never stored."""
    assert failures.reason_of(AttemptsExhausted(OPEN_TURN, 5)) is None
    # Its RECLAIM and its claim, as they were.
    stands(twins, state="FAILED", error_reason="INTERNAL", spent_attempts=4)
    twins.execute(
        "UPDATE turn SET state = 'RUNNING', attempt = attempt + 1, cancel_requested_time = NULL,"
        " error_reason = NULL, error_text = NULL, end_time = NULL"
    )
    twins.execute(
        "INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state,"
        " attempt, user_sequence) SELECT owner_id, gen_random_uuid(), conversation_id, 'by-it',"
        " fingerprint, agent, state, attempt, user_sequence FROM turn WHERE owner_id = %s"
        " AND id = %s",
        [OURS, OPEN_TURN],
    )
    made = twins.execute(
        "SELECT spent_attempts, abandoned_attempts FROM turn WHERE request_id = 'by-it'"
    )
    assert [(0, 0)] == made.fetchall()


def wait_for_a_lock(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        while not connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ).fetchall():
            pass
