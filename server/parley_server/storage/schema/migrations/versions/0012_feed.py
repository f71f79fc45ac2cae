"""The feed of turns that ended."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "turn_feed",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("xid", sa.BigInteger, nullable=False),
        sa.Column("turn_id", sa.Uuid, nullable=False),
        sa.Column("tenant", sa.Uuid, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("error_reason", sa.Text),
        _time("end_time"),
        _time("create_time"),
        sa.PrimaryKeyConstraint("owner_id", "xid", "turn_id", name="turn_feed_pkey"),
        postgresql_with={"autovacuum_vacuum_insert_scale_factor": 0.05},
    )
    op.create_index("turn_feed_tenant_xid_turn_id_idx", "turn_feed", ["tenant", "xid", "turn_id"])
    op.create_table(
        "feed_state",
        sa.Column("is_only", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("epoch", sa.Uuid, nullable=False),
        sa.Column("system_identifier", sa.BigInteger),
        _time("begin_time"),
        sa.Column("removed_xid", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("is_only", name="feed_state_pkey"),
    )
    op.execute("INSERT INTO feed_state (epoch) VALUES (gen_random_uuid())")
    op.execute("UPDATE parley_schema SET version = 12")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())
