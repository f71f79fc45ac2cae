-- Store a turn to be run later, in a conversation that this statement creates.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :max_queued integer
-- :turn uuid
-- :conversation uuid
-- :request text
-- :fingerprint bytea
-- :agent text
-- :tenant text
-- :user text
-- :content text
-- :expected bigint
-- :feed uuid
-- :tools text

WITH queued_turns AS (
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
  FROM (
    SELECT
      COUNT(*) AS count_1
    FROM conversation
    WHERE
      conversation.owner_id = :owner AND conversation.id = :conversation
  ) AS one_row
  WHERE
    COALESCE((
      SELECT
        queued_turns.length
      FROM queued_turns
    ) < :max_queued, TRUE) ON CONFLICT DO NOTHING
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
    queue_length,
    queue_number
  )
  SELECT
    :owner,
    :conversation,
    :tenant,
    :user,
    '',
    0,
    '',
    0,
    1,
    1
  FROM opened
), noted AS (
  INSERT INTO owner (
    owner_id
  )
  SELECT
    :owner
  FROM opened
  ON CONFLICT (owner_id) DO NOTHING
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
    1,
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
  0 AS last_sequence,
  0 AS fence
FROM (
  SELECT
    COUNT(*) AS count_1
  FROM conversation
  WHERE
    conversation.owner_id = :owner AND conversation.id = :conversation
) AS one_row
