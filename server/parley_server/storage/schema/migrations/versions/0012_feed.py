"""The feed of turns that ended."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("UPDATE parley_schema SET version = 12")
