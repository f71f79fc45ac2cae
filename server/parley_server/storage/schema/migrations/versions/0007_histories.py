"""Messages that are appended, and conversations that are forked."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # The release before writes none of them, and reads appended messages like any others: one
    # without a turn has the nil UUID, so that what it expects to find is there.
    op.add_column("conversation", sa.Column("forked_from_id", sa.Uuid))
    op.add_column("conversation", sa.Column("forked_from_sequence", sa.BigInteger))
    op.add_column(
        "conversation",
        sa.Column("appended_sequence", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.create_table(
        "addition",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("first_sequence", sa.BigInteger, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "request_id", name="addition_pkey"),
    )
    op.create_index(
        "addition_owner_id_conversation_id_idx", "addition", ["owner_id", "conversation_id"]
    )
    op.execute("UPDATE parley_schema SET version = 7")
