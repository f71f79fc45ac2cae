"""What rows there are of an owner, whatever tables there are."""

from typing import Any

import psycopg
from psycopg import sql

from support.databases import as_superuser

_TABLES = """
SELECT table_name FROM information_schema.columns
WHERE table_schema = 'public' AND column_name = 'owner_id'
"""


def run(database_url: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """Run a statement as somebody whom no policy holds. Returns: its rows, if it has any."""
    with psycopg.connect(as_superuser(database_url)) as connection:
        cursor = connection.execute(statement.encode(), arguments)
        return cursor.fetchall() if cursor.description else []


def rows_of(database_url: str, owner: Any) -> dict[str, int]:
    """Count the rows of an owner in every table that has owners, where there are any."""
    found = {}
    with psycopg.connect(as_superuser(database_url)) as connection:
        for (table,) in connection.execute(_TABLES).fetchall():
            query = sql.SQL("SELECT count(*) FROM {} WHERE owner_id = %s")
            row = connection.execute(query.format(sql.Identifier(table)), [owner]).fetchone()
            assert row is not None
            if row[0]:
                found[table] = row[0]
    return found
