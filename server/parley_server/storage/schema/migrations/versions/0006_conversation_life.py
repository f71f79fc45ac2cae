"""Conversations that are created, labelled, changed and deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # Constant defaults: no row is rewritten. The release before neither reads nor fills them: it
    # still finds a conversation that is deleted, until its messages are gone.
    op.add_column(
        "conversation",
        sa.Column("revision", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    )
    op.add_column("conversation", sa.Column("labels", sa.Text))
    op.add_column("conversation", sa.Column("instructions", sa.Text))
    op.add_column("conversation", sa.Column("delete_time", sa.DateTime(timezone=True)))
    op.create_table(
        "conversation_label",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        _time("update_time"),
        sa.PrimaryKeyConstraint(
            "owner_id", "conversation_id", "key", name="conversation_label_pkey"
        ),
    )
    op.create_index(
        "conversation_label_recent_idx",
        "conversation_label",
        [
            "owner_id",
            "key",
            "value",
            sa.text("update_time DESC"),
            sa.text("conversation_id DESC"),
        ],
    )
    op.create_table(
        "creation",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "request_id", name="creation_pkey"),
    )
    op.create_index(
        "creation_owner_id_conversation_id_idx", "creation", ["owner_id", "conversation_id"]
    )
    op.create_table(
        "deletion",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        _time("due_time"),
        _time("update_time"),
        sa.Column("reached", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("owner_id", "conversation_id", name="deletion_pkey"),
        postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
    )
    op.create_index("deletion_due_time_idx", "deletion", ["due_time"])
    op.execute("UPDATE parley_schema SET version = 6")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())
