"""Turns that wait for their caller."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "turn_wait",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("turn_id", sa.Uuid, nullable=False),
        sa.Column("digests", sa.Text, nullable=False),
        sa.Column("end_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_by", sa.Text),
        sa.Column("calls", sa.Text),
        sa.Column("content", sa.Text),
        sa.Column("tool_calls", sa.Text),
        sa.Column("usage", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("tools", sa.Text),
        sa.PrimaryKeyConstraint("owner_id", "turn_id", name="turn_wait_pkey"),
    )
    op.create_table(
        "wait_due",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("turn_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "turn_id", name="wait_due_pkey"),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
        },
    )
    op.create_index("wait_due_due_time_idx", "wait_due", ["due_time"])
    op.add_column("turn_queue", sa.Column("tools", sa.Text))
    op.add_column(
        "turn_feed",
        sa.Column("is_waiting", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.execute("UPDATE parley_schema SET version = 13")
