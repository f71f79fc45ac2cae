"""What turns used."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    # The release before ends attempts without counting them.
    op.add_column(
        "turn",
        sa.Column("is_counted", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.create_table(
        "usage_day",
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("labels_digest", sa.Uuid, nullable=False),
        sa.Column("slot", sa.SmallInteger, nullable=False),
        sa.Column("labels", sa.Text),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
            for name in (
                "input_tokens",
                "output_tokens",
                "cached_input_tokens",
                "model_requests",
                "turns",
                "attempts",
                "failed_attempts",
            )
        ),
        sa.PrimaryKeyConstraint(
            "owner_id", "day", "agent", "labels_digest", "slot", name="usage_day_pkey"
        ),
        postgresql_with={"fillfactor": 70},
    )
    op.execute("UPDATE parley_schema SET version = 8")
