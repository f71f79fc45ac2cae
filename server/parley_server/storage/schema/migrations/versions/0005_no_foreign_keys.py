"""Without foreign keys: statements lock the conversation that their rows belong to."""

from alembic import op

from parley_server.storage.schema.migrations.locking import lock_tables

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # The release before deletes nothing, so it relies on no key either.
    lock_tables("conversation", "turn", "message", "turn_event")
    op.drop_constraint("turn_conversation_fkey", "turn")
    op.drop_constraint("message_conversation_fkey", "message")
    op.drop_constraint("turn_event_turn_fkey", "turn_event")
    op.execute("UPDATE parley_schema SET version = 5")
