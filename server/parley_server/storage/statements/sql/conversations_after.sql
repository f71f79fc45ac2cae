-- Read the page of conversations behind a place in that list.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
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
      conversation.lease_expires_at > CURRENT_TIMESTAMP
    )
    THEN conversation.open_turn_id
  END
FROM conversation
WHERE
  conversation.owner_id = :owner
  AND (conversation.update_time, conversation.id) < (:after_time, :after_id)
ORDER BY
  conversation.update_time DESC,
  conversation.id DESC
LIMIT :limit
