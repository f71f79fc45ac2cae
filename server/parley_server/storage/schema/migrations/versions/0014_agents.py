"""Conversations with an agent of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    # Nullable: no row is rewritten. The release before neither reads nor fills it: its turns go to
    # the agent that their callers name, or to the default one.
    op.add_column("conversation", sa.Column("agent", sa.Text))
    op.execute("UPDATE parley_schema SET version = 14")
