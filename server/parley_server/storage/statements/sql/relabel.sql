-- Write a conversation's labels for lists.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid

WITH present AS (
  SELECT
    conversation.labels AS labels,
    conversation.update_time AS update_time
  FROM conversation
  WHERE
    conversation.owner_id = :owner AND conversation.id = :conversation
), removed AS (
  DELETE FROM conversation_label
  WHERE
    conversation_label.owner_id = :owner
    AND conversation_label.conversation_id = :conversation
    AND (
      NOT conversation_label.key IN (
        SELECT
          kept.key
        FROM present
        JOIN LATERAL JSON_EACH_TEXT(CAST(present.labels AS JSON)) AS kept
          ON TRUE
      )
    )
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
    present.update_time AS update_time
  FROM present
  JOIN LATERAL JSON_EACH_TEXT(CAST(present.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
)
SELECT
  COUNT(*) AS count_1
FROM present
