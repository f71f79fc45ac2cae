-- Read the first page of an owner's conversations, most recently active first.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
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
      conversation.lease_expires_at > CURRENT_TIMESTAMP
    )
    THEN conversation.open_turn_id
  END
FROM conversation
WHERE
  conversation.owner_id = :owner
ORDER BY
  conversation.update_time DESC,
  conversation.id DESC
LIMIT :limit
