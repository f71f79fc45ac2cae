-- Open a turn in a conversation that is there, and take its lease; or say why not.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid
-- :request text
-- :fingerprint bytea
-- :agent text
-- :expected bigint
-- :content text
-- :title text
-- :preview text
-- :lease interval

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
    attempt_time
  )
  SELECT
    :owner,
    :turn,
    :conversation,
    :request,
    :fingerprint,
    COALESCE(NULLIF(:agent, ''), held.agent, '') AS agent,
    'RUNNING',
    1,
    held.last_sequence + 1,
    CURRENT_TIMESTAMP AS now_1
  FROM held
  WHERE
    held.open_turn_id IS NULL
    AND held.queue_length = 0
    AND (
      :expected IS NULL OR held.last_sequence = :expected
    )
  ON CONFLICT (owner_id, request_id) DO NOTHING
  RETURNING turn.id, turn.user_sequence, turn.agent
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
    :owner,
    :conversation,
    opened.user_sequence AS user_sequence,
    opened.id AS id,
    'USER',
    :content
  FROM opened
), taken AS (
  UPDATE conversation SET title = CASE
    WHEN (
      conversation.last_sequence = 0 AND conversation.title = ''
    )
    THEN :title
    ELSE conversation.title
  END, last_sequence = opened.user_sequence, preview = :preview, fence = (
    conversation.fence + 1
  ), open_turn_id = opened.id, lease_expires_at = (
    CURRENT_TIMESTAMP + :lease
  ), update_time = CURRENT_TIMESTAMP
  FROM opened
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND opened.id = :turn
  RETURNING conversation.labels
), labelled AS (
  INSERT INTO conversation_label (
    owner_id,
    conversation_id,
    key,
    value,
    update_time
  )
  SELECT
    :owner,
    :conversation,
    pairs.key AS key,
    pairs.value AS value,
    CURRENT_TIMESTAMP AS now_2
  FROM taken
  JOIN LATERAL JSON_EACH_TEXT(CAST(taken.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
)
SELECT
  opened.user_sequence,
  held.last_sequence,
  held.fence,
  held.open_turn_id,
  held.lease_expires_at,
  held.update_time,
  (
    held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP
  )
  AND held.queue_length = 0 AS is_free,
  held.queue_length,
  held.instructions,
  opened.agent
FROM held
LEFT OUTER JOIN opened
  ON TRUE
