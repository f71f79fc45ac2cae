"""Conversations, turns, messages."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.now()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def upgrade() -> None:
    op.create_table(
        "conversation",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("preview", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("open_turn_id", sa.Uuid),
        _time("lease_expires_at", nullable=True),
        _time("create_time"),
        _time("update_time"),
        sa.PrimaryKeyConstraint("owner_id", "id", name="conversation_pkey"),
        postgresql_with={"fillfactor": 80},
    )
    op.create_index(
        "conversation_recent_idx",
        "conversation",
        ["owner_id", sa.text("update_time DESC"), sa.text("id DESC")],
    )
    op.create_table(
        "turn",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("user_sequence", sa.BigInteger, nullable=False),
        sa.Column("response_sequence", sa.BigInteger),
        sa.Column("context_first_sequence", sa.BigInteger),
        sa.Column("context_message_count", sa.Integer),
        sa.Column("context_omitted_count", sa.BigInteger),
        sa.Column("error_reason", sa.Text),
        sa.Column("error_text", sa.Text),
        _time("create_time"),
        _time("end_time", nullable=True),
        sa.PrimaryKeyConstraint("owner_id", "id", name="turn_pkey"),
        sa.UniqueConstraint("owner_id", "request_id", name="turn_owner_id_request_id_key"),
        sa.ForeignKeyConstraint(
            ["owner_id", "conversation_id"],
            ["conversation.owner_id", "conversation.id"],
            name="turn_conversation_fkey",
            ondelete="CASCADE",
        ),
        postgresql_with={"fillfactor": 80},
    )
    op.create_index(
        "turn_owner_id_conversation_id_user_sequence_idx",
        "turn",
        ["owner_id", "conversation_id", "user_sequence"],
    )
    op.create_table(
        "message",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("turn_id", sa.Uuid, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("tool_calls", sa.Text),
        sa.Column("usage", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("finish_reason", sa.Text),
        _time("create_time"),
        sa.PrimaryKeyConstraint("owner_id", "conversation_id", "sequence", name="message_pkey"),
        sa.ForeignKeyConstraint(
            ["owner_id", "conversation_id"],
            ["conversation.owner_id", "conversation.id"],
            name="message_conversation_fkey",
            ondelete="CASCADE",
        ),
    )
    schema = op.create_table(
        "parley_schema",
        sa.Column("version", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("oldest_worker", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("version", name="parley_schema_pkey"),
    )
    op.bulk_insert(schema, [{"version": 1, "oldest_worker": 1}])
