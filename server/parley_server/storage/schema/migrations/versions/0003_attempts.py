"""How many attempts of a turn have failed in a row."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # A constant default: no row is rewritten. The release before neither reads nor fills them, so
    # the attempts that it makes do not count.
    for name in ("spent_attempts", "abandoned_attempts"):
        op.add_column(
            "turn", sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))
        )
    op.execute("UPDATE parley_schema SET version = 3")
