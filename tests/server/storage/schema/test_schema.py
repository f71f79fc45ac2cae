"""Migrations make the tables that the statements are written for; unsafe databases are refused."""

import asyncio
import re
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import integrity, migrating, version
from parley_server.storage.schema.reaching import UnsafeDatabase
from parley_server.storage.schema.tables import metadata
from parley_server.storage.schema.version import SCHEMA_VERSION
from support import paths
from support.databases import a_new_database, as_superuser
from support.services import StartService

OWNED_TABLES = {
    "addition",
    "conversation",
    "conversation_label",
    "creation",
    "deletion",
    "erasure",
    "owner",
    "message",
    "queue_due",
    "turn",
    "turn_event",
    "turn_feed",
    "turn_queue",
    "turn_step",
    "turn_wait",
    "usage_day",
    "wait_due",
}
NOT_OWNED = {
    "parley_schema": "says what the whole database is for",
    "feed_state": "says what cursors of any feed are checked with",
    "alembic_version": "is Alembic's, about the whole database",
}

MIGRATE = """
import sys
from parley_server.storage.schema import version
print("ready", flush=True)
sys.stdin.readline()
print(version.migrate(sys.argv[1]), flush=True)
"""


def engine_of(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """A database without anything in it."""
    with a_new_database(postgres_url) as url:
        yield url


def with_database(url: str, name: str) -> str:
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def tables(url: str) -> set[str]:
    found = rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in found}


def catalog(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that Postgres knows of the tables that Parley made."""
    mine = "relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic%'"
    return {
        "columns": rows(
            url,
            f"""SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
                    attgenerated, pg_get_expr(adbin, adrelid)
                FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
                LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                WHERE {mine} AND relkind = 'r' AND attnum > 0 AND NOT attisdropped ORDER BY 1, 2""",
        ),
        "constraints": rows(
            url,
            f"""SELECT relname, conname, contype, pg_get_constraintdef(pg_constraint.oid)
                FROM pg_constraint JOIN pg_class ON conrelid = pg_class.oid
                WHERE {mine} ORDER BY 1, 2""",
        ),
        "indexes": rows(
            url,
            f"""SELECT relname, pg_get_indexdef(indexrelid), indisunique, indisprimary
                FROM pg_index JOIN pg_class ON indexrelid = pg_class.oid
                WHERE {mine} ORDER BY 1""",
        ),
        "options": rows(
            url,
            f"SELECT relname, relkind, relpersistence, reloptions FROM pg_class"
            f" WHERE {mine} ORDER BY 1",
        ),
    }


# Migrations


def test_migrations_make_the_tables_and_no_others(empty_url: str) -> None:
    assert version.migrate(empty_url)

    assert OWNED_TABLES | set(NOT_OWNED) == tables(empty_url)
    assert [(SCHEMA_VERSION,)] == rows(empty_url, "SELECT version FROM parley_schema")
    version.check(empty_url)


def test_migrations_run_once(empty_url: str) -> None:
    applied = version.migrate(empty_url)

    assert sorted(applied) == applied
    assert SCHEMA_VERSION == len(applied)
    assert [] == version.migrate(empty_url)


def test_migrating_reads_a_url_as_libpq_does(empty_url: str) -> None:
    """Several hosts, and a socket by its path. Fails when SQLAlchemy reads the URL."""
    parts = {
        name: quote(str(value), safe="") for name, value in conninfo_to_dict(empty_url).items()
    }
    host = f"{parts['host']}:{parts.get('port', 5432)}"
    who = parts["user"] + (f":{parts['password']}" if "password" in parts else "")

    applied = version.migrate(f"postgresql://{who}@{host},{host}/{parts['dbname']}")

    assert SCHEMA_VERSION == len(applied)


def test_alembic_sees_no_drift_between_tables_and_migrations(database_url: str) -> None:
    """Fails when a column, an index or a constraint is only in one of the two."""
    engine = engine_of(database_url)
    options = {"compare_type": True, "compare_server_default": True}
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options)
            assert [] == compare_metadata(context, metadata)
    finally:
        engine.dispose()


def test_catalog_shows_no_drift_between_tables_and_migrations(
    database_url: str, empty_url: str
) -> None:
    """What Alembic does not compare: keys, names, orders in indexes, fill factors."""
    engine = engine_of(empty_url)
    try:
        metadata.create_all(engine)
    finally:
        engine.dispose()
    made, migrated = catalog(empty_url), catalog(database_url)

    for what in made:
        assert made[what] == migrated[what], what


@pytest.mark.slow
def test_migrations_at_once_are_applied_once(empty_url: str) -> None:
    """Fails without the advisory lock: all of them then make the same tables."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert "ready\n" == process.stdout.readline()
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        told = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()

    assert [0, 0] == [process.returncode for process in processes], told
    applied = [out.strip() for out, _ in told]
    assert 1 == applied.count("[]"), applied
    assert OWNED_TABLES | set(NOT_OWNED) == tables(empty_url)


# The data model


def test_a_migration_waits_for_another_one_however_short_the_roles_limit_is(
    empty_url: str,
) -> None:
    """Fails when a role's lock_timeout counts: docs/production.md tells to set one."""
    mark = "&" if "?" in empty_url else "?"
    hasty = f"{empty_url}{mark}options=-c%20lock_timeout%3D100ms"
    waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with ThreadPoolExecutor() as threads, psycopg.connect(empty_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [migrating._ADVISORY_LOCK])  # noqa: SLF001 - as another migration does
        migration = threads.submit(version.migrate, hasty)
        while not other.execute(waiting).rowcount and not migration.done():
            time.sleep(0.02)
        assert not wait([migration], 0.5).done
        other.execute("SELECT pg_advisory_unlock_all()")

    assert "0001" in migration.result()


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "transaction_timeout"])
def test_a_step_of_a_migration_takes_as_long_as_it_needs(empty_url: str, limit: str) -> None:
    """Fails when a role's limit counts: docs/production.md tells to set the first one."""
    if not rows(empty_url, f"SELECT FROM pg_settings WHERE name = '{limit}'"):
        pytest.skip(f"this Postgres has no {limit}")
    mark = "&" if "?" in empty_url else "?"
    with migrating.changing(f"{empty_url}{mark}options=-c%20{limit}%3D100ms") as connection:
        connection.exec_driver_sql("CREATE TABLE made (n int)")
        time.sleep(0.2)  # the step computes meanwhile
        connection.exec_driver_sql("INSERT INTO made VALUES (1)")

    assert [(1,)] == rows(empty_url, "SELECT n FROM made")


def test_every_key_begins_with_the_owner(database_url: str) -> None:
    """Fails when a table is keyed by an id alone: it cannot be distributed by owner then."""
    keys = rows(
        database_url,
        """SELECT indrelid::regclass::text, indexrelid::regclass::text, attname
           FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
           JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
           WHERE relnamespace = 'public'::regnamespace AND (indisprimary OR indisunique)""",
    )
    owned = {(table, index): first for table, index, first in keys if table not in NOT_OWNED}

    assert OWNED_TABLES == {table for table, _ in owned}
    assert {"owner_id"} == set(owned.values()), owned


def test_every_index_begins_with_the_owner(database_url: str) -> None:
    """Every statement filters on the owner, so an index that begins otherwise is for none.

    But for some, in which workers look for what is to be done, whoever's it is; and a tenant's feed
    is read for all its owners.
    """
    found = rows(
        database_url,
        """SELECT indexrelid::regclass::text, attname FROM pg_index
           JOIN pg_class ON pg_class.oid = indrelid
           LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
           WHERE relnamespace = 'public'::regnamespace""",
    )
    others = {index for index, first in found if first != "owner_id"}

    looked_through = {
        "deletion_due_time_idx",
        "erasure_running_idx",
        "owner_look_time_idx",
        "queue_due_due_time_idx",
        "turn_feed_tenant_xid_turn_id_idx",
        "wait_due_due_time_idx",
    }
    assert {
        "parley_schema_pkey",
        "feed_state_pkey",
        "alembic_version_pkc",
    } | looked_through == others


def test_there_are_no_foreign_keys(database_url: str) -> None:
    """On a sharded database a statement's parts are checked before all of them are done."""
    assert [] == rows(database_url, "SELECT conname FROM pg_constraint WHERE contype = 'f'")


def test_nothing_is_in_the_schema_that_cannot_be_distributed(database_url: str) -> None:
    """No sequences or identities, no triggers, and no columns that are made by a function."""
    triggers = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    made = "SELECT attname FROM pg_attribute WHERE attidentity <> '' OR attgenerated <> ''"

    assert [] == rows(database_url, "SELECT sequencename FROM pg_sequences")
    assert [] == rows(database_url, triggers)
    assert [] == rows(database_url, made)
    defaults = {expression for *_, expression in catalog(database_url)["columns"]}
    assert defaults <= {None, "now()", "0", "1", "false", "true"}


def test_what_a_model_wrote_is_kept_byte_for_byte(database_url: str) -> None:
    """Fails with jsonb, which sorts keys, drops doubles and refuses what is no JSON."""
    kinds = dict(
        rows(
            database_url,
            """SELECT attrelid::regclass::text, format_type(atttypid, atttypmod)
               FROM pg_attribute WHERE attname IN ('tool_calls', 'tool_call') AND attnum > 0""",
        )
    )

    assert {"message", "turn_event", "turn_wait"} == set(kinds)
    assert set(kinds.values()) <= {"text", "json"}


# Databases that cannot keep the promises


def refusal(url: str) -> str:
    """Return the sentence that a database is refused with; it says what to do."""
    with pytest.raises(UnsafeDatabase) as caught:
        version.check(url)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert ":" in sentence, "nothing to do about it"
    return sentence


def test_database_that_may_lose_what_it_wrote_is_refused(tmp_path: Path) -> None:
    """Promise 1. Fails when a setting is not looked at."""
    for name in ("fsync", "full_page_writes"):
        with EmbeddedPostgres(tmp_path, settings={name: "off"}, say=str) as postgres:
            url = postgres.start()
            version.migrate(url)
            sentence = refusal(url)
        assert f"{name} = off" in sentence
        assert "set it to on" in sentence
    with EmbeddedPostgres(tmp_path, say=str) as postgres:
        version.check(postgres.start())


def test_commit_that_does_not_wait_for_the_disk_is_refused(
    database_url: str, postgres_url: str
) -> None:
    """Promise 1. `local` waits for this disk only, which a standby that takes over has not."""
    name = database_url.partition("?")[0].rpartition("/")[2]

    for value in ("off", "local", "remote_write"):
        run(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = {value}")
        assert f"synchronous_commit = {value}" in refusal(database_url)
    for value in ("on", "remote_apply"):
        run(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = {value}")
        version.check(database_url)


def test_database_that_does_not_tell_what_is_under_way_is_refused(
    database_url: str, postgres_url: str
) -> None:
    """Fails when it is taken: an erasure would wait for no transaction, and leave rows behind."""
    name = database_url.partition("?")[0].rpartition("/")[2]
    run(as_superuser(postgres_url), f"ALTER DATABASE {name} SET track_activities = off")

    assert "track_activities = off" in refusal(database_url)


def mark(url: str, version: int, oldest_worker: int) -> None:
    """Say what the schema is, and which releases it is for."""
    run(url, f"UPDATE parley_schema SET version = {version}, oldest_worker = {oldest_worker}")


async def test_worker_does_not_start_on_an_unsafe_database(
    start_service: StartService, database_url: str, postgres_url: str
) -> None:
    """Fails when the check is left out of the start."""
    name = database_url.partition("?")[0].rpartition("/")[2]
    run(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")

    with pytest.raises(UnsafeDatabase):
        await start_service()
    run(postgres_url, f"ALTER DATABASE {name} RESET synchronous_commit")
    await (await start_service()).chat()


@pytest.mark.writes_rows
async def test_worker_does_not_start_on_a_schema_that_is_not_for_it(
    start_service: StartService, database_url: str, empty_url: str
) -> None:
    """Fails when a version is not looked at: statements then fail one by one."""
    known = SCHEMA_VERSION
    for number, oldest_worker, advice in (
        (known - 1, 1, "parley-server migrate"),
        (known + 5, known + 1, "run a newer release"),
    ):
        mark(database_url, number, oldest_worker)
        with pytest.raises(UnsafeDatabase, match=advice):
            await start_service()
        assert advice in refusal(database_url)
    with pytest.raises(UnsafeDatabase, match="parley-server migrate"):
        await start_service(database_url=empty_url)


async def test_worker_starts_on_a_newer_schema_that_suits_it(
    start_service: StartService, database_url: str
) -> None:
    """Each migration leaves the previous release working: it has to stay up meanwhile."""
    mark(database_url, SCHEMA_VERSION + 1, SCHEMA_VERSION)
    service = await start_service()

    assert "HELLO" == (await service.chat()).response


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_database_that_cannot_keep_every_text_is_refused(postgres_url: str, encoding: str) -> None:
    """Fails when it is taken: what was said comes back as something else, or as a traceback."""
    how = f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    with a_new_database(postgres_url, how) as url:
        for refuse in (version.check, version.migrate):
            with pytest.raises(UnsafeDatabase, match="ENCODING 'UTF8' TEMPLATE template0"):
                refuse(url)


class OfAnOldRelease(paths.Path):
    """A path to a server that seems to be PostgreSQL 14."""

    async def _forward(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(re.sub(rb"(server_version\0)\d\d", rb"\g<1>14", data))
            await writer.drain()


async def test_database_of_an_old_release_is_refused_before_anything_is_changed(
    empty_url: str,
) -> None:
    """Fails when only a start looks: a migration ends in SQL that such a release does not know."""
    parts = conninfo_to_dict(empty_url)
    host, port = str(parts["host"]), int(parts.get("port") or 5432)
    there = paths.to_socket(host) if host.startswith("/") else paths.to_port(port)
    async with OfAnOldRelease(there).running() as path:
        url = make_conninfo(
            empty_url, host="127.0.0.1", port=path.port, sslmode="disable", gssencmode="disable"
        )
        for command in (version.migrate, version.check, integrity.examine):
            with pytest.raises(UnsafeDatabase, match=r"PostgreSQL 15 or newer, and .* 14: up"):
                await asyncio.to_thread(command, url)

    assert set() == tables(empty_url)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ada@a,b/x?target_session_attrs=readwrite", "target_session_attrs must be one of any"),
        ("ada@localhost/x?channel_binding=on", "channel_binding must be one of disable"),
        ("ada@localhost/x?connect_timeout=5s", "connect_timeout must be a whole number"),
        ("ada:hunter@2@localhost/x", "write @ in a password as %40"),
    ],
)
def test_mistake_in_a_url_is_named_and_no_outage(url: str, sentence: str) -> None:
    """Fails when libpq finds it: a worker then waits a minute for a database that is there."""
    for command in (version.migrate, version.check):
        with pytest.raises(UnsafeDatabase, match=f"^PARLEY_DATABASE_URL.*{sentence}"):
            command(f"postgresql://{url}")


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        ("CREATE TABLE message (id int)", "tables of the same names .* create a database"),
        (
            "CREATE TABLE alembic_version AS SELECT '4f2a9c'::varchar(32) AS version_num",
            r"alembic_version is another application's.*\(4f2a9c\): create a database",
        ),
        ("DROP SCHEMA public", "search_path names no schema that exists"),
    ],
    ids=["tables", "migrations", "no schema"],
)
def test_database_of_another_application_is_refused_in_a_sentence(
    empty_url: str, there: str, sentence: str
) -> None:
    run(empty_url, there)
    before = tables(empty_url)
    with pytest.raises(UnsafeDatabase, match=sentence):
        version.migrate(empty_url)

    assert before == tables(empty_url)


def test_migrating_a_database_that_takes_no_writes_says_so(empty_url: str) -> None:
    mark = "&" if "?" in empty_url else "?"
    url = f"{empty_url}{mark}options=-c%20default_transaction_read_only%3Don"
    with pytest.raises(UnsafeDatabase, match="accepts no writes"):
        version.migrate(url)


def test_migrating_keeps_the_options_of_the_url(empty_url: str) -> None:
    """Fails when they are replaced: the tables then are in another schema than asked for."""
    run(empty_url, "CREATE SCHEMA home")
    mark = "&" if "?" in empty_url else "?"
    url = f"{empty_url}{mark}options=-c%20search_path%3Dhome"
    version.migrate(url)
    version.check(url)

    query = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'conversation'"
    assert [("home",)] == rows(empty_url, query)
