-- Read a page of an owner's conversations, most recently active first.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :updated_after timestamp with time zone
-- :after_time timestamp with time zone
-- :after_id uuid
-- :limit integer

SELECT
  conversation.id,
  conversation.title,
  conversation.create_time,
  conversation.update_time,
  conversation.last_sequence,
  conversation.preview,
  CASE
    WHEN (
      conversation.open_turn_id IS NOT NULL
      AND (
        conversation.lease_expires_at IS NULL
        OR conversation.lease_expires_at > CURRENT_TIMESTAMP
      )
    )
    THEN conversation.open_turn_id
  END AS open_turn_id,
  conversation.labels,
  NULL AS instructions,
  conversation.revision,
  conversation.forked_from_id,
  conversation.forked_from_sequence,
  conversation.agent
FROM conversation
WHERE
  conversation.owner_id = :owner
  AND conversation.delete_time IS NULL
  AND conversation.update_time > COALESCE(:updated_after, CAST('epoch' AS TIMESTAMPTZ))
  AND (conversation.update_time, conversation.id) < (
    COALESCE(:after_time, CAST('infinity' AS TIMESTAMPTZ)),
    COALESCE(:after_id, CAST('ffffffff-ffff-ffff-ffff-ffffffffffff' AS UUID))
  )
ORDER BY
  conversation.update_time DESC,
  conversation.id DESC
LIMIT :limit
