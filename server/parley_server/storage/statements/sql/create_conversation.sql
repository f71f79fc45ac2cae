-- Create an empty conversation, unless its id is taken.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :tenant text
-- :user text
-- :title text
-- :labels text
-- :instructions text
-- :agent text

WITH made AS (
  INSERT INTO conversation (
    owner_id,
    id,
    tenant_id,
    user_id,
    title,
    last_sequence,
    preview,
    fence,
    labels,
    instructions,
    agent
  )
  SELECT
    :owner,
    :conversation,
    :tenant,
    :user,
    :title,
    0,
    '',
    0,
    :labels,
    :instructions,
    :agent
  FROM (
    SELECT
      COUNT(*) AS count_1
    FROM conversation
    WHERE
      conversation.owner_id = :owner AND conversation.id = :conversation
  ) AS one_row
  ON CONFLICT (owner_id, id) DO NOTHING
  RETURNING conversation.id, conversation.title, conversation.create_time, conversation.update_time, conversation.last_sequence, conversation.preview, conversation.open_turn_id, conversation.lease_expires_at, conversation.labels, conversation.instructions, conversation.revision, conversation.forked_from_id, conversation.forked_from_sequence, conversation.agent
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
    made.update_time AS update_time
  FROM made
  JOIN LATERAL JSON_EACH_TEXT(CAST(made.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
), noted AS (
  INSERT INTO owner (
    owner_id
  )
  SELECT
    :owner
  FROM made
  ON CONFLICT (owner_id) DO NOTHING
)
SELECT
  made.id,
  made.title,
  made.create_time,
  made.update_time,
  made.last_sequence,
  made.preview,
  CASE
    WHEN (
      made.open_turn_id IS NOT NULL
      AND (
        made.lease_expires_at IS NULL OR made.lease_expires_at > CURRENT_TIMESTAMP
      )
    )
    THEN made.open_turn_id
  END AS open_turn_id,
  made.labels,
  made.instructions AS instructions,
  made.revision,
  made.forked_from_id,
  made.forked_from_sequence,
  made.agent
FROM made
