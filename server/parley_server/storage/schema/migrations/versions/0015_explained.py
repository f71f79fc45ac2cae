"""What ExplainTurn says of a turn beside what was there before."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    # Without defaults: no row is rewritten. The release before neither reads nor fills them: of the
    # attempts that it makes it is unknown when they began.
    op.add_column("turn", sa.Column("instructions_digest", sa.LargeBinary))
    op.add_column("turn", sa.Column("attempt_time", sa.DateTime(timezone=True)))
    op.add_column("turn", sa.Column("attempts", JSONB))
    op.execute("UPDATE parley_schema SET version = 15")
