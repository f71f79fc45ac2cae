-- CLAIM_NEW: Open the first turn of a conversation that this statement creates.
-- Rendered by `make gen`. DO NOT EDIT.

WITH opened AS (
  INSERT INTO turn (
    owner_id,
    id,
    conversation_id,
    request_id,
    fingerprint,
    agent,
    state,
    attempt,
    user_sequence
  )
  SELECT
    %(owner)s AS anon_1,
    %(turn)s AS anon_8,
    %(conversation)s AS anon_2,
    %(request)s AS anon_9,
    CAST(%(fingerprint)s AS BYTEA) AS anon_10,
    %(agent)s AS anon_11,
    'RUNNING',
    1,
    1 ON CONFLICT(owner_id, request_id) DO NOTHING
  RETURNING turn.id
), created AS (
  INSERT INTO conversation (
    owner_id,
    id,
    tenant_id,
    user_id,
    title,
    last_sequence,
    preview,
    fence,
    open_turn_id,
    lease_expires_at
  )
  SELECT
    %(owner)s AS anon_1,
    %(conversation)s AS anon_2,
    %(tenant)s AS anon_3,
    %(user)s AS anon_4,
    %(title)s AS anon_5,
    1,
    %(preview)s AS anon_6,
    1,
    opened.id AS id,
    CURRENT_TIMESTAMP + CAST(%(lease)s AS INTERVAL) AS anon_7
  FROM opened
), said AS (
  INSERT INTO message (
    owner_id,
    conversation_id,
    sequence,
    turn_id,
    role,
    content
  )
  SELECT
    %(owner)s AS anon_1,
    %(conversation)s AS anon_2,
    1,
    opened.id AS id,
    'USER',
    %(content)s AS anon_12
  FROM opened
)
SELECT
  opened.id
FROM opened;
