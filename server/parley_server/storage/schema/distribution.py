"""Distributing the tables over a Citus cluster: each owner's rows together, on one node.

Parley's workers talk to the coordinator, and every statement of a turn names one owner, so that
Citus can send it whole to the node that has this owner's rows (decision 0039).
"""

from typing import Any

from psycopg import Connection

from parley_server.storage.schema import row_security
from parley_server.storage.schema.reaching import WORKERS_URL, UnsafeDatabase, connected
from parley_server.storage.schema.version import check_schema

COLUMN = "owner_id"
DISTRIBUTED = row_security.OWNED_TABLES
"""The tables that hold an owner's rows. The first is distributed, the others beside it."""
REFERENCE = ("feed_state",)
"""One row, which statements join with an owner's: every node has a copy."""
LOCAL = ("parley_schema", "alembic_version")
"""Which migrations were applied: read by themselves, on the coordinator."""

_EXTENSION = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
# Of a table that Citus knows, this is the size of what is left of it on the coordinator.
_FOUND = """
    SELECT table_name::text, citus_table_type, distribution_column, colocation_id,
        pg_relation_size(table_name) > 0
    FROM citus_tables WHERE table_name = ANY (%s::text[]::regclass[])
"""
_HOW = {
    "distributed": "SELECT create_distributed_table('{table}', '{column}', "
    "colocate_with => '{with_}')",
    "reference": "SELECT create_reference_table('{table}')",
}
_EMPTIED = "SELECT truncate_local_data_after_distributing_table('{table}')"
"""Else what the table held stays on the coordinator, unseen, and no erasure reaches it."""

Found = dict[str, tuple[str, str | None, int, bool]]
"""By table that Citus knows: its type, the column that it is distributed by, its group, and whether
the coordinator still has what it held before."""


def planned(found: Found) -> list[str]:
    """Return the statements that distribute what is not distributed yet, in order.

    Args:
        found: the tables that Citus knows; empty: none is distributed.
    Raises: UnsafeDatabase: a table is distributed in another way.
    """
    first = DISTRIBUTED[0]
    group = found[first][2] if first in found else None
    to_empty = [table for table in (*DISTRIBUTED, *REFERENCE) if _is_to_empty(found.get(table))]
    statements: list[str] = []
    for table in DISTRIBUTED:
        if table not in found:
            with_ = "none" if table == first else first
            filled = _HOW["distributed"].format(table=table, column=COLUMN, with_=with_)
            statements.append(filled)
            continue
        kind, column, its_group, _ = found[table]
        if (kind, column) != ("distributed", COLUMN):
            by = f"by {column}" if kind == "distributed" else f"as a {kind} table"
            raise UnsafeDatabase(
                f"the table {table} is distributed {by}, not by {COLUMN}: call "
                f"undistribute_table('{table}') first, then run the command again"
            )
        if its_group != group:
            raise UnsafeDatabase(
                f"the table {table} is not co-located with {first}: call "
                f"update_distributed_table_colocation('{table}', colocate_with => '{first}'), "
                "then run the command again"
            )
    for table in REFERENCE:
        if table not in found:
            statements.append(_HOW["reference"].format(table=table))
        elif found[table][0] != "reference":
            raise UnsafeDatabase(
                f"the table {table} is distributed, but every node needs a copy of it: call "
                f"undistribute_table('{table}') first, then run the command again"
            )
    return statements + [_EMPTIED.format(table=table) for table in to_empty]


def _is_to_empty(found: tuple[str, str | None, int, bool] | None) -> bool:
    """Whether a table is new to Citus, or was not emptied because an earlier run broke off."""
    return found is None or found[3]


def distribute(url: str, setting: str = WORKERS_URL, *, is_dry: bool = False) -> list[str]:
    """Distribute the tables by owner, each beside the others, as far as they are not yet.

    Args:
        url: of the coordinator, as the role that owns the tables.
        setting: where the URL is from, for errors to name it.
        is_dry: whether to change nothing.
    Returns: the statements that were sent, or would be; empty: nothing was to be done.
    Raises: DatabaseAway; UnsafeDatabase: it cannot be done, in a sentence that says what to do.
    Guarantees: the tables are distributed all or none; it can be called again at any time, and then
        does what one that broke off has left.
    """
    with connected(url, setting) as connection:
        check_schema(connection)
        _check_cluster(connection)
        statements = planned(_found(connection))
    if is_dry or not statements:
        return statements
    from parley_server.storage.schema.migrating import changing  # SQLAlchemy takes long to import

    emptied = [statement for statement in statements if "truncate_local_data" in statement]
    for some in ([one for one in statements if one not in emptied], emptied):
        with changing(url) as changed:
            for statement in some:
                changed.exec_driver_sql(statement)
    return statements


def _check_cluster(connection: Connection[tuple[Any, ...]]) -> None:
    """Raise UnsafeDatabase unless the database is one that can be distributed."""
    if connection.execute(_EXTENSION).fetchone() is None:
        raise UnsafeDatabase(
            "the database has no Citus: install Citus 11 or newer on every node, set "
            "shared_preload_libraries = 'citus', run CREATE EXTENSION citus in this database on "
            "every node, and add the nodes with citus_add_node(); a single Postgres needs none of "
            "this"
        )
    states = connection.execute(row_security.STATE).fetchall()
    if any(state != "off" for _, state in states):
        raise UnsafeDatabase(
            "the database has row security on, whose setting Citus does not hand to its nodes: "
            "stop the workers and run `parley-server migrate --drop-row-security` first"
        )


def _found(connection: Connection[tuple[Any, ...]]) -> Found:
    names = [*DISTRIBUTED, *REFERENCE]
    rows = connection.execute(_FOUND, [names]).fetchall()
    return {table: (kind, column, group, is_left) for table, kind, column, group, is_left in rows}
