"""Switching row security on and off, and refusing to start where it would not hold."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest

from parley_server.storage.schema import row_security, version
from parley_server.storage.schema.reaching import UnsafeDatabase
from parley_server.storage.schema.row_security import OWNED_TABLES
from parley_server.storage.schema.tables import metadata
from support.databases import as_superuser
from support.roles import GRANT, as_role
from support.services import StartService


def run(url: str, statement: str) -> None:
    with psycopg.connect(as_superuser(url), autocommit=True) as connection:
        connection.execute(statement)


def policies(url: str) -> set[tuple[str, bool, bool, int]]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            """SELECT relname, relrowsecurity, relforcerowsecurity,
                   (SELECT count(*) FROM pg_policy WHERE polrelid = pg_class.oid)
               FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"""
        )
        return set(found.fetchall())


def refusal(url: str, *, is_on: bool) -> str:
    """Return the sentence that a database is refused with; it says what to do."""
    with pytest.raises(UnsafeDatabase) as caught:
        version.check(url, has_row_security=is_on)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert ":" in sentence, "nothing to do about it"
    return sentence


def test_every_table_that_holds_an_owners_rows_is_guarded() -> None:
    """Fails when a table is added and not named: its rows would have no wall."""
    assert set(OWNED_TABLES) == {
        table.name for table in metadata.sorted_tables if "owner_id" in table.columns
    }


def test_switch_puts_policies_on_and_takes_them_away(database_url: str) -> None:
    before = policies(database_url)

    assert row_security.switch(database_url, is_on=True)
    assert not row_security.switch(database_url, is_on=True)
    walled = {(table, True, True, 1) for table in OWNED_TABLES}
    others = {
        (table, False, False, 0) for table in ("parley_schema", "feed_state", "alembic_version")
    }
    assert walled | others == policies(database_url)

    assert row_security.switch(database_url, is_on=False, may_drop=True)
    assert not row_security.switch(database_url, is_on=False, may_drop=True)
    assert before == policies(database_url)


def test_policies_are_taken_away_only_by_a_word_that_says_so(database_url: str) -> None:
    """Fails when whoever forgets the setting switches the wall off below running workers."""
    row_security.switch(database_url, is_on=True)
    before = policies(database_url)

    with pytest.raises(UnsafeDatabase, match="migrate --drop-row-security"):
        row_security.switch(database_url, is_on=False)
    assert before == policies(database_url)
    run(database_url, "ALTER TABLE turn DISABLE ROW LEVEL SECURITY")
    with pytest.raises(UnsafeDatabase, match="migrate --drop-row-security"):
        row_security.switch(database_url, is_on=False)


def test_switch_mends_what_was_half_undone(database_url: str, walled_url: str) -> None:
    run(
        database_url,
        "ALTER TABLE turn NO FORCE ROW LEVEL SECURITY; DROP POLICY parley_owner ON message",
    )
    assert "message, turn" in refusal(walled_url, is_on=True)

    assert row_security.switch(database_url, is_on=True)
    version.check(walled_url, has_row_security=True)


def test_switch_is_refused_to_a_role_that_does_not_own_the_tables(granted_url: str) -> None:
    with pytest.raises(UnsafeDatabase, match="PARLEY_MIGRATE_DATABASE_URL"):
        row_security.switch(granted_url, is_on=True)


def test_database_without_policies_is_refused_when_they_are_asked_for(granted_url: str) -> None:
    assert "PARLEY_ROW_SECURITY=1" in refusal(granted_url, is_on=True)
    version.check(granted_url, has_row_security=False)


def test_database_with_policies_is_refused_when_none_are_asked_for(walled_url: str) -> None:
    """Fails when it is let through: every read would then be empty."""
    assert "could read nothing" in refusal(walled_url, is_on=False)
    version.check(walled_url, has_row_security=True)


@pytest.mark.parametrize(
    ("hole", "told"),
    [
        ("ALTER TABLE turn_event DISABLE ROW LEVEL SECURITY", "turn_event"),
        ("ALTER TABLE message NO FORCE ROW LEVEL SECURITY", "message"),
        ("CREATE POLICY all_of_it ON turn USING (true)", "other policies"),
        ("DROP POLICY parley_owner ON conversation", "conversation"),
    ],
)
def test_wall_with_a_hole_is_refused(
    database_url: str, walled_url: str, hole: str, told: str
) -> None:
    run(database_url, hole)

    assert told in refusal(walled_url, is_on=True)


def test_wall_may_be_made_tighter(database_url: str, walled_url: str) -> None:
    run(database_url, "CREATE POLICY tighter ON turn AS RESTRICTIVE USING (agent <> 'none')")

    version.check(walled_url, has_row_security=True)


@pytest.fixture
def role(postgres_url: str, database_url: str, walled_url: str) -> Iterator[str]:
    """One more role that may work on the tables, by name."""
    name = f"parley_other_{secrets.token_hex(4)}"
    run(database_url, f"CREATE ROLE {name} LOGIN PASSWORD 'x'; {GRANT.format(role=name)}")
    yield name
    run(database_url, f"DROP OWNED BY {name}")
    run(postgres_url, f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("power", "told"),
    [
        ("ALTER ROLE {role} SUPERUSER", "superuser"),
        ("ALTER ROLE {role} BYPASSRLS", "BYPASSRLS"),
        ("GRANT parley TO {role}", "tables' owner"),
        ("ALTER ROLE {role} NOINHERIT; GRANT parley TO {role}", "tables' owner"),
        ("GRANT parley TO {role} WITH INHERIT FALSE", "tables' owner"),
    ],
)
def test_role_that_gets_around_policies_is_refused(
    database_url: str, role: str, power: str, told: str
) -> None:
    """Fails when a way around is not looked for; becoming somebody else is one."""
    url = as_role(database_url, role, "x")
    version.check(url, has_row_security=True)
    with psycopg.connect(database_url) as connection:
        owner = connection.info.user
        if "WITH INHERIT" in power and connection.info.server_version < 160_000:
            pytest.skip("before 16, only a role says whether it inherits, as NOINHERIT does above")
    run(database_url, power.format(role=role).replace("GRANT parley", f"GRANT {owner}"))

    assert told in refusal(url, is_on=True)


def test_owner_of_the_tables_is_refused(database_url: str, walled_url: str) -> None:
    assert "tables' owner" in refusal(database_url, is_on=True)


async def test_worker_does_not_start_where_setting_and_database_differ(
    start_service: StartService, database_url: str, granted_url: str
) -> None:
    """Fails when the check is left out of the start."""
    with pytest.raises(UnsafeDatabase):
        await start_service(database_url=granted_url, row_security=True)
    row_security.switch(database_url, is_on=True)
    with pytest.raises(UnsafeDatabase):
        await start_service(database_url=granted_url)
    await (await start_service(database_url=granted_url, row_security=True)).chat()
