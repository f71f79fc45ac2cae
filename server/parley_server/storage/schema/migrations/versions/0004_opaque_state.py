"""What a provider wants back in later turns, beside the answer it came with."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # The release before writes messages without it, and never reads it.
    op.add_column("message", sa.Column("opaque_state", sa.LargeBinary))
    op.execute("UPDATE parley_schema SET version = 4")
