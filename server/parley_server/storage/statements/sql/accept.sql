-- Store a turn to be run later, in a conversation that is there, unless the queue is full.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :max_queued integer
-- :turn uuid
-- :request text
-- :fingerprint bytea
-- :agent text
-- :content text
-- :expected bigint
-- :feed uuid
-- :tools text

WITH held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time,
    conversation.instructions AS instructions,
    conversation.agent AS agent,
    conversation.labels AS labels,
    conversation.queue_length AS queue_length,
    conversation.queue_number AS queue_number
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE
), queued_turns AS (
  SELECT
    SUM(queue_due.turns) AS length
  FROM queue_due
  WHERE
    queue_due.owner_id = :owner AND :max_queued IS NOT NULL
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
    user_sequence,
    is_started
  )
  SELECT
    :owner,
    :turn,
    :conversation,
    :request,
    :fingerprint,
    :agent,
    'QUEUED',
    0,
    0,
    TRUE
  FROM held
  WHERE
    COALESCE((
      SELECT
        queued_turns.length
      FROM queued_turns
    ) < :max_queued, TRUE) ON CONFLICT DO NOTHING
  RETURNING turn.id
), noted AS (
  UPDATE conversation SET queue_length = (
    conversation.queue_length + 1
  ), queue_number = (
    conversation.queue_number + 1
  )
  FROM opened
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND opened.id = :turn
), queued AS (
  INSERT INTO turn_queue (
    owner_id,
    turn_id,
    conversation_id,
    position,
    message,
    expected_sequence,
    tenant,
    tools
  )
  SELECT
    :owner,
    opened.id AS id,
    :conversation,
    (
      SELECT
        held.queue_number + 1
      FROM held
    ),
    :content,
    :expected,
    :feed,
    :tools
  FROM opened
), due AS (
  INSERT INTO queue_due (
    owner_id,
    conversation_id,
    turns
  )
  SELECT
    :owner,
    :conversation,
    1
  FROM opened
  ON CONFLICT (owner_id, conversation_id) DO UPDATE SET turns = (
    queue_due.turns + 1
  )
)
SELECT
  (
    SELECT
      opened.id
    FROM opened
  ) AS id,
  (
    SELECT
      queued_turns.length
    FROM queued_turns
  ) AS queued,
  CURRENT_TIMESTAMP AS create_time,
  held.last_sequence AS last_sequence,
  held.fence AS fence
FROM held
