"""Every statement that the server can send goes to the one shard of its owner, but for those named.

The rules are `support.one_owner`'s. A statement that needs an exception and has none fails the
test, and so does an exception that no statement needs.
"""

from pathlib import Path

import pytest

from parley_server.storage.statements import sql
from support.one_owner import Rule, Volatility, breaches, volatility_of

ANY_OWNER = "looks through every owner's rows for what is due; it reads ids and times"
FEED = "the feed is off on a cluster, PARLEY_FEED_DAYS=0: transaction ids are each node's own"

EXCEPTIONS: dict[str, dict[Rule, str]] = {
    # Workers look for what is to be done, whoever's it is.
    "backlog": {Rule.OWNER: ANY_OWNER},
    "due_deletions": {Rule.OWNER: ANY_OWNER},
    "due_owners": {Rule.OWNER: ANY_OWNER},
    "due_queues": {Rule.OWNER: ANY_OWNER},
    "due_waits": {Rule.OWNER: ANY_OWNER},
    "running_erasures": {Rule.OWNER: ANY_OWNER},
    "is_settled": {Rule.FROM: "reads the coordinator's own sessions, and no table"},
    "moment": {Rule.FROM: "reads the coordinator's own clock, and no table"},
    # The feed.
    "adopt_feed": {Rule.FROM: FEED, Rule.VOLATILE: FEED},
    "feed_of_tenant": {Rule.OWNER: FEED},
    "settle_feed": {Rule.FROM: FEED},
    "trim_feed": {Rule.OWNER: FEED, Rule.FROM: FEED, Rule.RECURSIVE: FEED, Rule.CASE: FEED},
}
FILES = sorted(Path(sql.__file__).parent.glob("*.sql"))

OURS = "turn.owner_id = :owner"
WRONG = [
    (Rule.OWNER, "SELECT id FROM turn"),
    (Rule.OWNER, "SELECT id FROM turn WHERE owner_id = :owner OR id = :turn"),
    (Rule.OWNER, f"SELECT 1 FROM turn JOIN message ON message.turn_id = turn.id WHERE {OURS}"),
    (Rule.OWNER, "SELECT 1 FROM turn JOIN message ON message.owner_id = turn.owner_id"),
    (Rule.OWNER, f"WITH a AS (SELECT id FROM message) SELECT 1 FROM turn, a WHERE {OURS}"),
    (Rule.OWNER, f"SELECT 1 FROM turn WHERE {OURS} AND id IN (SELECT turn_id FROM message)"),
    (Rule.OWNER, "UPDATE turn SET attempt = 1 WHERE turn.id = :turn"),
    (Rule.OWNER, "DELETE FROM turn WHERE turn.id = :turn"),
    (Rule.OWNER, f"UPDATE turn SET attempt = 1 FROM message WHERE {OURS}"),
    (Rule.FROM, f"WITH a AS (SELECT id FROM turn WHERE {OURS}) SELECT now()"),
    (Rule.FROM, "SELECT key FROM json_each_text(:labels) AS labels(key, value)"),
    (Rule.FROM, f"WITH a AS (SELECT 1 AS b) SELECT a.b FROM turn, a WHERE {OURS}"),
    (Rule.FROM, "WITH a AS (INSERT INTO owner (owner_id) SELECT :owner RETURNING owner_id) "
        f"SELECT turn.id FROM turn, a WHERE {OURS}"),
    (Rule.FROM, "INSERT INTO owner (owner_id) SELECT :owner FROM feed_state"),
    (Rule.KEY, f"INSERT INTO owner (owner_id) SELECT turn.id FROM turn WHERE {OURS}"),
    (Rule.KEY, "INSERT INTO owner (look_time) VALUES (now())"),
    (Rule.MOVED, f"UPDATE turn SET owner_id = :other WHERE {OURS}"),
    (Rule.VOLATILE, f"UPDATE turn SET id = gen_random_uuid() WHERE {OURS}"),
    (Rule.VOLATILE, f"DELETE FROM turn WHERE {OURS} AND create_time < clock_timestamp()"),
    (Rule.VOLATILE, f"UPDATE turn SET id = not_known_here() WHERE {OURS}"),
    (Rule.STABLE, f"UPDATE turn SET attempts = jsonb_build_array(turn.attempt) WHERE {OURS}"),
    (Rule.STABLE, f"DELETE FROM turn WHERE {OURS} AND jsonb_build_array(turn.id) IS NULL"),
    (Rule.CASE, f"UPDATE turn SET end_time = COALESCE(:end_time, now()) WHERE {OURS}"),
    (Rule.CASE, f"UPDATE turn SET end_time = COALESCE(end_time, (SELECT now())) WHERE {OURS}"),
    (Rule.CASE, f"UPDATE turn SET end_time = CASE WHEN attempt > 1 THEN now() END WHERE {OURS}"),
    (Rule.RETURNING, f"UPDATE turn SET attempt = 1 WHERE {OURS} RETURNING now()"),
    (Rule.CONFLICT, "INSERT INTO owner (owner_id) VALUES (:owner) ON CONFLICT (owner_id) "
        "DO UPDATE SET look_time = now()"),
    (Rule.RECURSIVE, f"WITH RECURSIVE a AS (SELECT id FROM turn WHERE {OURS}) SELECT id FROM a"),
]  # fmt: skip
RIGHT = [
    f"SELECT id FROM turn WHERE {OURS}",
    f"SELECT 1 FROM turn JOIN message ON message.owner_id = turn.owner_id WHERE {OURS}",
    f"SELECT 1 FROM turn AS t, feed_state WHERE {OURS.replace('turn.', 't.')}",
    f"WITH a AS (SELECT id FROM turn WHERE {OURS}) "
    "INSERT INTO owner (owner_id) SELECT :owner FROM a",
    f"UPDATE turn SET end_time = now() WHERE {OURS} RETURNING turn.id",
    f"UPDATE turn SET attempts = (SELECT jsonb_build_array(turn.attempt)) WHERE {OURS}",
    f"WITH a AS (SELECT now() AS now FROM turn WHERE {OURS}) "
    f"UPDATE turn SET end_time = COALESCE(end_time, a.now) FROM a WHERE {OURS}",
    "INSERT INTO owner (owner_id) VALUES (:owner) ON CONFLICT (owner_id) "
    "DO UPDATE SET look_time = excluded.look_time",
]


@pytest.fixture(scope="module")
def functions(postgres_url: str) -> Volatility:
    return volatility_of(postgres_url)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_statement_goes_to_one_shard_or_is_excepted_by_name(
    path: Path, functions: Volatility
) -> None:
    found = {breach.rule for breach in breaches(path.read_text(), functions)}

    assert set(EXCEPTIONS.get(path.stem, {})) == found


def test_exceptions_are_of_statements_that_there_are() -> None:
    assert set() == EXCEPTIONS.keys() - {path.stem for path in FILES}
    assert len(FILES) > 80


@pytest.mark.parametrize(("rule", "text"), WRONG)
def test_wrong_statement_is_found(rule: Rule, text: str, functions: Volatility) -> None:
    assert rule in {breach.rule for breach in breaches(text, functions)}


@pytest.mark.parametrize("text", RIGHT)
def test_right_statement_breaks_nothing(text: str, functions: Volatility) -> None:
    assert [] == breaches(text, functions)
