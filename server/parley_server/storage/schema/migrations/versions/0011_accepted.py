"""Turns that are accepted and run without a caller."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("UPDATE parley_schema SET version = 11")
