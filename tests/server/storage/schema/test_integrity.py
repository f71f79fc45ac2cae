"""Every rule about rows is looked after: each breach is found, and nothing else is."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import ClientCursor

from parley_server.storage.schema import integrity, row_security
from parley_server.storage.schema.reaching import UnsafeDatabase
from support.databases import as_superuser
from support.processes import run
from support.two_owners import CONVERSATION, ENDED_TURN, OPEN_TURN, OURS, store_twins

OPEN, ENDED = f"owner_id = '{OURS}' AND id = '{OPEN_TURN}'", f"id = '{ENDED_TURN}'"
LOST = "gen_random_uuid()"
BREACHES = {
    "a turn without its conversation": f"UPDATE turn SET conversation_id = {LOST} WHERE {OPEN}",
    "a message without its conversation": "UPDATE message SET owner_id = gen_random_uuid()"
    f" WHERE owner_id = '{OURS}' AND sequence = 3",
    "a message of a turn that is neither what was asked": "UPDATE message"
    f" SET turn_id = '{ENDED_TURN}' WHERE conversation_id = '{CONVERSATION}' AND sequence = 3",
    "a message without its turn": f"UPDATE message SET turn_id = {LOST} WHERE sequence = 3",
    "an event without its turn": f"UPDATE turn_event SET turn_id = {LOST} WHERE index = 1",
    "a step without its turn, or of a turn that is answered": "UPDATE turn_step"
    f" SET turn_id = '{ENDED_TURN}' WHERE turn_id = '{OPEN_TURN}'",
    "a conversation whose messages are not 1, 2, 3": "DELETE FROM message WHERE sequence = 2",
    "a turn without its user's message": "UPDATE message SET role = 'ASSISTANT' WHERE sequence = 3",
    "an answered turn without its answer": f"UPDATE turn SET response_sequence = 9 WHERE {ENDED}",
    "an answer of a turn that is not marked as answered": "UPDATE turn SET state = 'FAILED'"
    f" WHERE {ENDED}",
    "a conversation with a lease and no open turn": "UPDATE conversation"
    f" SET lease_expires_at = NULL WHERE owner_id = '{OURS}'",
    "a conversation whose open turn neither runs nor waits in it": "UPDATE turn"
    f" SET state = 'FAILED' WHERE {OPEN}",
    "a turn that runs or waits and is not its conversation's open turn": "UPDATE conversation"
    f" SET open_turn_id = NULL WHERE owner_id = '{OURS}'",
    "a waiting turn that does not say for what": "UPDATE turn_wait SET calls = NULL",
    "what a turn has waited for, without the turn": f"UPDATE wait_due SET turn_id = {LOST}",
    "a conversation whose labels are not those": "DELETE FROM conversation_label",
    "a label, or a request that has created a conversation": "UPDATE creation"
    f" SET conversation_id = {LOST}",
    "a request that has added messages behind": "UPDATE addition SET last_sequence = 3",
    "a conversation that has more copied or appended": "UPDATE conversation"
    " SET forked_from_sequence = 4",
    "a deleted conversation that is not to be removed": "DELETE FROM deletion",
    "a conversation that an erasure has left": "UPDATE deletion SET stage = 'PURGING'"
    " WHERE stage = 'ERASING'",
    "a conversation that does not know how many started turns it has": "DELETE FROM queue_due",
    "a started turn that is in no queue": "UPDATE turn SET is_started = false",
    "a place in a queue without its turn": f"UPDATE turn_queue SET turn_id = {LOST}",
    "a conversation that is to be removed and is not deleted": "UPDATE conversation"
    " SET delete_time = NULL",
    "a day of usage that counts below zero": "UPDATE usage_day SET failed_attempts = 9",
    "a day of usage under another digest": "UPDATE usage_day SET labels = NULL",
}


def broken(url: str) -> list[str]:
    return [problem.partition(":")[0] for problem in integrity.examine(url).problems]


@pytest.fixture
def stored_url(database_url: str) -> str:
    """A database with two whole conversations."""
    with psycopg.connect(database_url, cursor_factory=ClientCursor) as connection:
        store_twins(connection)
    return database_url


def test_whole_data_breaks_no_rule(stored_url: str) -> None:
    assert integrity.Report(16, 20, 20, ()) == integrity.examine(stored_url)


def test_every_rule_has_its_breach() -> None:
    assert len(integrity.RULES) == len(BREACHES)


@pytest.mark.parametrize("rule", BREACHES)
def test_breach_is_found(stored_url: str, rule: str) -> None:
    """Fails without the rule."""
    with psycopg.connect(stored_url, autocommit=True) as connection:
        connection.execute(BREACHES[rule])

    assert any(found.startswith(rule) for found in broken(stored_url)), broken(stored_url)


def test_gap_is_found_however_it_came_to_be(stored_url: str) -> None:
    name = "a conversation whose messages are not 1, 2, 3 … up to its last sequence"
    for breach in (
        f"UPDATE conversation SET last_sequence = 4 WHERE id = '{CONVERSATION}'",
        "UPDATE message SET sequence = 0 WHERE sequence = 1",
        "DELETE FROM message",
    ):
        with psycopg.connect(stored_url, cursor_factory=ClientCursor) as connection:
            connection.execute(breach)
            connection.commit()
            assert name in broken(stored_url), breach
            connection.execute(f"TRUNCATE {', '.join(row_security.OWNED_TABLES)}")
            store_twins(connection)


def test_problem_names_some_of_many(stored_url: str) -> None:
    with psycopg.connect(stored_url, autocommit=True) as connection:
        connection.execute("DELETE FROM message WHERE conversation_id = %s", [CONVERSATION])

    problems = integrity.examine(stored_url).problems
    named = next(problem for problem in problems if "its user's message: 4 (" in problem)
    assert f"{OPEN_TURN} of owner {OURS}" in named
    assert named.endswith(", …)")


@pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
def test_time_limit_of_the_role_does_not_end_the_check(
    stored_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Fails when the role's limit holds: it is too short for whole tables."""
    slow = "SELECT '', '' FROM pg_sleep(1.5) AS slept WHERE slept::text = 'never'"
    monkeypatch.setattr(integrity, "RULES", (integrity.Rule("a slow rule", slow),))
    name = stored_url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_settings WHERE name = %s", [limit]).rowcount:
            pytest.skip(f"this Postgres has no {limit}")
        connection.execute(f"ALTER DATABASE {name} SET {limit} = '1s'")

    assert () == integrity.examine(stored_url).problems


def test_hidden_rows_are_not_taken_for_whole_ones(
    stored_url: str, walled_url: str, postgres_url: str
) -> None:
    """Fails when policies hide all rows and the answer is that all is well."""
    with pytest.raises(UnsafeDatabase, match="BYPASSRLS"):
        integrity.examine(walled_url)
    assert 16 == integrity.examine(as_superuser(stored_url)).conversations
    row_security.switch(stored_url, is_on=False, may_drop=True)


# The command


def test_command_says_that_all_is_whole(stored_url: str) -> None:
    done = run("check", "--data", PARLEY_DATABASE_URL=stored_url)

    assert (0, "") == (done.returncode, done.stdout)
    assert "No problems: 16 conversations, 20 turns, 20 messages checked." in done.stderr


def test_command_lists_problems_and_exits_with_1(stored_url: str) -> None:
    with psycopg.connect(stored_url, autocommit=True) as connection:
        connection.execute("DELETE FROM message WHERE sequence = 2")
    done = run("check", "--data", PARLEY_DATABASE_URL=stored_url)

    assert 1 == done.returncode
    assert 2 == len(done.stdout.splitlines()), done.stdout
    assert [
        "PROBLEMS: 16 conversations, 20 turns, 18 messages checked."
    ] == done.stderr.splitlines()


MAKE = """
import pathlib, sys
from parley_server.storage.embedded.postgres import EmbeddedPostgres

with EmbeddedPostgres(pathlib.Path(sys.argv[1]), say=str) as postgres:
    postgres.start()
"""


def test_command_checks_the_embedded_database(tmp_path: Path) -> None:
    """Fails when it makes one where there is none: it is to change nothing."""
    done = run("check", "--data", PARLEY_DATA_DIR=str(tmp_path))
    expected = f"PARLEY_DATA_DIR: there is no embedded database in {tmp_path}: name its folder"
    assert 1 == done.returncode
    assert expected in done.stderr
    assert [] == [*tmp_path.iterdir()]

    # In a process of its own, as the command: this one may have another release of Postgres.
    subprocess.run([sys.executable, "-c", MAKE, str(tmp_path)], check=True)
    done = run("check", "--data", PARLEY_DATA_DIR=str(tmp_path))
    assert 1 == done.returncode
    assert "no Parley schema" in done.stderr


@pytest.mark.parametrize("option", [("--liveness",), ("--address", "127.0.0.1:1")])
def test_data_and_health_exclude_each_other(option: tuple[str, ...]) -> None:
    done = run("check", "--data", *option)

    assert 1 == done.returncode
    assert "--data reads the database and asks no server" in done.stderr
