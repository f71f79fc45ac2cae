-- Bring back a deleted conversation of which nothing is removed yet.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid

WITH kept AS (
  DELETE FROM deletion
  WHERE
    deletion.owner_id = :owner
    AND deletion.conversation_id = :conversation
    AND deletion.stage = 'TRASHED'
    AND deletion.due_time > CURRENT_TIMESTAMP
    AND NOT (
      EXISTS(
        SELECT
          turn_queue.turn_id
        FROM turn_queue
        WHERE
          turn_queue.owner_id = :owner AND turn_queue.conversation_id = :conversation
      )
    )
  RETURNING deletion.update_time
), back AS (
  UPDATE conversation SET update_time = kept.update_time, delete_time = NULL
  FROM kept
  WHERE
    conversation.owner_id = :owner AND conversation.id = :conversation
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
    back.update_time AS update_time
  FROM back
  JOIN LATERAL JSON_EACH_TEXT(CAST(back.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
)
SELECT
  back.id,
  back.title,
  back.create_time,
  back.update_time,
  back.last_sequence,
  back.preview,
  CASE
    WHEN (
      back.open_turn_id IS NOT NULL
      AND (
        back.lease_expires_at IS NULL OR back.lease_expires_at > CURRENT_TIMESTAMP
      )
    )
    THEN back.open_turn_id
  END AS open_turn_id,
  back.labels,
  back.instructions AS instructions,
  back.revision,
  back.forked_from_id,
  back.forked_from_sequence,
  back.agent
FROM back
