"""Distributing the tables: what is sent, to whom, and what is refused.

Citus itself cannot be installed here. Where its functions have to be called, stand-ins in SQL write
down in `citus_tables` what Citus would: they show that the statements are sent and that a second
run sends none, not that Citus takes them.
"""

from typing import Any

import psycopg
import pytest

from parley_server.storage.schema import row_security
from parley_server.storage.schema.distribution import (
    DISTRIBUTED,
    LOCAL,
    REFERENCE,
    distribute,
    planned,
)
from parley_server.storage.schema.reaching import UnsafeDatabase
from parley_server.storage.schema.tables import metadata
from support.databases import as_superuser

GROUP = 7
ALL = {
    **dict.fromkeys(DISTRIBUTED, ("distributed", "owner_id", GROUP, False)),
    **dict.fromkeys(REFERENCE, ("reference", None, 1, False)),
}
STAND_INS = """
CREATE TABLE known (name regclass PRIMARY KEY, kind text, key text, colocated integer);
CREATE VIEW citus_tables AS
    SELECT name AS table_name, kind AS citus_table_type, key AS distribution_column,
        colocated AS colocation_id FROM known;
CREATE TABLE emptied (name regclass);
CREATE FUNCTION create_distributed_table(name regclass, key text, colocate_with text) RETURNS void
    LANGUAGE sql AS $$INSERT INTO known VALUES (name, 'distributed', key, 7)$$;
CREATE FUNCTION create_reference_table(name regclass) RETURNS void
    LANGUAGE sql AS $$INSERT INTO known VALUES (name, 'reference', NULL, 1)$$;
CREATE FUNCTION truncate_local_data_after_distributing_table(name regclass) RETURNS void
    LANGUAGE plpgsql AS $$BEGIN
        EXECUTE format('TRUNCATE %s', name); INSERT INTO emptied VALUES (name);
    END$$;
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    VALUES (99999, 'citus', 10, 'public'::regnamespace, false, '13.0-1');
"""


@pytest.fixture
def coordinator_url(database_url: str) -> str:
    url = as_superuser(database_url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(STAND_INS)
    return url


def run(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql)


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(sql).fetchall()


def test_every_table_is_distributed_or_named_as_another(database_url: str) -> None:
    """Fails for a new table that nobody has thought about."""
    there = {name for (name,) in rows(database_url, "SELECT tablename FROM pg_tables "
        "WHERE schemaname = 'public'")}  # fmt: skip

    assert {*DISTRIBUTED, *REFERENCE, *LOCAL} == there
    assert {*DISTRIBUTED} == {name for name, of in metadata.tables.items() if "owner_id" in of.c}


def test_keys_begin_with_the_column_that_tables_are_distributed_by(database_url: str) -> None:
    """Primary keys, unique and exclusion constraints, indexes; foreign keys on both sides."""
    found = rows(
        database_url,
        """SELECT indrelid::regclass::text, attname FROM pg_index
           JOIN pg_class ON pg_class.oid = indrelid
           LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
           WHERE relnamespace = 'public'::regnamespace
               AND (indisunique OR indisprimary OR indisexclusion)
           UNION ALL
           SELECT conrelid::regclass::text, attname FROM pg_constraint
           CROSS JOIN LATERAL (VALUES (conrelid, conkey), (confrelid, confkey)) AS side (of, keys)
           JOIN pg_attribute ON attrelid = side.of AND attnum = keys[1]
           WHERE contype = 'f'""",
    )

    assert {*DISTRIBUTED, *REFERENCE, *LOCAL} == {table for table, _ in found}
    assert [] == [one for one in found if one[0] in DISTRIBUTED and one[1] != "owner_id"]


def test_distributing_sends_each_table_once_beside_the_first(coordinator_url: str) -> None:
    sent = distribute(coordinator_url)

    assert (
        "SELECT create_distributed_table('conversation', 'owner_id', colocate_with => 'none')"
        == sent[0]
    )
    assert (
        "SELECT create_distributed_table('turn', 'owner_id', colocate_with => 'conversation')"
        in sent
    )
    known = rows(coordinator_url, "SELECT table_name::text, citus_table_type, distribution_column, "
        "colocation_id, pg_relation_size(table_name) > 0 FROM citus_tables")  # fmt: skip
    assert ALL == {table: tuple(rest) for table, *rest in known}
    # What a table held before is nowhere but on the nodes.
    emptied = rows(coordinator_url, "SELECT name::text FROM emptied")
    assert {*ALL} == {table for (table,) in emptied}


def test_distributing_again_sends_nothing(coordinator_url: str) -> None:
    distribute(coordinator_url)

    assert [] == distribute(coordinator_url)


def test_what_a_run_that_broke_off_has_not_emptied_is_emptied_by_the_next(
    coordinator_url: str,
) -> None:
    """Fails when only new tables are: their old rows stay hidden, and no erasure reaches them."""
    at_first = "ALTER FUNCTION truncate_local_data_after_distributing_table RENAME TO later"
    run(coordinator_url, at_first)
    with pytest.raises(UnsafeDatabase, match="UndefinedFunction"):
        distribute(coordinator_url)
    assert {*ALL} == {name for (name,) in rows(coordinator_url, "SELECT name::text FROM known")}
    run(
        coordinator_url,
        "ALTER FUNCTION later RENAME TO truncate_local_data_after_distributing_table",
    )

    assert ["SELECT truncate_local_data_after_distributing_table('feed_state')"] == distribute(
        coordinator_url
    )
    assert [] == rows(coordinator_url, "SELECT FROM feed_state")
    assert [] == distribute(coordinator_url)


def test_dry_run_changes_nothing(coordinator_url: str) -> None:
    sent = distribute(coordinator_url, is_dry=True)

    assert [] == rows(coordinator_url, "SELECT * FROM citus_tables")
    assert sent == distribute(coordinator_url)


def test_table_of_a_later_release_is_put_beside_the_others() -> None:
    before = {table: of for table, of in ALL.items() if table != "turn_wait"}

    assert [
        "SELECT create_distributed_table('turn_wait', 'owner_id', colocate_with => 'conversation')",
        "SELECT truncate_local_data_after_distributing_table('turn_wait')",
    ] == planned(before)


def test_database_without_citus_is_refused_with_what_to_do(database_url: str) -> None:
    with pytest.raises(UnsafeDatabase, match=r"no Citus: install .* CREATE EXTENSION citus"):
        distribute(database_url)


def test_row_security_is_refused(coordinator_url: str) -> None:
    """Its setting is set by a function, which Citus calls on the coordinator only."""
    row_security.switch(coordinator_url, is_on=True)

    with pytest.raises(UnsafeDatabase, match="--drop-row-security"):
        distribute(coordinator_url)


@pytest.mark.parametrize(
    ("table", "found", "sentence"),
    [
        (
            "turn",
            ("distributed", "id", GROUP, False),
            "the table turn is distributed by id, not by",
        ),
        (
            "turn",
            ("reference", None, 1, False),
            "the table turn is distributed as a reference table",
        ),
        ("turn", ("distributed", "owner_id", 8, False), "turn is not co-located with conversation"),
        ("feed_state", ("distributed", "epoch", 9, False), "every node needs a copy"),
    ],
)
def test_table_that_is_distributed_otherwise_is_refused(
    table: str, found: tuple[Any, ...], sentence: str
) -> None:
    with pytest.raises(UnsafeDatabase, match=sentence):
        planned({**ALL, table: found})
