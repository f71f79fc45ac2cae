-- CLAIM: Open a turn in a conversation that is there, and take its lease; or say why not.
-- Rendered by `make gen`. DO NOT EDIT.

WITH held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time
  FROM conversation
  WHERE
    conversation.owner_id = %(owner)s AND conversation.id = %(conversation)s   FOR NO KEY UPDATE
), opened AS (
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
    %(turn)s AS anon_2,
    %(conversation)s AS anon_3,
    %(request)s AS anon_4,
    CAST(%(fingerprint)s AS BYTEA) AS anon_5,
    %(agent)s AS anon_6,
    'RUNNING',
    1,
    held.last_sequence + 1 AS anon_7
  FROM held
  WHERE
    (
      held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP
    )
    AND (
      %(expected)s IS NULL OR held.last_sequence = %(expected)s
    ) ON CONFLICT(owner_id, request_id) DO NOTHING
  RETURNING turn.id, turn.user_sequence
), overrun AS (
  UPDATE turn SET state = 'FAILED', error_reason = 'TURN_ABANDONED', error_text = 'the worker that ran the turn went away', end_time = held.lease_expires_at
  FROM opened, held
  WHERE
    turn.owner_id = %(owner)s
    AND turn.id = (
      SELECT
        held.open_turn_id
      FROM held
    )
    AND opened.id <> turn.id
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
    %(conversation)s AS anon_3,
    opened.user_sequence AS user_sequence,
    opened.id AS id,
    'USER',
    %(content)s AS anon_8
  FROM opened
), taken AS (
  UPDATE conversation SET last_sequence = opened.user_sequence, preview = %(preview)s, fence = (
    conversation.fence + 1
  ), open_turn_id = opened.id, lease_expires_at = (
    CURRENT_TIMESTAMP + CAST(%(lease)s AS INTERVAL)
  ), update_time = CURRENT_TIMESTAMP
  FROM opened
  WHERE
    conversation.owner_id = %(owner)s
    AND conversation.id = %(conversation)s
    AND opened.id = %(turn)s
)
SELECT
  opened.user_sequence,
  held.last_sequence,
  held.fence,
  held.open_turn_id,
  held.lease_expires_at,
  held.update_time,
  held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP AS anon_9
FROM held
LEFT OUTER JOIN opened
  ON TRUE;
