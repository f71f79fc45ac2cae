"""The tables, as SQLAlchemy sees them.

Every primary key and every unique index begins with `owner_id`, so that the schema can be
distributed by owner. There are no foreign keys: each statement locks the conversation that its rows
belong to, and `integrity` says what must hold (decision 0022). Where a column is text holding JSON,
it is so on purpose: it keeps byte for byte what a model wrote, and its length can be asked for
without reading it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable,
        server_default=None if nullable else func.now(),
    )


conversation = Table(
    "conversation",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("preview", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("open_turn_id", Uuid),
    _time("lease_expires_at", nullable=True),
    _time("create_time"),
    # Set by claims and appends only: finish and heartbeat stay off the index, and their updates in
    # the page.
    # The epoch once the conversation is deleted: lists end before it.
    _time("update_time"),
    Column("revision", BigInteger, nullable=False, server_default=text("1")),
    # A JSON object of texts. `conversation_label` has the same, for lists.
    Column("labels", Text),
    Column("instructions", Text),
    _time("delete_time", nullable=True),
    # Whom turns are given to whose callers name nobody. Null: the default agent.
    Column("agent", Text),
    # Of a fork: whose messages it was given, and up to which one.
    Column("forked_from_id", Uuid),
    Column("forked_from_sequence", BigInteger),
    # Up to which message some were appended; behind it each has its turn.
    Column("appended_sequence", BigInteger, nullable=False, server_default=text("0")),
    # How many rows of `turn_queue` it has, and a number that rises with each change to them.
    Column("queue_length", Integer, nullable=False, server_default=text("0")),
    Column("queue_number", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("owner_id", "id"),
    postgresql_with={"fillfactor": 80},
)
Index(
    "conversation_recent_idx",
    conversation.c.owner_id,
    conversation.c.update_time.desc(),
    conversation.c.id.desc(),
)

turn = Table(
    "turn",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    Column("request_id", Text),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("agent", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("user_sequence", BigInteger, nullable=False),
    Column("response_sequence", BigInteger),
    Column("context_first_sequence", BigInteger),
    Column("context_message_count", Integer),
    Column("context_omitted_count", BigInteger),
    # Of what the agent was told beside the messages: SHA-256, written with the answer.
    Column("instructions_digest", LargeBinary),
    # When the present attempt began. Null: before there was this column, or none has begun.
    _time("attempt_time", nullable=True),
    # Attempts before the present one, as JSON, at most 20; of a turn that waits or waited, the one
    # that began to wait as well. Null: none.
    Column("attempts", JSONB),
    _time("cancel_requested_time", nullable=True),
    # Of the attempts before the present one, in a row: how many count against the maximum, and
    # how many ended with their worker. The present one counts only once it has ended; -1: it has
    # stored a step, and does not count either.
    Column("spent_attempts", Integer, nullable=False, server_default=text("0")),
    Column("abandoned_attempts", Integer, nullable=False, server_default=text("0")),
    # The present attempt is in `usage_day` already: it had failed, and was taken over to be ended
    # as cancelled.
    Column("is_counted", Boolean, nullable=False, server_default=text("false")),
    # It has a row in `turn_queue`: workers run it without a caller until it has ended.
    Column("is_started", Boolean, nullable=False, server_default=text("false")),
    Column("error_reason", Text),
    Column("error_text", Text),
    _time("create_time"),
    _time("end_time", nullable=True),
    PrimaryKeyConstraint("owner_id", "id"),
    UniqueConstraint("owner_id", "request_id"),
    Index(None, "owner_id", "conversation_id", "user_sequence"),
    postgresql_with={"fillfactor": 80},
)

message = Table(
    "message",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    # The nil UUID for an appended message without one; in a fork, a turn of the original.
    Column("turn_id", Uuid, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("tool_calls", Text),
    Column("usage", Text),
    Column("model", Text),
    Column("finish_reason", Text),
    # What a provider wants back; no RPC shows it.
    Column("opaque_state", LargeBinary),
    _time("create_time"),
    PrimaryKeyConstraint("owner_id", "conversation_id", "sequence"),
)

turn_event = Table(
    "turn_event",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("turn_id", Uuid, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("index", Integer, nullable=False),
    Column("text", Text),
    Column("tool_call", Text),
    PrimaryKeyConstraint("owner_id", "turn_id", "attempt", "index"),
)

# What a turn's attempts have done so far, for the next one to go on from.
turn_step = Table(
    "turn_step",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("turn_id", Uuid, nullable=False),
    # Over all attempts, from 1.
    Column("number", Integer, nullable=False),
    # StepKind
    Column("kind", Text, nullable=False),
    # JSON, which only the agent reads.
    Column("body", Text, nullable=False),
    _time("create_time"),
    PrimaryKeyConstraint("owner_id", "turn_id", "number"),
)

# What turns wait for that need their caller: a row for each that ever waited. Once the turn has
# ended, only what tells a repeated call from another one is left: the columns that are not null.
turn_wait = Table(
    "turn_wait",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("turn_id", Uuid, nullable=False),
    # A JSON object: a digest of what was given, for each call_key.
    Column("digests", Text, nullable=False),
    # Until when it waits, or has waited.
    Column("end_time", DateTime(timezone=True), nullable=False),
    # WaitEnd
    Column("ended_by", Text),
    # A JSON array of the calls that the last run has ended with.
    Column("calls", Text),
    # What was said up to then, as in `message`.
    Column("content", Text),
    Column("tool_calls", Text),
    Column("usage", Text),
    Column("model", Text),
    # A JSON array of the caller's tools.
    Column("tools", Text),
    PrimaryKeyConstraint("owner_id", "turn_id"),
)

# Until when turns wait. Workers look through it for every owner; it holds ids and times.
wait_due = Table(
    "wait_due",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("turn_id", Uuid, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    # Of one that is being ended: when to look whether it was.
    Column("due_time", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("owner_id", "turn_id"),
    Index(None, "due_time"),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
)

conversation_label = Table(
    "conversation_label",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    # The conversation's.
    _time("update_time"),
    PrimaryKeyConstraint("owner_id", "conversation_id", "key"),
)
Index(
    "conversation_label_recent_idx",
    conversation_label.c.owner_id,
    conversation_label.c.key,
    conversation_label.c.value,
    conversation_label.c.update_time.desc(),
    conversation_label.c.conversation_id.desc(),
)

creation = Table(
    "creation",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    PrimaryKeyConstraint("owner_id", "request_id"),
    Index(None, "owner_id", "conversation_id"),
)

# The request ids of AppendMessages, and what was added under each.
addition = Table(
    "addition",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    PrimaryKeyConstraint("owner_id", "request_id"),
    Index(None, "owner_id", "conversation_id"),
)

# What is to be removed, and when. Workers look through it for every owner; it holds ids and times.
deletion = Table(
    "deletion",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    # DeletionStage: what is done when it is due.
    Column("stage", Text, nullable=False),
    _time("due_time"),
    # Of the conversation, for when it is brought back.
    _time("update_time"),
    # Up to which sequence messages are gone.
    Column("reached", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("owner_id", "conversation_id"),
    Index(None, "due_time"),
    # Read again and again, and empty for most of the time.
    postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
)


# Turns that StartTurn has accepted, until they have ended.
turn_queue = Table(
    "turn_queue",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("turn_id", Uuid, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    # The conversation's `queue_number` when it was accepted; 0: in front of all others.
    Column("position", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("expected_sequence", BigInteger),
    # A digest of the owner's tenant, for the feed. Null: no feed is kept.
    Column("tenant", Uuid),
    _time("accept_time"),
    # A JSON array of the caller's tools.
    Column("tools", Text),
    PrimaryKeyConstraint("owner_id", "turn_id"),
    Index(None, "owner_id", "conversation_id", "position"),
)

# Conversations with rows in `turn_queue`, and when to look at each. Workers look through it for
# every owner; it holds ids, numbers and times.
queue_due = Table(
    "queue_due",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    _time("due_time"),
    Column("turns", Integer, nullable=False),
    # When the first of them was accepted.
    _time("accept_time"),
    PrimaryKeyConstraint("owner_id", "conversation_id"),
    Index(None, "due_time"),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


# What attempts used, written by the statements that end them. It outlives their conversations.
usage_day = Table(
    "usage_day",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    # In UTC.
    Column("day", Date, nullable=False),
    Column("agent", Text, nullable=False),
    # Of `labels`, because these may be too long for an index.
    Column("labels_digest", Uuid, nullable=False),
    # So that conversations of one owner seldom wait for each other's row.
    Column("slot", SmallInteger, nullable=False),
    # The conversation's, as they were when an attempt ended.
    Column("labels", Text),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("cached_input_tokens"),
    _count("model_requests"),
    _count("turns"),
    _count("attempts"),
    _count("failed_attempts"),
    PrimaryKeyConstraint("owner_id", "day", "agent", "labels_digest", "slot"),
    # Counts are in no index, so with room left an update stays in its page.
    postgresql_with={"fillfactor": 70},
)

# Receipts. Workers look through those that are not done for every owner; it holds ids, times and
# counts.
erasure = Table(
    "erasure",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    Column("request_id", Text, nullable=False),
    # What was created later stays, but for forks of what was there.
    _time("start_time"),
    # Since when no call finds anything of it.
    _time("hide_time", nullable=True),
    _time("end_time", nullable=True),
    _count("conversations"),
    _count("messages"),
    _count("turns"),
    PrimaryKeyConstraint("owner_id", "request_id"),
)
Index("erasure_running_idx", erasure.c.start_time, postgresql_where=erasure.c.end_time.is_(None))

# Who has conversations, for retention, which looks through it for every owner.
owner = Table(
    "owner",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    # When retention looked last. A new owner has nothing that is old.
    _time("look_time"),
    PrimaryKeyConstraint("owner_id"),
    Index(None, "look_time"),
)

# Attempts that ended, in the order in which a cursor misses none (decision 0030): ids and times.
turn_feed = Table(
    "turn_feed",
    metadata,
    Column("owner_id", Uuid, nullable=False),
    # Of the transaction that ended it.
    Column("xid", BigInteger, nullable=False),
    Column("turn_id", Uuid, nullable=False),
    # A digest of the owner's tenant.
    Column("tenant", Uuid, nullable=False),
    Column("attempt", Integer, nullable=False),
    # Null: the turn was answered, or waits.
    Column("error_reason", Text),
    _time("end_time"),
    # When it was written down, which is later if its worker had died.
    _time("create_time"),
    # The turn was not answered: it waits for its caller.
    Column("is_waiting", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("owner_id", "xid", "turn_id"),
    Index(None, "tenant", "xid", "turn_id"),
    # Rows are only added and removed: without this they would wait long for their first vacuum.
    postgresql_with={"autovacuum_vacuum_insert_scale_factor": 0.05},
)

# What cursors are checked with: one row.
feed_state = Table(
    "feed_state",
    metadata,
    Column("is_only", Boolean, nullable=False, server_default=text("true")),
    # Another one once the database was restored elsewhere: transaction ids begin anew there.
    Column("epoch", Uuid, nullable=False),
    Column("system_identifier", BigInteger),
    # Rows written before are of an earlier epoch.
    _time("begin_time"),
    # Nothing behind this was removed.
    Column("removed_xid", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("is_only"),
)

schema_version = Table(
    "parley_schema",
    metadata,
    # The newest migration applied, and the oldest release, by the number it needs, that it suits.
    Column("version", Integer, nullable=False, primary_key=True, autoincrement=False),
    Column("oldest_worker", Integer, nullable=False),
)
