"""Messages that are appended, and conversations that are forked."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("UPDATE parley_schema SET version = 7")
