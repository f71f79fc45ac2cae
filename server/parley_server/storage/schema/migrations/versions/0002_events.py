"""Events of turns under way, and turns that are asked to stop."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("turn", sa.Column("cancel_requested_time", sa.DateTime(timezone=True)))
    op.create_table(
        "turn_event",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("turn_id", sa.Uuid, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("tool_call", sa.Text),
        sa.PrimaryKeyConstraint("owner_id", "turn_id", "attempt", "index", name="turn_event_pkey"),
        sa.ForeignKeyConstraint(
            ["owner_id", "turn_id"],
            ["turn.owner_id", "turn.id"],
            name="turn_event_turn_fkey",
            ondelete="CASCADE",
        ),
    )
    op.execute("UPDATE parley_schema SET version = 2")
