"""Owners: erasure and retention."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# One look into the index of conversations for each owner, however many conversations there are.
_FILL = """
    WITH RECURSIVE known AS (
        (SELECT owner_id FROM conversation ORDER BY owner_id LIMIT 1)
        UNION ALL
        SELECT (SELECT conversation.owner_id FROM conversation
            WHERE conversation.owner_id > known.owner_id ORDER BY conversation.owner_id LIMIT 1)
        FROM known WHERE known.owner_id IS NOT NULL
    )
    INSERT INTO owner (owner_id, look_time)
    SELECT owner_id, 'epoch' FROM known WHERE owner_id IS NOT NULL
"""


def upgrade() -> None:
    op.create_table(
        "erasure",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        _time("start_time"),
        sa.Column("hide_time", sa.DateTime(timezone=True)),
        sa.Column("end_time", sa.DateTime(timezone=True)),
        _count("conversations"),
        _count("messages"),
        _count("turns"),
        sa.PrimaryKeyConstraint("owner_id", "request_id", name="erasure_pkey"),
    )
    op.create_index(
        "erasure_running_idx",
        "erasure",
        ["start_time"],
        postgresql_where=sa.text("end_time IS NULL"),
    )
    op.create_table(
        "owner",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        _time("look_time"),
        sa.PrimaryKeyConstraint("owner_id", name="owner_pkey"),
    )
    op.create_index("owner_look_time_idx", "owner", ["look_time"])
    # Behind row security this sees no rows: docs/operations.md says what to run then.
    op.execute(_FILL)
    op.execute("UPDATE parley_schema SET version = 9")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def _count(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
