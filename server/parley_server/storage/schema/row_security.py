"""Row-level security: Postgres itself holds each statement to the owner it was sent for.

It is a second check behind the owner in every statement's WHERE (decision 0014). `migrate` creates
the policies if PARLEY_ROW_SECURITY is set, and removes them only with --drop-row-security. A server
starts only if the database and the setting agree, and if its role cannot bypass the policies. A
running worker keeps checking this, and refuses calls while it does not hold.
"""

from typing import Any

from psycopg import Connection

from parley_server.storage.driver.connection import OWNER_SETTING, Row, Statement
from parley_server.storage.schema.reaching import WORKERS_URL, UnsafeDatabase, connected

OWNED_TABLES = (
    "conversation",
    "conversation_label",
    "creation",
    "addition",
    "turn",
    "message",
    "turn_event",
    "turn_step",
    "turn_wait",
    "wait_due",
    "deletion",
    "usage_day",
    "erasure",
    "owner",
    "turn_queue",
    "queue_due",
    "turn_feed",
)
POLICY = "parley_owner"

# Once a transaction has set it, a connection has it empty for ever after, and not null.
_OWNER = f"nullif(current_setting('{OWNER_SETTING}', true), '')::uuid"

_BACKGROUND = frozenset({"deletion", "erasure", "owner", "queue_due", "turn_feed", "wait_due"})
"""Workers look through these tables for every owner, in statements that name none."""

_SWITCH_ON = (
    "DROP POLICY IF EXISTS {policy} ON {table}",
    "CREATE POLICY {policy} ON {table} USING ({is_theirs})",
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
)
_SWITCH_OFF = (
    "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
    "DROP POLICY IF EXISTS {policy} ON {table}",
)

# Names are written out, so that the same text is a statement of psycopg's, SQLAlchemy's and ours.
_TABLES = f"""
    SELECT pg_class.* FROM pg_class JOIN pg_class home ON home.oid = to_regclass('parley_schema')
    WHERE pg_class.relnamespace = home.relnamespace
        AND pg_class.relname IN ({", ".join(f"'{table}'" for table in OWNED_TABLES)})
"""  # noqa: S608 - made of constants
# Policies that permit add up, so one more is a hole in the wall.
STATE = f"""
    SELECT relname, CASE
        WHEN NOT relrowsecurity THEN 'off'
        WHEN relforcerowsecurity AND ARRAY['{POLICY}']::name[] = ARRAY(
            SELECT polname FROM pg_policy WHERE polrelid = owned.oid AND polpermissive) THEN 'on'
        ELSE 'open' END
    FROM ({_TABLES}) owned ORDER BY relname
"""  # noqa: S608 - made of constants
_EXEMPT = "SELECT FROM pg_roles WHERE (rolsuper OR rolbypassrls) AND pg_has_role(oid, 'MEMBER')"
_OWNING = f"SELECT FROM ({_TABLES}) owned WHERE pg_has_role(relowner, 'MEMBER')"

LOOK = Statement(f"""
    SELECT coalesce(bool_and(state = 'on'), false) AND NOT EXISTS ({_EXEMPT})
            AND NOT EXISTS ({_OWNING}),
        coalesce(bool_and(state = 'off'), true)
    FROM ({STATE}) AS states (name, state)
""")  # noqa: S608 - made of constants
"""Whether the policies hold this role, and whether there are none: one row."""


_STAYS_ON = (
    "the database has row security on, but PARLEY_ROW_SECURITY is not set: set it to 1, or stop "
    "the workers that use row security and remove the policies with `parley-server migrate "
    "--drop-row-security`"
)


def switch(url: str, *, is_on: bool, may_drop: bool = False) -> bool:
    """Create the policies on all tables that hold an owner's rows, or remove them.

    Args:
        url: of a database, as the role that owns its tables; with the schema, to switch them on.
        may_drop: whether existing policies may be removed.
    Returns: whether there was anything to change.
    Raises: UnsafeDatabase: it cannot be done as this role, a table is in use, or there are
        policies and they may not be dropped.
    Guarantees: all or nothing; one process at a time.
    """
    from parley_server.storage.schema.migrating import changing  # SQLAlchemy takes long to import

    wanted, statements = ("on", _SWITCH_ON) if is_on else ("off", _SWITCH_OFF)
    with changing(url) as connection:
        found = connection.exec_driver_sql(STATE).all()
        wrong = [table for table, state in found if state != wanted]
        if wrong and not is_on and not may_drop:
            raise UnsafeDatabase(_STAYS_ON)
        for table in wrong:
            for statement in statements:
                filled = statement.format(table=table, policy=POLICY, is_theirs=_is_theirs(table))
                connection.exec_driver_sql(filled)
        return bool(wrong)


def _is_theirs(table: str) -> str:
    """Return which rows of a table a statement may see and write."""
    is_theirs = f"owner_id = {_OWNER}"
    return f"{is_theirs} OR {_OWNER} IS NULL" if table in _BACKGROUND else is_theirs


def check_off(url: str, setting: str = WORKERS_URL) -> None:
    """Raise UnsafeDatabase if a database has policies, which then stay.

    Args:
        setting: where the URL is from, for errors to name it.
    Raises: DatabaseAway.
    """
    with connected(url, setting) as connection:
        if any(state != "off" for _, state in connection.execute(STATE).fetchall()):
            raise UnsafeDatabase(_STAYS_ON)


def check(connection: Connection[tuple[Any, ...]], *, is_on: bool) -> None:
    """Raise UnsafeDatabase unless the policies are as the setting says, and hold this role."""
    found = connection.execute(STATE).fetchall()
    if is_on:
        _check_wall([table for table, is_ in found if is_ != "on"])
        _check_role(connection)
    elif any(is_ != "off" for _, is_ in found):
        raise UnsafeDatabase(
            "the database has row security on, but PARLEY_ROW_SECURITY is not set, so the server "
            "could read nothing: set it to 1, or run `parley-server migrate --drop-row-security`"
        )


def check_look(seen: Row, *, is_on: bool) -> None:
    """Raise UnsafeDatabase unless what LOOK returned is as the setting says."""
    is_held, is_off = seen
    if is_on and not is_held:
        raise UnsafeDatabase(
            "PARLEY_ROW_SECURITY is set, but the policies were removed or no longer apply to this "
            "role: run `parley-server migrate` with PARLEY_ROW_SECURITY=1, or start the workers "
            "without it"
        )
    if not is_on and not is_off:
        raise UnsafeDatabase(
            "row security was switched on, but PARLEY_ROW_SECURITY is not set: start the workers "
            "with PARLEY_ROW_SECURITY=1"
        )


def _check_wall(open_tables: list[str]) -> None:
    if open_tables:
        raise UnsafeDatabase(
            "PARLEY_ROW_SECURITY is set, but Parley's policy is missing or not the only one on "
            f"{', '.join(open_tables)}: run `parley-server migrate` with PARLEY_ROW_SECURITY=1, "
            "and drop all other policies"
        )


def _check_role(connection: Connection[tuple[Any, ...]]) -> None:
    if connection.execute(_EXEMPT).fetchone() is not None:
        raise UnsafeDatabase(
            "PARLEY_ROW_SECURITY is set, but no policy restricts a superuser or a role with "
            "BYPASSRLS: name a role in PARLEY_DATABASE_URL that is neither of them and no member "
            "of one"
        )
    if connection.execute(_OWNING).fetchone() is not None:
        raise UnsafeDatabase(
            "PARLEY_ROW_SECURITY is set, but the tables' owner can switch their policies off: name "
            "the owner in PARLEY_MIGRATE_DATABASE_URL, and in PARLEY_DATABASE_URL a role that is "
            "neither the owner nor a member of it"
        )
