"""Owners: erasure and retention."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("UPDATE parley_schema SET version = 9")
