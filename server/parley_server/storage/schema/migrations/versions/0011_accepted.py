"""Turns that are accepted and run without a caller."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def _time(name: str) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def upgrade() -> None:
    op.add_column(
        "conversation",
        sa.Column("queue_length", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.add_column(
        "conversation",
        sa.Column("queue_number", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.add_column(
        "turn",
        sa.Column("is_started", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.create_table(
        "turn_queue",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("turn_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("expected_sequence", sa.BigInteger),
        sa.Column("tenant", sa.Uuid),
        _time("accept_time"),
        sa.PrimaryKeyConstraint("owner_id", "turn_id", name="turn_queue_pkey"),
    )
    op.create_index(
        "turn_queue_owner_id_conversation_id_position_idx",
        "turn_queue",
        ["owner_id", "conversation_id", "position"],
    )
    op.create_table(
        "queue_due",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        _time("due_time"),
        sa.Column("turns", sa.Integer, nullable=False),
        _time("accept_time"),
        sa.PrimaryKeyConstraint("owner_id", "conversation_id", name="queue_due_pkey"),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
        },
    )
    op.create_index("queue_due_due_time_idx", "queue_due", ["due_time"])
    op.execute("UPDATE parley_schema SET version = 11")
