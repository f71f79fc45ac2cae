"""Steps of turns: what a new attempt goes on from."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("UPDATE parley_schema SET version = 10")
